"""Take in a linear recommender that another library trained: its weights give the counts, and the counts must be ours.

From B and lambda follow P and G (training.closed_form.adopt). If G is that of the workspace's users, entry by entry, the
model is the one that this recipe gives on them, whoever trained it, and deletions from it are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.errors import DataError, InputError
from expunge.training.closed_form.adopt import adopt
from expunge.training.closed_form.inverse import REFRESH_RESIDUAL
from expunge.training.closed_form.linear import LinearRecommender

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

Ints = NDArray[np.int64]

MAX_NAMES = 2**26
NAMES_HINT = "--items FILE: ids, one a line in the order of the model's columns; RecBole's begin with [PAD]"
_OTHERS = "the model was not made of these histories"
_OTHERS_HINT = (
    "the workspace's source, its options (test users, smallest ratings) and the model's data must be the same"
)
_STARS = "source of ratings, recipe with weights: rating and 4 times the model's lambda"
_FACTORS = (
    "nobody can be taken out of trained factors exactly: make a workspace with a recipe of family `ials`, train there, "
    "and users are deleted by a retraining from the same seed"
)
_NEIGHBOURS = "the counts cannot be had back from lists that were cut: train family `itemknn` here"


def read_foreign(files: Sequence[Path], reader: str | None) -> Any:
    """What a reader makes of the files; the first that recognises them if none is named. Nothing in them is run."""
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError("no such file", got=", ".join(missing))
    names = registry.names("foreign")
    if reader is not None and reader not in names:
        raise InputError("unknown format", expected=", ".join(names), got=reader)
    for name in names if reader is None else (reader,):
        found = registry.load("foreign", name)()
        if reader is not None or found.recognises(tuple(files)):
            return found.read(tuple(files))
    raise InputError("no reader recognises these files", expected=", ".join(names), hint="--format NAME")


def named(foreign: Any, file: Path) -> Any:
    """The model with the ids of its columns from a UTF-8 file, one a line, in the model's order.

    Raises InputError where the model has ids itself, or no columns; DataError on another number of ids, or one twice.
    """
    weights = _weights_of(foreign)
    if foreign.items is not None:
        raise InputError(f"{foreign.source} has its items' ids itself", hint="leave --items out")
    if not file.is_file():
        raise InputError("no such file", expected="a text file of ids", got=str(file))
    try:
        text = file.read_text("utf-8-sig") if file.stat().st_size <= MAX_NAMES else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file.name} is no list of ids", expected="UTF-8 text, one id a line", got=str(error)
        ) from error
    if text is None:
        raise DataError(f"{file.name} is no list of ids", expected=f"at most {MAX_NAMES} bytes")
    items = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    if len(items) != len(weights):
        raise DataError(
            f"{file.name} has {len(items)} ids", expected=f"{len(weights)}, one a column of the model", hint=NAMES_HINT
        )
    if len(set(items)) != len(items):
        raise DataError(f"{file.name} has an id twice", got=Counter(items).most_common(1)[0][0][:100])
    return replace(foreign, items=items)


def adopt_foreign(workspace: Workspace, foreign: Any, run: Path) -> tuple[str, tuple[str, ...]]:
    """Write the model into `run`; returns its identity and what else in the artefact holds users.

    Raises InputError for anything but an EASE model of the values and under the lambda of the workspace's recipe,
    DataError where its counts are not those of the workspace's users.
    """
    adapter = workspace.adapter
    if not isinstance(adapter, LinearRecommender) or adapter.free:
        raise InputError("only EASE is taken in from elsewhere", got=workspace.recipe.family, hint="recipe: ease")
    weights = _weights_of(foreign)
    kept, places = _placed(workspace, foreign)
    rows = adapter.rows(workspace.fit_job(run, absent=workspace.book.tombstones))
    sums = adapter.sums_of(rows)
    _same_recipe(workspace, adapter, foreign, kept, places)
    own = weights if len(kept) == len(weights) else weights[np.ix_(kept, kept)]
    recovered = adopt(own, adapter.lam, np.diagonal(sums)[places])
    gram = np.zeros_like(sums)
    gram[np.ix_(places, places)] = recovered.gram
    wrong = int((gram != sums).sum())
    if wrong:
        raise DataError(f"{_OTHERS}: {wrong} of {gram.size} counts differ", hint=_OTHERS_HINT)
    inverse = np.eye(len(sums)) / adapter.lam
    inverse[np.ix_(places, places)] = recovered.inverse
    if adapter.compared(adapter.model_of(sums, inverse), rows, sums, _probes()).derived > REFRESH_RESIDUAL:  # type: ignore[operator]
        inverse = adapter.derived(rows, sums)
    run.mkdir(parents=True, exist_ok=True)
    return adapter.save(run, sums, inverse), tuple(foreign.residues)


def _weights_of(foreign: Any) -> NDArray[np.floating[Any]]:
    """Raises InputError, with what can be done instead, on models that are no item-to-item weights, or not all of them."""
    weights = getattr(foreign, "weights", None)
    if weights is None:
        hint = _FACTORS if hasattr(foreign, "user_factors") else _NEIGHBOURS
        raise InputError(f"{foreign.source} holds no item-to-item weights of a closed form", hint=hint)
    return np.asarray(weights)


def _same_recipe(workspace: Workspace, adapter: LinearRecommender, foreign: Any, kept: Ints, places: Ints) -> None:
    """The artefact's lambda and item counts, where it has them, are the recipe's and the workspace's.

    A model of values v under lambda is that of 2v under 4 lambda: B does not change, and the counts are 4 times as large.
    So in a recipe that counts half stars, a model of stars fits under 4 times its lambda; its item counts say which it is.
    """
    halves = adapter.weights == "rating" and workspace.data.scale == "half-stars"
    scales = [1, 4] if halves else [1]
    counts = None if foreign.item_counts is None else np.asarray(foreign.item_counts)[kept]
    lam = foreign.regularisation
    if counts is not None:
        scales = [
            scale for scale in scales if np.array_equal(counts * scale, _counts(workspace, adapter.weights)[places])
        ]
        if not scales:
            raise _other_counts(workspace, counts, places, lam)
    if foreign.values_times != 1 and not halves:
        raise InputError("the model was trained on half stars, and the recipe does not count them", hint=_STARS)
    if lam is not None and adapter.lam not in [lam * scale for scale in scales]:
        fitting = " or ".join(f"lam: {lam * scale:g}" for scale in scales)
        raise InputError("the recipe has another lambda", expected=fitting, got=f"{adapter.lam:g}")


def _other_counts(workspace: Workspace, counts: Ints, places: Ints, lam: float | None) -> InputError:
    """Why the item counts differ: other values of the same histories, which another recipe counts, or other histories."""
    wrong = []
    for kind, scale in (("binary", 1), ("rating", 1), ("rating", 4)):
        wrong.append(int((counts * scale != _counts(workspace, kind)[places]).sum()))
        if not wrong[-1]:
            fitting = f"weights: {kind}" + ("" if lam is None else f", lam: {lam * scale:g}")
            got = f"weights: {workspace.adapter.weights}"
            return InputError("the model was trained on other values of these histories", expected=fitting, got=got)
    return DataError(f"{_OTHERS}: {min(wrong)} of {len(counts)} item counts differ", hint=_OTHERS_HINT)


def _counts(workspace: Workspace, kind: str) -> Ints:
    """Per item of the workspace, the sum of its squared values: of ones (`binary`), or of the data's (`rating`)."""
    matrix = workspace.data.train.matrix(kind)
    return np.asarray(matrix.multiply(matrix).sum(axis=0), np.int64).ravel()


