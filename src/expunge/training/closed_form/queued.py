"""A deletion of very many users: worked off as a stream, beside the model that is being made, so that a kill costs little."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from expunge.core.codec import digest_of
from expunge.core.protocols import Progress
from expunge.evidence.durable import destroy_file
from expunge.training.closed_form.gram import Gram, Rows
from expunge.training.closed_form.inverse import Inverse
from expunge.training.closed_form.stream import MANIFEST, DeletionStream, Pace

PREFIX = "queue-"
LONG = 256
"""Users in one deletion from which it is worth a stream: beyond it, seconds of work would be lost with a process."""
BATCH, CHECKPOINT = 32, 1024


def is_long(before: Rows, after: Rows) -> bool:
    """Whole users, and many of them; the stream takes no shortened rows."""
    return after.nnz == 0 and int((np.diff(before.indptr) > 0).sum()) > LONG


def worked_off(
    folder: Path,
    origin: str,
    before: Rows,
    lam: float,
    start: Callable[[], tuple[Gram, Inverse]],
    progress: Progress,
) -> tuple[Gram, Inverse]:
    """G and P without the rows `before` (k, I), in batches, each checkpoint durable in a folder of `folder`.

    origin: identity of the model they are taken from, which `start` reads where nothing was begun. A stream that was begun
    of another model or for other rows is destroyed, not gone on with. The arrays are maps that may be changed, privately.
    """
    rows = before[np.flatnonzero(np.diff(before.indptr))]
    home = folder / (PREFIX + digest_of([origin, repr(lam), *_content(rows)]).partition(":")[2][:32])
    for other in folder.glob(PREFIX + "*"):
        if other != home or not (home / MANIFEST).exists():
            _destroy(other)
    stream = DeletionStream(home) if home.exists() else DeletionStream.create(home, *_begun(start, lam))
    pace = Pace(batch=BATCH, checkpoint=CHECKPOINT, refresh_every=rows.shape[0] + 1)  # the caller knows when one is due
    stream.run(range(rows.shape[0]), rows, pace, progress=progress)
    return stream.working()


def retire(folder: Path) -> None:
    """Destroy what streams left in a run's folder, once the model is stored: they hold it as it was before."""
    for home in folder.glob(PREFIX + "*"):
        _destroy(home)


def clear_but_queues(folder: Path) -> None:
    """Remove what a killed process left of a run, except streams that can be gone on with."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.is_symlink() and path.name.startswith(PREFIX):
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _begun(start: Callable[[], tuple[Gram, Inverse]], lam: float) -> tuple[Gram, float, Inverse]:
    gram, inverse = start()
    return gram, lam, inverse


def _content(rows: Rows) -> tuple[str, ...]:
    """Digests of what the rows are, so that other rows in the same number are another queue."""
    from hashlib import sha256

    parts = (rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data.astype(np.int64))
    return tuple(sha256(part.tobytes()).hexdigest() for part in parts)


def _destroy(home: Path) -> None:
    """The manifest goes first: half of a stream must not look like one that can be gone on with."""
    for file in sorted(home.iterdir(), key=lambda file: file.name != MANIFEST):
        destroy_file(file)
    home.rmdir()
