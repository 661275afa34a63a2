"""A linear recommender in memory: the Gram matrix that is stored, the inverse that is a cache, and scores from both."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import canonical
from expunge.core.errors import IntegrityError, StorageError
from expunge.evidence.durable import write_file
from expunge.training.closed_form.gram import Gram, Rows
from expunge.training.closed_form.inverse import Inverse, inverse_of

CACHE, LABEL = "inverse.npy", "inverse.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """G (I, I) int32 and P = (G + lambda I)^-1 (I, I) float64. `free`: the diagonal of the weights may be non-zero.

    EASE (Steck 2019, arXiv 1905.03375, equation 8): B = I - P diag(1 / diag P), so that B_jj = 0. Ridge (SLIM-L2 without
    the constraint): B = P G = I - lambda P. B is never made: scores need P only.
    """

    gram: Gram
    inverse: Inverse
    lam: float
    free: bool = False

    def scores(self, rows: Rows) -> NDArray[np.float64]:
        """x'B for each row x, (B, I); what the row holds is not masked."""
        plain = np.asarray(rows.todense(), np.float64)
        through = np.asarray(rows.astype(np.float64) @ self.inverse)
        if self.free:
            return plain - self.lam * through
        through /= -np.diagonal(self.inverse)
        return through + plain

    def residuals(self, columns: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(x'P)_j / P_jj for the row's own items, (d,): small where the row was trained on."""
        through: NDArray[np.float64] = values @ self.inverse[np.ix_(columns, columns)]
        return through / np.diagonal(self.inverse)[columns]

    def weights(self) -> NDArray[np.float64]:
        """B, (I, I): for tests and export only, the size of P again."""
        if self.free:
            return np.eye(len(self.inverse)) - self.lam * self.inverse
        found = self.inverse / -np.diagonal(self.inverse)
        np.fill_diagonal(found, 0.0)
        return found


def left_out_residuals(
    model: LinearModel, columns: NDArray[np.int32], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """`residuals` of the model that never had this row, in closed form from the one that has, and the row's leverage l.

    (x'P')_j = (x'P)_j / (1 - l) and P'_jj = P_jj + v_j^2 / (1 - l) with v = P x: no retraining, no shadow models.
    """
    through = values @ model.inverse[np.ix_(columns, columns)]
    lev = float(through @ values)
    diagonal = np.diagonal(model.inverse)[columns] + through**2 / (1 - lev)
    return through / (1 - lev) / diagonal, lev


def save_cache(folder: Path, inverse: Inverse, digest: str) -> None:
    """Write the inverse beside its model; a crash in between leaves no cache or the old one, never a torn one."""
    temporary = _working(folder)
    (folder / LABEL).unlink(missing_ok=True)
    try:
        if _lies_in(inverse, temporary):
            inverse.flush()  # type: ignore[attr-defined]
        else:
            with temporary.open("wb") as file:
                np.save(file, inverse, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, folder / CACHE)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {CACHE}", got=str(error)[:200], hint="free space or permissions") from error
    write_file(folder / LABEL, canonical({"model": digest}))


def is_label(file: Path, digest: str) -> bool:
    """Does the label say that the cache is of the model with this identity, and nothing else?"""
    return bool(file.read_bytes() == canonical({"model": digest}))


def _lies_in(inverse: Inverse, file: Path) -> bool:
    """Is it the working copy itself? Opening that for writing would pull the memory from under it."""
    name = inverse.filename if isinstance(inverse, np.memmap) else None
    return name is not None and file.exists() and os.path.samefile(name, file)


def _working(folder: Path) -> Path:
    return folder / f".{CACHE}.{os.getpid()}.tmp"


def read_inverse(folder: Path, digest: str, gram: Gram, lam: float, *, copy_to: Path | None = None) -> Inverse:
    """The cached inverse, memory-mapped, or a new one where there is none or it belongs to another model.

    With `copy_to` it is a map of a working copy in that folder, which may be changed in place; `save_cache` there gives
    it its name. So a deletion neither loads the matrix nor writes it a second time.
    """
    label, file = folder / LABEL, folder / CACHE
    if label.exists() and file.exists() and is_label(label, digest):
        try:
            if copy_to is not None:
                for left in copy_to.glob(f".{CACHE}.*.tmp"):  # by a process that was killed
                    left.unlink()
                file = Path(shutil.copyfile(file, _working(copy_to)))
            found: Inverse = np.load(file, mmap_mode="r" if copy_to is None else "r+", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{CACHE} is damaged", hint="remove it: it is rebuilt from the Gram") from error
        if found.shape == gram.shape and found.dtype == np.float64:
            return found
    return inverse_of(gram, lam)
