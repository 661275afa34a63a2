"""The certificate bundle: one zip with everything a stranger needs to check it offline.

    certificate.json  DSSE envelope          log.json        the case's entries with inclusion proofs
    checkpoint.txt    C2SP signed checkpoint plan.json, findings.json, absence.json, selftest.json
    report.html, figures/*.svg               verify.py, README.txt

Written with fixed timestamps, sorted and uncompressed, so the same case gives the same bytes on every machine. Read as
if an enemy had written it: names from a closed list, bounded sizes and ratio, no links, nothing twice.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.core.codec import Json, canonical, decode, encode, loads, sha256_hex
from expunge.core.errors import EvidenceError, InputError, InputProblems
from expunge.evidence.absence import DeletionProof
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.envelope import payload_of
from expunge.evidence.log_entry import Entry, body_problem
from expunge.evidence.merkle import ConsistencyProof, InclusionProof
from expunge.evidence.statement import parse_statement

CERTIFICATE, LOG, CHECKPOINT = "certificate.json", "log.json", "checkpoint.txt"
PROVE_THEMSELVES = frozenset({CERTIFICATE, LOG, CHECKPOINT})
REQUIRED = frozenset({"plan.json", "findings.json", "absence.json"})
OWN = frozenset({"verify.py", "README.txt"})
_FIGURE = re.compile(r"figures/[a-z0-9][a-z0-9_-]{0,63}\.svg\Z")
SELFTEST = "selftest.json"
_PLAIN = PROVE_THEMSELVES | REQUIRED | OWN | {"report.html", SELFTEST}

MAX_FILES = 200
MAX_ARCHIVE_BYTES = 64 << 20
MAX_FILE_BYTES = 32 << 20
MAX_TOTAL_BYTES = 128 << 20
MAX_RATIO = 100
_EPOCH = (1980, 1, 1, 0, 0, 0)

README = """\
This is an expunge certificate bundle. It says what was done about a deletion request, and lets you check it offline.

    expunge verify BUNDLE.zip --trust ROOTS.json --policy POLICY.yaml --against RECEIPT

ROOTS.json holds the issuer's public keys; get it from a channel you trust, never from whoever gave you the bundle.
POLICY.yaml is yours. RECEIPT is the checkpoint you were given when the request came in, if you have one.

