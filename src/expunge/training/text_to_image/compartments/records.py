"""A directory of compartments: `base/` in the layout of diffusers, `adapters/` one file an artist, and a manifest of both.

The manifest binds each file to its digest and to what it was trained on: artists by block, works by the digest of their
pixels, so that a work filed under another name is found. It lists everybody's works and is as private as the training data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.core.codec import canonical, decode, digest_of, encode, loads
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.core.plan import Numerics
from expunge.data._pictures import Pictures, picture_digest
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.tensors import TensorManifest
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.tuning import Tuning

MANIFEST, BASE, ADAPTERS = "compartments.json", "base", "adapters"
EVERYWHERE = ""
"""Names of layers that are added to: all. In the attentions alone a small model hardly learns a new style."""
NOT_EXACT = "not-exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saw:
    """What a training read: `blocks` of artists and `works`, hex SHA-256 of their pixels, both sorted; `source`: what vouches
    for that (a transcript's or a recipe's digest)."""

    blocks: tuple[str, ...]
    works: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """How an adapter is trained: additions of `rank` to the layers named by `where`, times `scale`; `steps` of Adam."""

    rank: int = 4
    scale: float = 1.0
    steps: int = 500
    lr: float = 3e-3
    batch: int = 16
    where: str = EVERYWHERE

    def __post_init__(self) -> None:
        if not (1 <= self.rank <= 1024 and 0 < self.scale <= 100):
            raise InputError("settings out of range", expected="rank 1..1024, scale 0..100", got=str(self))
        Tuning(steps=self.steps, lr=self.lr, batch=self.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecord:
    """The base as it was trained: digest over all of its files, and what it saw."""

    digest: str
    saw: Saw


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """One artist's adapter: hex SHA-256 of the `file`, Merkle root of its `weights`, digest of the `base` it was taught over."""

    artist: str
    file: str
    weights: str
    base: str
    saw: Saw
    how: Teaching
    seed: str
    numerics: Numerics

    @property
    def path(self) -> str:
        """Where it lies: named by its weights, so that nobody's name is in a file name."""
        return f"{ADAPTERS}/{self.weights.removeprefix('sha256:')[:32]}.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compartments:
    """The manifest. Its digest, taken when the last adapter was trained, is what a deletion is held against."""

    base: BaseRecord
    adapters: tuple[AdapterRecord, ...] = ()
    v: int = 1

    def __post_init__(self) -> None:
        artists = [adapter.artist for adapter in self.adapters]
        if artists != sorted(set(artists)):
            raise InputError("adapters are not sorted by artist, or an artist has two")

    @property
    def digest(self) -> str:
        """`sha256:` of all records."""
        return digest_of(self)

    def of(self, artist: str) -> AdapterRecord:
        """The artist's adapter. Raises InputError `not_present` where nothing here was trained on the artist, and `not-exact`
        where the base was, which has no compartment to drop."""
        for adapter in self.adapters:
            if adapter.artist == artist:
                return adapter
        if artist in self.base.saw.blocks:
            hint = "retrain the base without the artist"
            raise InputError("the base itself was trained on the artist", got=artist, hint=hint, code=NOT_EXACT)
        looked = f"one of {len(self.adapters)} adapters or the base's own artists"
        raise InputError("the artist is not in this model", expected=looked, got=artist, code="not_present")

    def without(self, artist: str) -> Compartments:
        """The same records but one."""
        gone = self.of(artist)
        return Compartments(
            base=self.base, adapters=tuple(item for item in self.adapters if item is not gone), v=self.v
        )


def saw_of(pictures: Pictures, source: str) -> Saw:
    """What a training on exactly these pictures saw. Cost: one SHA-256 a picture."""
    works = {picture_digest("", image) for image in pictures.images}
    return Saw(blocks=tuple(sorted(set(pictures.blocks))), works=tuple(sorted(works)), source=source)


def inexact(found: Compartments, artist: str) -> tuple[str, ...]:
    """Why dropping the artist's adapter would not leave a model that never saw the artist, all reasons at once; none = it
    would, if the records are true."""
    mine = found.of(artist)
    works, problems = set(mine.saw.works), []
    if artist in found.base.saw.blocks or works & set(found.base.saw.works):
        problems.append("the base was trained on the artist")
    for item in found.adapters:
        whose = "the artist's adapter" if item is mine else "another artist's adapter"
        if item.saw.blocks != (item.artist,):
            problems.append(f"{whose} was trained on {len(item.saw.blocks)} artists, or on one who is not named")
        if item.base != found.base.digest:
            problems.append(f"{whose} was trained over another base")
        if item is not mine and works & set(item.saw.works):
            problems.append(f"{whose} was trained on works of the artist")
    return tuple(dict.fromkeys(problems))


def require_exact(found: Compartments, artist: str) -> None:
    """Raises InputProblems `not-exact` with every reason of `inexact`."""
    problems = inexact(found, artist)
    if problems:
        hint = "retrain what saw the artist, without the artist"
        raise InputProblems("dropping the adapter would not be exact", problems, hint=hint, code=NOT_EXACT)


# ------------------------------------------------------------------------------------------------------------ the disk


def read_manifest(folder: Path) -> Compartments:
    """The records of a directory. Raises InputError where there are none, or where they are malformed."""
    file = folder / MANIFEST
    if not file.is_file() or file.is_symlink():
        raise InputError("no directory of compartments", expected=f"a folder with {MANIFEST}", got=str(folder))
    with storage_errors(file, "read"):
        plain = loads(file.read_bytes(), what=MANIFEST)
    return decode(Compartments, plain, what=MANIFEST)


def write_manifest(folder: Path, found: Compartments) -> None:
    """Canonical bytes, wholly or not at all."""
    write_file(folder / MANIFEST, canonical(encode(found)))


def require_recorded(folder: Path, found: Compartments) -> None:
    """Raises IntegrityError unless the directory holds the recorded files byte for byte and no other file at all."""
    problems = [*_strangers(folder, found)]
    if read_directory(folder / BASE).digest != found.base.digest:
        problems.append("the base is not the one that was recorded when it was trained")
    for item in found.adapters:
        file = folder / item.path
        if not file.is_file() or sha256_of(file) != item.file or TensorManifest.of_file(file).root != item.weights:
            problems.append(f"{item.path} is not the adapter that was recorded when it was trained")
    if problems:
        hint = "restore the directory as it was recorded; nothing was changed"
        raise IntegrityError("; ".join(problems[:8]), expected="the recorded files and no others", hint=hint)


def _strangers(folder: Path, found: Compartments) -> Sequence[str]:
    """Links, and files that nothing in the manifest accounts for. The base accounts for all files under it by its digest."""
    known = {MANIFEST, *(item.path for item in found.adapters)}
    odd = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            odd.append(f"{name} is a link")
        elif not file.is_dir() and name not in known and not name.startswith(f"{BASE}/"):
            odd.append(f"{name} is in no record")
    return odd


def sha256_of(file: Path) -> str:
    """Hex SHA-256 of a file."""
    with storage_errors(file, "read"), file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
