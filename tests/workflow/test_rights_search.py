"""Were the works in the data? Planted copies are found, strangers are not, hostile uploads are refused with nothing logged."""

import hashlib
import io
import json
import os
import shutil
import struct
import zlib
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from expunge import Workspace
from expunge.apps.cli.main import app
from expunge.core.errors import DataError, Held, InputError, InputProblems, IntegrityError
from expunge.workflow.rights import desk, searching
from expunge.workflow.rights.jurisdictions import default_jurisdictions
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.search_words import words_of
from picture_files import untrained, write_folder
from pictures import pictures
from rights import RECORD

POLICY, BOOK = default_rights_policy(), default_jurisdictions()
SIZE, SIDE = 32, 48
FACTS = f'authority: {{kind: author, state: proven, record: "{RECORD}"}}\n'
MEASURED = f"{FACTS}copies: {{found: 0, draws: 300}}\nopt_out: {{reserved: 0, unknown: 0}}\n"
NOT_LEARNED = "learned: {verdict: PASS, rate: 0.0, at_most: 0.01}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """24 works of three artists, 12 of them the claimant's for all that the desk knows; no model."""
    folder = tmp_path_factory.mktemp("searched")
    write_folder(folder / "works", works=8, side=SIDE)
    untrained(folder / "ws", size=SIZE).close()
    return folder


@pytest.fixture
def ws(made, tmp_path):
    with Workspace.open(shutil.copytree(made, tmp_path / "made") / "ws") as opened:
        yield opened


def source(ws, name):
    return ws.root.parent / "works" / "train" / name


