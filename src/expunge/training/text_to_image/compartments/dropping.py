"""Deletion by dropping an artist's adapter: a new directory without it, held against what was recorded at training.

EXACT, as logged by the owner: the base and the other adapters were trained without the artist, and they are byte for byte
what they were. That the records are true rests on who kept them: `same_when_taught_again` and a recomputation of the base
turn them into facts. Fails where the base or another adapter saw a work of the artist in other pixels (a copy that was
cropped or encoded anew), which a near-duplicate search has to find; and for the old directory, which holds the adapter until
it is destroyed.

Cost: a copy and two hashes of every file; 2 MB take a fraction of a second, a base of gigabytes as long as reading it twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from expunge.core.errors import InputError, IntegrityError
from expunge.core.styles import StyleRung
from expunge.evidence.durable import storage_errors
from expunge.evidence.tensors import TensorManifest
from expunge.training.text_to_image.compartments.records import (
    ADAPTERS,
    BASE,
    Compartments,
    read_manifest,
    require_exact,
    require_recorded,
    write_manifest,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What was verified. `base` digest and `kept` adapters' weights by artist, all as at training; `gone`: the dropped weights.
    `before`, `after`: digests of both manifests."""

    artist: str
    gone: str
    base: str
    kept: Mapping[str, str]
    before: str
    after: str
    rung: StyleRung = StyleRung.EXACT


def drop(source: Path, artist: str, target: Path) -> Dropped:
    """Write `target`: all of `source` but the artist's adapter and record. `source` stays; destroying it is the purge's part.

    Raises InputError `not_present` for an artist nothing here was trained on, `not-exact` where the records say that more
    than the adapter saw the artist, IntegrityError where a file is not the recorded one. A refusal writes nothing.
    """
    if target.exists():
        raise InputError("the directory exists already", got=str(target), hint="nothing is overwritten")
    before = read_manifest(source)
    require_exact(before, artist)
    require_recorded(source, before)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with storage_errors(target, "write"):
            (unfinished / ADAPTERS).mkdir(parents=True)
            shutil.copytree(source / BASE, unfinished / BASE)
            after = before.without(artist)
            for item in after.adapters:
                shutil.copyfile(source / item.path, unfinished / item.path)
            write_manifest(unfinished, after)
            found = verify_drop(before, artist, unfinished, TensorManifest.of_file(source / before.of(artist).path))
            unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return found


def verify_drop(before: Compartments, artist: str, folder: Path, gone: TensorManifest | None = None) -> Dropped:
    """Hold a directory against the records from before, which the verifier kept, not those that lie in it.

    The base must be the recorded one (an adapter merged into it is another base), every other adapter too, no further file
    may lie there, and the new manifest must be the old one without one record. `gone`: the dropped tensors, looked for in
    every file. Raises InputError `not_present` or `not-exact`, IntegrityError on anything else.
    """
    record = before.of(artist)
    require_exact(before, artist)
    after = read_manifest(folder)
    expected = before.without(artist)
    if after != expected:
        raise IntegrityError(
            "the manifest is not the old one without the artist's record", expected=expected.digest, got=after.digest
        )
    require_recorded(folder, after)
    if gone is not None:
        _require_nowhere(folder, gone)
    return Dropped(
        artist=artist,
        gone=record.weights,
        base=after.base.digest,
        kept={item.artist: item.weights for item in after.adapters},
        before=before.digest,
        after=after.digest,
    )


def _require_nowhere(folder: Path, gone: TensorManifest) -> None:
    """No tensor file holds one of the dropped tensors under any name."""
    looked_for = {row.sha256 for row in gone.rows}
    for file in sorted(folder.rglob("*.safetensors")):
        if looked_for & {row.sha256 for row in TensorManifest.of_file(file).rows}:
            name = file.relative_to(folder).as_posix()
            raise IntegrityError(f"{name} holds weights of the dropped adapter", hint="it was never a file of its own")
