"""implicit's npz files: factor models and item-to-item neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse

from expunge.connect.recommenders._arrays import Array, names_in, npz
from expunge.connect.recommenders._builders import check_csr
from expunge.connect.recommenders._files import only, opened
from expunge.connect.recommenders._linear import ForeignFactors, ForeignNeighbours
from expunge.core.errors import InputProblems

_FACTORS = ("user_factors", "item_factors")
_NEIGHBOURS = ("data", "indices", "indptr", "shape", "K")
_SETTINGS = (
    *("regularization", "factors", "num_threads", "iterations", "use_native", "use_cg", "cg_steps", "alpha", "dtype"),
    *("calculate_training_loss", "random_state", "learning_rate", "verify_negative_samples", "neg_prop"),
)
_KINDS = (
    ("verify_negative_samples", "BayesianPersonalizedRanking"),
    ("neg_prop", "LogisticMatrixFactorization"),
    ("use_cg", "AlternatingLeastSquares"),
)


class Implicit:
    """The npz of `save` (implicit 0.7.3: cpu/als.py, bpr and lmf, nearest_neighbours.py). Read without pickle.

    A factor model becomes ForeignFactors: its user factors are one row a user, and `random_state`, if it was saved, is
    what a same-seed retraining needs. An item-to-item model becomes ForeignNeighbours: only the K nearest were kept, so
    counts cannot be taken back from it.
    """

    layout: str = "one npz of AlternatingLeastSquares, BPR, LMF or an item-item recommender (implicit 0.7)"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the names of the arrays."""
        held = names_in(files[0]) if len(files) == 1 else frozenset()
        return held.issuperset((*_FACTORS, "iterations")) or held.issuperset(_NEIGHBOURS)

    def read(self, files: tuple[Path, ...]) -> ForeignFactors | ForeignNeighbours:
        """The factors, or the neighbours."""
        path = only(files, self.layout)
        arrays = npz(path, (*_FACTORS, *_NEIGHBOURS, *_SETTINGS))
        with opened(path, "an implicit npz"):
            if "user_factors" in arrays:
                return _factors(arrays)
            if set(_NEIGHBOURS) <= set(arrays):
                return _neighbours(arrays)
        raise InputProblems("implicit npz", ["neither user_factors and item_factors nor a similarity matrix is there"])


def _factors(arrays: dict[str, Array]) -> ForeignFactors:
    problems = []
    for name in _FACTORS:
        found = arrays.get(name)
        if found is None or found.ndim != 2 or found.dtype not in (np.dtype("f4"), np.dtype("f8")):
            problems.append(f"{name}: a float32 or float64 matrix expected")
        elif not found.size or not np.isfinite(found).all():
            problems.append(f"{name}: empty, NaN or infinity")
    if not problems and arrays["user_factors"].shape[1] != arrays["item_factors"].shape[1]:
        problems.append("user_factors and item_factors have different numbers of factors")
    if problems:
        raise InputProblems("implicit npz", problems)
    single = [
        name for name in _SETTINGS if name in arrays and arrays[name].shape == () and arrays[name].dtype.kind != "S"
    ]
    settings = {name: arrays[name].item() for name in single}
    kind = next((kind for name, kind in _KINDS if name in settings), "factor model")
    missing = () if "random_state" in settings else ("no random_state was saved: no same-seed retraining",)
    return ForeignFactors(
        user_factors=arrays["user_factors"],
        item_factors=arrays["item_factors"],
        settings=settings,
        source=f"implicit {kind} npz",
        residues=("user_factors",),
        notes=missing,
    )


def _neighbours(arrays: dict[str, Array]) -> ForeignNeighbours:
    data, indices, indptr, shape, kept = (arrays[name] for name in _NEIGHBOURS)
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or kept.shape != () or kept.dtype.kind not in "iu":
        raise ValueError("shape is two whole numbers, K is one")
    rows, columns = int(shape[0]), int(shape[1])
    if rows != columns or {data.ndim, indices.ndim, indptr.ndim} != {1} or not 0 <= rows < 2**31:
        raise ValueError(f"a square similarity matrix in three flat arrays expected, got {rows} x {columns}")
    check_csr(data, indices, indptr, (rows, columns))
    if not np.isfinite(data).all():
        raise ValueError("similarities hold NaN or infinity")
    return ForeignNeighbours(
        similarity=sparse.csr_matrix((data, indices, indptr), shape=(rows, columns)),
        kept=int(kept),
        source="implicit item-item npz",
        notes=(f"only the {int(kept)} nearest were kept",),
    )