verify.py checks the same with Python and `pip install cryptography` alone. A verifier that comes with the evidence
counts only if you know where it comes from: compare it with the one in an expunge release before you run it.
Nothing in this bundle holds the deleted data, record ids or scores of single records.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """A log entry as the bundle carries it: `path` proves it is in the tree of the checkpoint's size."""

    index: int
    body: Mapping[str, Any]
    path: tuple[str, ...]

    def entry(self) -> Entry:
        """The entry without its proof."""
        return Entry(index=self.index, body=self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogExtract:
    """log.json: entries in order of index, and consistency proofs from older checkpoints to this size."""

    v: int
    origin: str
    size: int
    entries: tuple[LoggedEntry, ...]
    consistency: tuple[ConsistencyProof, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Files of a bundle by name, as read: bounded and well-named, and nothing more is known about them."""

    files: Mapping[str, bytes]

    def json(self, name: str) -> Json:
        """A file as strict JSON in canonical form. Raises EvidenceError."""
        try:
            plain = loads(self.files[name], what=name)
            exact = canonical(plain) == self.files[name]
        except InputError as error:
            raise EvidenceError(f"{name} does not parse", got=error.got) from error
        if not exact:
            raise EvidenceError(f"{name} is not canonical JSON", hint="it was rewritten after it was issued")
        return plain

    def log(self) -> LogExtract:
        """log.json, checked for form and order. Raises EvidenceError or InputProblems."""
        extract = decode(LogExtract, self.json(LOG), what=LOG)
        indices = [entry.index for entry in extract.entries]
        if extract.v != 1 or indices != sorted(set(indices)):
            raise EvidenceError("log.json is of another version, or its entries are out of order")
        for entry in extract.entries:
            problem = body_problem(entry.body)
            if problem:
                raise EvidenceError(f"log.json entry {entry.index}: {problem}")
        return extract

    def absence(self) -> tuple[DeletionProof, ...]:
        """absence.json: the deletion proofs. Raises InputProblems."""
        return decode(tuple[DeletionProof, ...], self.json("absence.json"), what="absence.json")


def with_own_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a case plus the README and standalone verifier that every bundle carries."""
    taken = sorted(files.keys() & (OWN | PROVE_THEMSELVES))
    if taken:
        raise InputError("these bundle files are written by expunge itself", got=", ".join(taken))
    verifier = Path(__file__).with_name("standalone.py").read_bytes()
    return {**files, "verify.py": verifier, "README.txt": README.encode()}


def file_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """What Predicate.files must hold for these files: pass the same mapping to `write_bundle`."""
    return {name: "sha256:" + sha256_hex(data) for name, data in sorted(with_own_files(files).items())}


def write_bundle(
    path: Path | str,
    *,
    envelope: Mapping[str, Json],
    entries: Sequence[Entry],
    proofs: Sequence[InclusionProof | ConsistencyProof],
    checkpoint: str,
    files: Mapping[str, bytes],
) -> Path:
    """Write the zip atomically. `proofs` are one inclusion proof per entry, and any consistency proofs to hand along.

    Raises InputProblems when the result could not be verified: a file the statement does not know, a missing proof.
    """
    extract = _extract(entries, proofs, _origin_of(checkpoint))
    whole = {
        **with_own_files(files),
        CERTIFICATE: canonical(encode(envelope)),
        LOG: canonical(encode(extract)),
        CHECKPOINT: checkpoint.encode(),
    }
    _check_writable(whole, parse_statement(payload_of(envelope)).predicate.files)
    write_file(Path(path), zip_bytes(whole))
    return Path(path)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip whose bytes depend on nothing but names and contents."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3
            archive.writestr(info, files[name])
    return target.getvalue()


def read_bundle(source: Path | str | bytes) -> Bundle:
    """Read a bundle from a path or memory. Raises EvidenceError on what a bundle never is, StorageError on I/O."""
    data = source if isinstance(source, bytes) else _read_file(Path(source))
    if len(data) > MAX_ARCHIVE_BYTES:
        raise EvidenceError("the bundle is too large", expected=f"at most {MAX_ARCHIVE_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_members(infos)
            return Bundle(files=_read_members(archive, infos))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise EvidenceError("the bundle is not a readable zip", got=str(error)[:200], code="bundle") from error


def _read_file(path: Path) -> bytes:
    with storage_errors(path, "read bundle"), open(path, "rb") as file:
        return file.read(MAX_ARCHIVE_BYTES + 1)


def _check_members(infos: Sequence[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_FILES:
        raise EvidenceError("the bundle holds too many files", expected=f"at most {MAX_FILES}", got=str(len(infos)))
    names = [info.filename for info in infos]
    problems = [f"{name!r} comes twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for info in infos:
        problem = _member_problem(info)
        if problem:
            problems.append(f"{info.filename[:80]!r} {problem}")
    problems += [f"{name} is missing" for name in sorted((PROVE_THEMSELVES | REQUIRED) - set(names))]
    if sum(info.file_size for info in infos) > MAX_TOTAL_BYTES:
        problems.append("it would unpack to too many bytes")
    if problems:
        raise EvidenceError("this is not a certificate bundle", got="; ".join(problems[:10]), code="bundle")


def _member_problem(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.filename not in _PLAIN and not _FIGURE.match(info.filename):
        return "is no file of a bundle"
    if info.orig_filename != info.filename:
        return "has a disguised name"
    if kind not in (0, stat.S_IFREG):
        return "is a link or device"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unusual way"
    if info.file_size > MAX_FILE_BYTES or info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return "unpacks to too many bytes"
    return None


def _read_members(archive: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo]) -> dict[str, bytes]:
    files = {}
    for info in infos:
        with archive.open(info) as member:
            content = member.read(info.file_size + 1)
        if len(content) != info.file_size:
            raise EvidenceError(f"{info.filename} is not as long as the bundle says", code="bundle")
        files[info.filename] = content
    return files


def _origin_of(checkpoint: str) -> str:
    return checkpoint.partition("\n")[0]


def _extract(entries: Sequence[Entry], proofs: Sequence[InclusionProof | ConsistencyProof], origin: str) -> LogExtract:
    inclusion = {proof.index: proof for proof in proofs if isinstance(proof, InclusionProof)}
    sizes = {proof.size for proof in inclusion.values()}
    missing = [f"entry {entry.index} has no inclusion proof" for entry in entries if entry.index not in inclusion]
    if len(sizes) != 1:
        missing.append(f"inclusion proofs are for {len(sizes)} tree sizes, not one")
    if missing:
        raise InputProblems("log extract", missing)
    ordered = sorted(entries, key=lambda entry: entry.index)
    rows = tuple(LoggedEntry(index=e.index, body=e.body, path=inclusion[e.index].path) for e in ordered)
    links = tuple(proof for proof in proofs if isinstance(proof, ConsistencyProof))
    return LogExtract(v=1, origin=origin, size=sizes.pop(), entries=rows, consistency=links)


def _check_writable(files: Mapping[str, bytes], listed: Mapping[str, str]) -> None:
    digests = {name: "sha256:" + sha256_hex(data) for name, data in files.items() if name not in PROVE_THEMSELVES}
    problems = [f"{name}: not the file the statement lists" for name in digests if listed.get(name) != digests[name]]
    problems += [f"{name}: listed in the statement, not given" for name in sorted(listed.keys() - digests.keys())]
    problems += [f"{name}: no file of a bundle" for name in files if name not in _PLAIN and not _FIGURE.match(name)]
    problems += [f"{name}: missing" for name in sorted(REQUIRED - files.keys())]
    if problems:
        raise InputProblems("bundle", problems, hint="Predicate.files comes from file_digests(files)")
