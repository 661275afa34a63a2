"""Signed notes: one published example, and everything that must not open."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.errors import EvidenceError, InputError
from expunge.evidence.keys import Root, TrustRoots, keyid_of
from expunge.evidence.merkle import EMPTY_ROOT
from expunge.evidence.note import Checkpoint, open_checkpoint, open_note, parse_checkpoint, sign_note
from expunge.evidence.signers.file import FileSigner

# The example in the documentation of golang.org/x/mod/sumdb/note, where the format comes from.
PUBLISHED = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
PUBLISHED_KEY = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]


def root_for(public: bytes, name: str = "log") -> Root:
    return Root(name=name, role="log", keyid=keyid_of(public), public=base64.b64encode(public).decode())


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return FileSigner.create(tmp_path / "log.pem")


@pytest.fixture
def roots(signer: FileSigner) -> TrustRoots:
    return TrustRoots(keys=(Root.of(signer, name="the log", role="log"),))


def checkpoint_note(signer: FileSigner, size: int = 3) -> str:
    return sign_note(
        Checkpoint(origin="log.example", size=size, root=EMPTY_ROOT).text, name="log.example", signer=signer
    )


def test_published_example_opens() -> None:
    opened = open_note(PUBLISHED, [root_for(PUBLISHED_KEY)])
    assert opened.text == PUBLISHED.split("\n\n")[0] + "\n"
    assert opened.signers[0][0] == "PeterNeumann"


def test_checkpoint_round_trip(signer: FileSigner, roots: TrustRoots) -> None:
    checkpoint = open_checkpoint(checkpoint_note(signer), roots)
    assert checkpoint == Checkpoint(origin="log.example", size=3, root=EMPTY_ROOT)


def test_every_changed_character_of_the_text_is_found(signer: FileSigner, roots: TrustRoots) -> None:
    note = checkpoint_note(signer)
    end = note.index("\n\n")
    for position in range(end):
        changed = note[:position] + chr(ord(note[position]) ^ 1) + note[position + 1 :]
        with pytest.raises(EvidenceError):
            open_checkpoint(changed, roots)


def test_note_by_a_stranger_is_refused(tmp_path: Path, roots: TrustRoots) -> None:
    stranger = FileSigner.create(tmp_path / "stranger.pem")
    with pytest.raises(EvidenceError, match="no trusted key"):
        open_note(checkpoint_note(stranger), roots)


def test_empty_roots_open_nothing(signer: FileSigner) -> None:
    with pytest.raises(EvidenceError, match="no trusted key"):
        open_note(checkpoint_note(signer), TrustRoots(keys=()))


def test_signature_borrowed_from_another_note_is_refused(signer: FileSigner, roots: TrustRoots) -> None:
    first, second = checkpoint_note(signer, 3), checkpoint_note(signer, 4)
    mixed = first.split("\n\n")[0] + "\n\n" + second.split("\n\n")[1]
    with pytest.raises(EvidenceError, match="is wrong"):
        open_note(mixed, roots)


def test_unknown_cosignatures_are_skipped_and_known_ones_kept(
    tmp_path: Path, signer: FileSigner, roots: TrustRoots
) -> None:
    witness = FileSigner.create(tmp_path / "witness.pem")
    note = checkpoint_note(signer)
    text = note.split("\n\n")[0] + "\n"
    both = note + sign_note(text, name="witness", signer=witness).split("\n\n")[1]
    assert [name for name, _ in open_note(both, roots).signers] == ["log.example"]


def test_checkpoint_signed_under_another_name_is_refused(signer: FileSigner, roots: TrustRoots) -> None:
    note = sign_note(Checkpoint(origin="log.example", size=1, root=EMPTY_ROOT).text, name="other", signer=signer)
    with pytest.raises(EvidenceError, match="log's name"):
        open_checkpoint(note, roots)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n1\n",
        "origin\n01\n" + base64.b64encode(EMPTY_ROOT).decode() + "\n",
        "origin\n-1\n" + base64.b64encode(EMPTY_ROOT).decode() + "\n",
        "origin\n1e3\n" + base64.b64encode(EMPTY_ROOT).decode() + "\n",
        "\n1\n" + base64.b64encode(EMPTY_ROOT).decode() + "\n",
        "origin\n1\n" + base64.b64encode(EMPTY_ROOT[:31]).decode() + "\n",
        "origin\n1\nnot base64\n",
        "origin\n1\n" + base64.b64encode(EMPTY_ROOT).decode() + "\nextension\n",
    ],
)
def test_malformed_checkpoints_do_not_parse(text: str) -> None:
    with pytest.raises(EvidenceError):
        parse_checkpoint(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_names_that_would_break_the_line_format(name: str, signer: FileSigner) -> None:
    with pytest.raises(InputError):
        sign_note("x\n", name=name, signer=signer)


@pytest.mark.parametrize("text", ["no end of line", "control\x07\n", "tab\t\n"])
def test_texts_that_are_not_notes_are_not_signed(text: str, signer: FileSigner) -> None:
    with pytest.raises(InputError):
        sign_note(text, name="n", signer=signer)


@given(st.text(max_size=200) | st.from_regex(r"a\n\n— b [A-Za-z0-9+/]{8,96}={0,2}\n", fullmatch=True))
def test_fuzzed_notes_never_crash_and_never_open(text: str) -> None:
    with pytest.raises(EvidenceError):
        open_note(text, [root_for(PUBLISHED_KEY)])