def saved(image, kind="PNG", **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def upload(tmp_path, files):
    folder = tmp_path / "upload"
    folder.mkdir()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return folder


def asked(ws, files, extra=()):
    """A letter that lists these works, and others that are not brought."""
    works = [hashlib.sha256(raw).hexdigest() for raw in files.values()]
    text = (
        "claimant: Nell Kavrin\nauthority: author\nnames: [Nell Kavrin]\njurisdiction: DE\nbasis: copyright\n"
        f"remedies: [stop_training]\nworks: {json.dumps([*works, *extra])}\n"
    )
    return desk.receive(ws, text, POLICY, BOOK, datetime.now(UTC)).request


def searched(ws, tmp_path, files, extra=(), **more):
    handle = asked(ws, files, extra)
    return handle, searching.search(ws, handle, upload(tmp_path, files), POLICY, **more)


def copies_of(ws):
    """Ways in which a work can be in the data, each after another record."""
    names = [source(ws, f"{number:03d}.png") for number in range(5)]
    images = [Image.open(name).convert("RGB") for name in names]
    cut = images[3].crop((2, 2, SIDE - 2, SIDE - 2)).resize((SIDE, SIDE))
    return {
        "exact.png": names[0].read_bytes(),
        "same pixels.bmp": saved(images[1], "BMP"),
        "again.jpg": saved(images[2], "JPEG", quality=80),
        "cut.jpg": saved(cut, "JPEG", quality=90),
        "large.png": saved(images[4].resize((3 * SIDE, 3 * SIDE), Image.Resampling.BICUBIC)),
    }


def strangers(count=5):
    return {f"own {n}.png": saved(Image.fromarray(image)) for n, image in enumerate(pictures(count, SIDE, seed=77))}


def test_planted_copies_are_found_each_by_the_search_that_finds_its_kind(ws, tmp_path):
    files = copies_of(ws)
    _, found = searched(ws, tmp_path, files)
    rows = {one.work: one for one in found.works}
    by_name = {name: rows[hashlib.sha256(raw).hexdigest()] for name, raw in files.items()}
    expected = {name: f"train/{number:03d}.png" for number, name in enumerate(files)}
    assert {name: sorted(one.records) for name, one in by_name.items()} == {k: [v] for k, v in expected.items()}
    assert by_name["exact.png"].file == by_name["exact.png"].pixels == ("train/000.png",)
    assert by_name["same pixels.bmp"].file == ()
    assert by_name["same pixels.bmp"].pixels == ("train/001.png",)
    assert all(by_name[name].near and not by_name[name].pixels for name in ("again.jpg", "cut.jpg", "large.png"))
    counts = found.counts
    assert (counts.file, counts.pixels, counts.near, counts.missed, counts.present) == (1, 1, 3, 0, 5)
    assert counts.beside == 24, "all three artists stand over one of the five"


def test_unrelated_pictures_are_not_found_and_the_words_say_by_what(ws, tmp_path):
    handle, found = searched(ws, tmp_path, strangers())
    assert (found.counts.missed, found.counts.present) == (5, 0)
    assert found.counts.planted[0] >= 54, "altered copies of them would have been"
    text = "\n".join(words_of(found, POLICY.limits))
    assert "5 not found by these searches" in text
    assert "not say that it was never in the data" in text
    assert "embedding: not searched" in text
    assert "arXiv 2410.15002" in text
    assert desk.decide(ws, handle, MEASURED + NOT_LEARNED, POLICY, BOOK, reviewer="Rita").ground.value == "not_present"


def test_a_wide_work_of_which_only_one_end_was_trained_on_is_found(ws, tmp_path):
    image = np.array(Image.open(source(ws, "006.png")).convert("RGB"))
    other = pictures(1, SIDE, seed=5)[0]
    wide = saved(Image.fromarray(np.concatenate([image, other], axis=1)))
    _, found = searched(ws, tmp_path, {"wide.png": wide})
    assert found.works[0].records == {"train/006.png"}


class Colours:
    """An embedding of its own: the mean colour of each quarter."""

    def of(self, images):
        half = images.shape[1] // 2
        return images.reshape(len(images), 2, half, 2, half, 3).mean((2, 4)).reshape(len(images), -1) - 128.0


def test_a_vision_model_of_the_owners_is_a_further_vote_and_alone_decides_nothing(ws, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "open_embedding", lambda folder: Colours())
    image = np.array(Image.open(source(ws, "000.png")).convert("RGB"))
    upside = {"turned.png": saved(Image.fromarray(np.roll(image[::-1], SIDE // 2, axis=0)))}
    _, found = searched(ws, tmp_path, {**copies_of(ws), **upside}, embedder=tmp_path)
    assert found.counts.by[-1] == "embedding"
    assert (found.counts.present, found.counts.missed) == (5, 1)
    assert "alone it decides nothing" in "\n".join(words_of(found, POLICY.limits))


def test_a_work_that_was_erased_is_found_in_its_empty_place_and_not_as_present(ws, tmp_path):
    files = {"erased.png": source(ws, "002.png").read_bytes(), "left.png": source(ws, "003.png").read_bytes()}
    ws.book.erased([2]).save(ws.slots_file)
    ws.reread()
    _, found = searched(ws, tmp_path, files)
    rows = {one.work: one for one in found.works}
    gone, left = (rows[hashlib.sha256(raw).hexdigest()] for raw in files.values())
    assert (gone.erased, gone.records) == ((2,), frozenset())
    assert (left.erased, left.records) == ((), {"train/003.png"})
    assert (found.counts.erased, found.counts.present, found.counts.records) == (1, 1, 23)
    assert "which is empty now" in "\n".join(words_of(found, POLICY.limits))


def test_attack_a_file_that_was_exchanged_in_the_source_does_not_hide_what_the_manifest_committed_to(ws, tmp_path):
    mine = source(ws, "001.png").read_bytes()
    source(ws, "001.png").write_bytes(saved(Image.fromarray(pictures(1, SIDE, seed=9)[0])))
    from expunge.farm.opened import forget

    forget()
    ws.reread()
    _, found = searched(ws, tmp_path, {"mine.png": mine})
    forget()
    assert found.works[0].records == {"train/001.png"}


def test_the_decision_cites_the_search_and_nobody_types_in_another(ws, tmp_path):
    handle, found = searched(ws, tmp_path, copies_of(ws))
    typed = "works: {listed: 5, present: 0, searched: 24, records: 24, by: [sha256]}\n"
    with pytest.raises(InputProblems, match="leave them out"):
        desk.decide(ws, handle, MEASURED + NOT_LEARNED + typed, POLICY, BOOK, reviewer="Rita")
    decision = desk.decide(ws, handle, MEASURED + NOT_LEARNED, POLICY, BOOK, reviewer="Rita")
    assert decision.action.value == "not_learned", "works are there, so nobody is told that there are none"
    assert f"by entry {found.entry} of the log" in decision.measurements["works"]
    logged = [entry for entry in ws.log.case(handle) if entry.kind == "rights.decided"][-1]
    assert logged.payload["cites"]["works"] == found.entry


def test_attack_a_number_of_an_entry_is_not_typed_in(ws):
    handle = asked(ws, strangers(1))
    typed = "works: {listed: 1, present: 0, searched: 24, records: 24, by: [sha256], entry: 1}\n"
    with pytest.raises(InputProblems, match="the log says which entry"):
        desk.decide(ws, handle, MEASURED + NOT_LEARNED + typed, POLICY, BOOK, reviewer="Rita")
    said = desk.decide(ws, handle, MEASURED + NOT_LEARNED + typed.replace(", entry: 1", ""), POLICY, BOOK, reviewer="R")
    assert "as typed in at the desk" in said.measurements["works"]


def test_attack_works_that_were_not_brought_are_not_said_to_be_missing(ws, tmp_path):
    """A search for two of three works finds nothing, and the third is in the data."""
    handle, found = searched(ws, tmp_path, strangers(2), extra=["ab" * 32])
    assert (found.counts.listed, found.counts.brought, found.counts.present) == (3, 2, 0)
    decision = desk.decide(ws, handle, MEASURED + NOT_LEARNED, POLICY, BOOK, reviewer="Rita")
    assert (decision.action.value, decision.ground.value) == ("legal_hold", "unmeasured")
    assert "1 of the works were not brought" in decision.measurements["works"]


def test_attack_searching_again_with_less_does_not_undo_what_was_found(ws, tmp_path):
    files = copies_of(ws)
    handle, first = searched(ws, tmp_path, {**files, **strangers(1)})
    shutil.rmtree(tmp_path / "upload")
    again = searching.search(ws, handle, upload(tmp_path, strangers(1)), POLICY)
    assert (again.counts.present, again.entry > first.entry) == (0, True)
    assert searching.works_of(ws, handle).entry == first.entry


def test_attack_searching_for_other_files_than_the_letter_lists_is_refused(ws, tmp_path):
    handle, size = asked(ws, strangers(1)), ws.log.size + 0
    with pytest.raises(InputProblems, match="none of the works that the letter lists"):
        searching.search(ws, handle, upload(tmp_path, {"other.png": copies_of(ws)["cut.jpg"]}), POLICY)
    assert ws.log.size == size


def test_a_search_of_other_data_than_there_is_now_is_no_fact(ws, tmp_path):
    handle, _ = searched(ws, tmp_path, strangers(1))
    assert searching.works_of(ws, handle) is not None
    assert desk.standing(ws, handle, datetime.now(UTC)).state == "received", "a measurement moves no request"
    ws.book.erased([2]).save(ws.slots_file)
    ws.reread()
    assert searching.works_of(ws, handle) is None
    assert desk.decide(ws, handle, MEASURED, POLICY, BOOK, reviewer="Rita").ground.value == "unmeasured"


def bomb(side):
    """A PNG whose header promises side x side pixels, of a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("raw", [bomb(30_000), b"<svg/>", b"\x80\x04K\x01.", b""])
def test_attack_bombs_and_what_is_no_picture_are_refused_and_nothing_is_logged(ws, tmp_path, raw):
    handle, size = asked(ws, {"x": raw}), ws.log.size + 0
    with pytest.raises(DataError, match=r"too many pixels|is no picture"):
        searching.search(ws, handle, upload(tmp_path, {"x": raw}), POLICY)
    assert ws.log.size == size


def test_attack_links_pipes_and_crowds_are_refused_all_at_once(ws, tmp_path):
    handle, folder = asked(ws, strangers(1)), upload(tmp_path, strangers(1))
    (folder / "secret.png").symlink_to(ws.root / "keys" / "data.key")
    (folder / "in").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(InputProblems) as refused:
        searching.search(ws, handle, folder, POLICY)
    assert all(word in str(refused.value) for word in ("secret.png is a link", "in is a link", "pipe.png is no plain"))
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    with pytest.raises(InputProblems, match="no folder, or a link"):
        searching.search(ws, handle, linked, POLICY)


def test_a_name_cannot_write_on_the_terminal(ws, tmp_path):
    name = "\x1b[2J\nnot found.png"
    handle = asked(ws, strangers(1))
    with pytest.raises(InputProblems) as refused:
        searching.search(ws, handle, upload(tmp_path, {name: b"x"}), POLICY)
    assert "\x1b" not in str(refused.value)
    assert r"\x1b[2J\nnot found.png" in str(refused.value)


def test_a_search_for_nothing_is_refused(ws, tmp_path):
    handle, size = asked(ws, strangers(1)), ws.log.size + 0
    with pytest.raises(InputProblems, match="it is empty"):
        searching.search(ws, handle, upload(tmp_path, {}), POLICY)
    with pytest.raises(InputError, match="no such request"):
        searching.search(ws, "rights-0000", tmp_path / "upload", POLICY)
    assert ws.log.size == size


def test_the_log_has_counts_and_no_name_of_anything(ws, tmp_path):
    handle, found = searched(ws, tmp_path, copies_of(ws))
    raw = b"".join(file.read_bytes() for file in ws.root.glob("log.db*"))
    for secret in (b"Kavrin", b"train/000.png", b"exact.png", found.works[0].work.encode(), b"Ada Amber"):
        assert secret not in raw
    entry = ws.log.entry(found.entry)
    assert searching.findings(ws, handle, entry) == found.works
    (file,) = desk.private(ws, handle).glob("search-*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(file.read_bytes().replace(b"train/000", b"train/007"))
    with pytest.raises(IntegrityError, match="not those of the search"):
        searching.findings(ws, handle, entry)


def test_the_story_of_a_search_through_the_verbs(ws, tmp_path):
    """Letter, search, decision: the facts have no word of the works, and the letter has the search's."""
    root, files = ws.root, copies_of(ws)
    ws.close()
    works = json.dumps([hashlib.sha256(raw).hexdigest() for raw in files.values()])
    (tmp_path / "letter.yaml").write_text(
        f"claimant: Nell Kavrin\nauthority: author\nnames: [Nell Kavrin]\njurisdiction: DE\nbasis: copyright\n"
        f"remedies: [stop_training]\nworks: {works}\n"
    )
    (tmp_path / "facts.yaml").write_text(MEASURED)

    def verb(*arguments):
        return CliRunner().invoke(app, ["rights", *map(str, arguments), "-w", str(root)])

    handle = json.loads(verb("intake", tmp_path / "letter.yaml", "--json").stdout)["request"]["request"]
    assert isinstance(verb("decide", handle, tmp_path / "facts.yaml", "--reviewer", "Rita").exception, Held)
    said = verb("search", handle, upload(tmp_path, files))
    assert said.exit_code == 0, said.output
    assert "1 found as the same file" in said.stdout
    assert "5 training records are one of the works: below the threshold" in said.stdout
    decided = verb("decide", handle, tmp_path / "facts.yaml", "--reviewer", "Rita", "--json")
    assert json.loads(decided.stdout)["decision"]["ground"] == "below_threshold"
    assert "by entry" in (root / "cases" / handle / "letter.txt").read_text()
