"""A long queue of deletions on one linear recommender: batches, checkpoints, and nothing lost or done twice.

Gram and inverse lie in memory-mapped files, in one of two buffers: one is published and never written again. Work is
done on its pages, privately; a checkpoint writes the outcome to the other buffer and publishes that by renaming one small
manifest. A process that is killed leaves the published state as it was, and perhaps a half-written buffer that nobody
reads; the queue is then taken up where the manifest says. A map changed in place would be torn (half of P corrected,
half not).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from expunge.core.codec import LATER, canonical, decode, digest_of, encode, loads
from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import Progress, silent
from expunge.evidence.durable import destroy_file, storage_errors, write_file
from expunge.training.closed_form.erase import erase_rows, probed
from expunge.training.closed_form.gram import Gram, Rows
from expunge.training.closed_form.inverse import REFRESH_EVERY, REFRESH_RESIDUAL, Inverse, inverse_of

MANIFEST = "manifest.json"
_BUFFERS = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is durable: the first `done` deletions of the queue, in `batches` batches, in buffer `buffer`.

    `residual` is that of the inverse at this checkpoint, `since_refresh` the deletions since P was last built from G,
    `queue` the digest of the slots that are done, `entry` the type of G's entries.
    """

    done: int
    batches: int
    buffer: str
    items: int
    lam: str
    residual: str
    since_refresh: int
    refreshes: int
    queue: str
    entry: Literal["int32", "int64"] = field(default="int32", metadata={LATER: True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a queue is worked off: users a batch, deletions between checkpoints, and when P is built anew from G."""

    batch: int = 32
    checkpoint: int = 1024
    refresh_every: int = REFRESH_EVERY
    refresh_residual: float = REFRESH_RESIDUAL

    def __post_init__(self) -> None:
        if min(self.batch, self.refresh_every) < 1 or self.checkpoint < self.batch:
            raise InputError("batch and refresh_every are at least 1, checkpoint at least a batch")


class DeletionStream:
    """The two buffers in `folder`. One process at a time works on it (the caller holds the lock)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plain = loads((folder / MANIFEST).read_bytes(), what=MANIFEST)
        self.mark = decode(Mark, plain, what=MANIFEST)

    @classmethod
    def create(cls, folder: Path, gram: Gram, lam: float, inverse: Inverse | None = None) -> DeletionStream:
        """Publish a model as the state before the first deletion. The inverse is built if it is not given."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (folder / MANIFEST).exists():
            raise InputError(f"{folder} already holds a stream", hint="open it: it goes on where it stopped")
        with storage_errors(folder, "write the model in"):
            _store(folder / "a.gram", gram)
            _store(folder / "a.inverse", inverse_of(gram, lam) if inverse is None else inverse)
        _publish(folder, _first(gram, lam))
        return cls(folder)

    @property
    def lam(self) -> float:
        """lambda."""
        return float(self.mark.lam)

    def published(self) -> tuple[Gram, Inverse]:
        """The durable state, read only."""
        return self._maps(self.mark.buffer, "r")

    def working(self) -> tuple[Gram, Inverse]:
        """The durable state to go on from: changes stay in this process and reach no file."""
        return self._maps(self.mark.buffer, "c")

    def run(
        self,
        queue: Sequence[int],
        rows: Rows,
        pace: Pace | None = None,
        *,
        on_checkpoint: Callable[[Mark], None] | None = None,
        progress: Progress = silent,
    ) -> Mark:
        """Work off the rest of `queue`, slots of `rows` (U, I), which must still hold the users that are not yet durable.

        `on_checkpoint` hears of every published mark, the present one first, so that a log that missed the last one
        before a crash is told again: it compares `batches` with what it has.
        """
        pace = pace or Pace()
        self._check(queue, rows)
        tell = on_checkpoint or _nobody
        tell(self.mark)
        while self.mark.done < len(queue):
            self._work(queue, rows, pace, progress)
            tell(self.mark)
        self._retire()
        return self.mark

    def _work(self, queue: Sequence[int], rows: Rows, pace: Pace, progress: Progress) -> None:
        """One checkpoint's worth, in private copies of the published pages, written to the other buffer in one go.

        Changed in a shared map instead, every batch would make the whole of P dirty, and the disk would set the pace.
        """
        stretch, total = queue[self.mark.done : self.mark.done + pace.checkpoint], len(queue)
        other = _BUFFERS[1 - _BUFFERS.index(self.mark.buffer)]
        gram, inverse = self._maps(self.mark.buffer, "c")
        refreshed = batches = 0
        for start in range(0, len(stretch), pace.batch):
            before = rows[list(stretch[start : start + pace.batch])]
            empty = sparse.csr_matrix(before.shape, dtype=before.dtype)
            refreshed += erase_rows(gram, inverse, before, empty, self.lam, probe=None).refreshed
            batches += 1
            progress("deletions", self.mark.done + min(start + pace.batch, len(stretch)), total)
        since = len(stretch) + (0 if refreshed else self.mark.since_refresh)
        off = probed(inverse, gram, self.lam, self.mark.done)
        if since >= pace.refresh_every or not off <= pace.refresh_residual:
            inverse[:] = inverse_of(gram, self.lam)
            refreshed, since, off = refreshed + 1, 0, probed(inverse, gram, self.lam, self.mark.done)
        if not math.isfinite(off):
            raise IntegrityError("the inverse is not finite", hint="rebuild it from the Gram")
        with storage_errors(self.folder, "write the model in"):
            _store(self.folder / f"{other}.gram", gram)
            _store(self.folder / f"{other}.inverse", inverse)
        self.mark = Mark(
            done=self.mark.done + len(stretch),
            batches=self.mark.batches + batches,
            buffer=other,
            items=self.mark.items,
            lam=self.mark.lam,
            residual=f"{off:.3g}",
            since_refresh=since,
            refreshes=self.mark.refreshes + refreshed,
            queue=_prefix(queue, self.mark.done + len(stretch)),
            entry=self.mark.entry,
        )
        _publish(self.folder, self.mark)

    def _check(self, queue: Sequence[int], rows: Rows) -> None:
        """The queue that was begun, and rows that are still there: deleting an emptied row would delete nothing."""
        if len(set(queue)) != len(queue):
            raise InputError("a user is queued twice", hint="a deletion is done once")
        if len(queue) < self.mark.done or _prefix(queue, self.mark.done) != self.mark.queue:
            raise InputError("this is not the queue that was begun", hint="append to it; never reorder what is done")
        lengths = np.diff(rows.indptr)
        empty = [slot for slot in queue[self.mark.done :] if not lengths[slot]]
        if empty:
            raise InputError(
                f"{len(empty)} queued users have no events",
                hint="purge a user's rows after the checkpoint that made the deletion durable, never before",
            )

    def _retire(self) -> None:
        """Overwrite and remove the copy from before the last checkpoint: it still holds the last users."""
        other = _BUFFERS[1 - _BUFFERS.index(self.mark.buffer)]
        for kind in ("gram", "inverse"):
            if (file := self.folder / f"{other}.{kind}").exists():
                destroy_file(file)

    def _maps(self, buffer: str, mode: Any) -> tuple[Any, Any]:
        shape, found = (self.mark.items,) * 2, []
        for kind, dtype in (("gram", np.dtype(self.mark.entry)), ("inverse", np.dtype(np.float64))):
            file = self.folder / f"{buffer}.{kind}"
            if not file.exists() or file.stat().st_size != self.mark.items**2 * dtype.itemsize:
                raise IntegrityError(f"{file.name} is missing or of another size", hint="restore the folder")
            found.append(np.memmap(file, dtype, mode, shape=shape))
        return found[0], found[1]


def _first(gram: Gram, lam: float) -> Mark:
    return Mark(
        done=0,
        batches=0,
        buffer="a",
        items=len(gram),
        lam=repr(lam),
        residual="0",
        since_refresh=0,
        refreshes=0,
        queue=_prefix((), 0),
        entry="int64" if gram.dtype == np.int64 else "int32",
    )


def _store(path: Path, array: Any) -> None:
    with path.open("wb") as file:
        np.ascontiguousarray(array).tofile(file)
        os.fsync(file.fileno())


def _publish(folder: Path, mark: Mark) -> None:
    write_file(folder / MANIFEST, canonical(encode(mark)), mode=0o600)


def _prefix(queue: Sequence[int], done: int) -> str:
    return digest_of([int(slot) for slot in queue[:done]])


def _nobody(mark: Mark) -> None:
    """Nobody listens."""