def _placed(workspace: Workspace, foreign: Any) -> tuple[Ints, Ints]:
    """The model's columns that stay, and the workspace's column of each. Ids may lack the source's prefix.

    An item that the workspace does not have goes if nobody had it: no weight from it or to it, and a count of 0 if there
    are counts. RecBole's padding is one, and so are items that were only tested on.
    """
    ours = list(workspace.data.items)
    size = len(foreign.weights)
    if foreign.items is None:
        if size != len(ours):
            what = "the model names no items, and has another number"
            raise DataError(what, expected=str(len(ours)), got=str(size), hint=NAMES_HINT)
        return np.arange(size), np.arange(size)
    known = {name: column for column, name in enumerate(ours)}
    known |= {name.partition("/")[2]: column for column, name in enumerate(ours)}
    found = np.array([known.get(str(name), -1) for name in foreign.items], np.int64)
    used = foreign.weights.any(axis=0) | foreign.weights.any(axis=1)
    if foreign.item_counts is not None:
        used |= np.asarray(foreign.item_counts) != 0
    unknown = [str(foreign.items[column]) for column in np.flatnonzero(used & (found < 0))]
    if unknown:
        raise DataError(f"{len(unknown)} items of the model are not in the workspace", got=", ".join(unknown[:5]))
    kept = np.flatnonzero(found >= 0)
    places = found[kept]
    if len(np.unique(places)) != len(places):
        raise DataError("two items of the model are one item of the workspace")
    if not len(places):
        raise DataError("no item of the model is in the workspace", expected=", ".join(ours[:3]))
    return kept, places


def _probes() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(0))
