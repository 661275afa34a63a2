"""LensKit's EASE, from a pickled scorer or a pickled pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.connect.recommenders._arrow import column, strings_of
from expunge.connect.recommenders._builders import BUILDERS, array_of, number_of
from expunge.connect.recommenders._files import CODE, only, opened, starts_with
from expunge.connect.recommenders._linear import ForeignLinear, linear
from expunge.connect.recommenders._names import ARROW_PICKLES
from expunge.connect.recommenders._opcodes import Allowed, Record, read_pickle, walk
from expunge.core.errors import DataError

_ALLOWED = Allowed(names=ARROW_PICKLES, packages=("lenskit",))
_EXPORT = (
    "pickle the scorer alone (pipeline.component('scorer')), or in LensKit's environment: "
    "np.savez('ease.npz', weights=s.weights, items=np.array(s.items.ids()).astype(str), "
    "**{'lambda': s.config.regularization}), and read that with the reader `arrays`"
)
_ROWS = frozenset({"MatrixRelationshipSet", "RelationshipSet", "Dataset", "DataContainer", "ItemListCollection"})


class LensKit:
    """A pickle (protocol 2 to 5) of `EASEScorer`, or of a `Pipeline` that has one as a component, as `lenskit train`
    writes it (lenskit 2025.8.1 and 2026.4.0: knn/ease.py, cli/train.py). Never unpickled.

    B is float32 and was inverted in float32; λ is `regularization` (1 by default); values were 0 and 1. A scorer holds
    weights and item ids; a pipeline holds all users' histories besides, in the component that looks them up, and from
    these the item counts are taken. Compressed files (.zst, .gz) are to be unpacked first.
    """

    layout: str = "one pickle of EASEScorer or of a pipeline with one (lenskit 2025.8, 2026.4)"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By a module's name near the start of a pickle."""
        start = starts_with(files[0], 4096) if len(files) == 1 else b""
        return start[:1] == b"\x80" and b"lenskit." in start

    def read(self, files: tuple[Path, ...]) -> ForeignLinear:
        """The one EASE model in the file."""
        path = only(files, self.layout)
        with opened(path, "a LensKit pickle") as (stream, size):
            value = read_pickle(stream, size, allowed=_ALLOWED, builders=BUILDERS, hint=_EXPORT)
            found = [part for _, part in walk(value) if _is(part, ("EASEScorer",))]
            scorer = _one(found)
            own = scorer.attributes()
            items = strings_of(_vocabulary(own.get("items")))
            config = own.get("config")
            counts = _counts(value, len(items))
        notes = () if counts is not None else ("no histories in the file: item counts have to be given",)
        return linear(
            "lenskit EASEScorer pickle",
            weights=array_of(own.get("weights")),
            regularisation=number_of(config.attributes().get("regularization")) if isinstance(config, Record) else None,
            items=items,
            item_counts=counts,
            residues=tuple(_residues(value)),
            notes=notes,
        )


def _is(value: object, names: Iterable[str]) -> bool:
    return isinstance(value, Record) and value.made_by.module.startswith("lenskit.") and value.made_by.name in names


def _one(found: list[object]) -> Record:
    if len(found) == 1 and isinstance(found[0], Record):
        return found[0]
    raise DataError(
        f"one EASEScorer expected in the pickle, {len(found)} are there",
        hint="other LensKit models are not linear or not closed-form; of several, pickle one",
        code=CODE,
    )


def _vocabulary(value: object) -> object:
    if not _is(value, ("Vocabulary",)) or not isinstance(value, Record):
        raise ValueError("a scorer without a vocabulary of items")
    return value.attributes().get("array")


def _residues(value: object) -> Iterable[str]:
    """Where else users are: relationship sets, data sets, and vocabularies of anything but items."""
    for path, part in walk(value):
        users = isinstance(part, Record) and part.attributes().get("name") != "item"
        if _is(part, _ROWS) or (_is(part, ("Vocabulary",)) and users):
            yield path


def _counts(value: object, items: int) -> NDArray[np.int64] | None:
    """Users an item, from the pipeline's own user-item table."""
    for _, part in walk(value):
        if _is(part, ("MatrixRelationshipSet",)) and isinstance(part, Record):
            with contextlib.suppress(ValueError):
                numbers = column(part.attributes().get("table"), "item_num")
                if not len(numbers) or (numbers.min() >= 0 and numbers.max() < items):
                    return np.bincount(numbers, minlength=items).astype(np.int64)
    return None
