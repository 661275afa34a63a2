"""Take in a linear recommender that another library trained: its weights give the counts, and the counts must be ours.

From B and lambda follow P and G (training.closed_form.adopt). If G is that of the workspace's users, entry by entry, the
model is the one that this recipe gives on them, whoever trained it, and deletions from it are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def adopt_foreign(workspace: Workspace, foreign: Any, run: Path) -> tuple[str, tuple[str, ...]]:
    """Write the model into `run`; returns its identity and what else in the artefact holds users.

    Raises InputError for anything but an EASE model under the workspace's own lambda, DataError where its counts are not
    those of the workspace's users.
    """
    adapter = workspace.adapter
    if not isinstance(adapter, LinearRecommender) or adapter.free:
        raise InputError("only EASE is taken in from elsewhere", got=workspace.recipe.family, hint="recipe: ease")
    if getattr(foreign, "weights", None) is None:
        raise InputError(f"{foreign.source} holds no item-to-item weights", hint="train the model here instead")
    _same_lambda(adapter, foreign)
    places = _places(workspace, foreign)
    recovered = adopt(foreign.weights, adapter.lam * foreign.values_times**2, foreign.item_counts)
    rows = adapter.rows(workspace.fit_job(run, absent=workspace.book.tombstones))
    sums = adapter.sums_of(rows)
    gram = np.zeros_like(sums)
    gram[np.ix_(places, places)] = recovered.gram
    wrong = int((gram != sums).sum())
    if wrong:
        raise DataError(
            f"the model was not made of these histories: {wrong} of {gram.size} counts differ",
            hint="the workspace's source, its options (test users, smallest ratings) and the model's data must be the same",
        )
    inverse = np.eye(len(sums)) / adapter.lam
    inverse[np.ix_(places, places)] = recovered.inverse
    if adapter.compared(adapter.model_of(sums, inverse), rows, sums, _probes()).derived > REFRESH_RESIDUAL:  # type: ignore[operator]
        inverse = adapter.derived(rows, sums)
    run.mkdir(parents=True, exist_ok=True)
    return adapter.save(run, sums, inverse), tuple(foreign.residues)


def _same_lambda(adapter: LinearRecommender, foreign: Any) -> None:
    found = foreign.regularisation
    if foreign.values_times != 1:
        raise InputError("the model was trained on halves of stars", hint="export it trained on ones")
    if found is not None and float(found) != adapter.lam:
        raise InputError("the recipe has another lambda", expected=f"lam: {float(found):g}", got=f"{adapter.lam:g}")


def _places(workspace: Workspace, foreign: Any) -> NDArray[np.int64]:
    """The workspace's column of each of the model's items. Ids may lack the source's prefix."""
    ours = list(workspace.data.items)
    size = len(foreign.weights)
    if foreign.items is None:
        if size != len(ours):
            raise DataError("the model names no items, and has another number", expected=str(len(ours)), got=str(size))
        return np.arange(size)
    known = {name: column for column, name in enumerate(ours)}
    known |= {name.partition("/")[2]: column for column, name in enumerate(ours)}
    unknown = [str(name) for name in foreign.items if str(name) not in known]
    if unknown:
        raise DataError(f"{len(unknown)} items of the model are not in the workspace", got=", ".join(unknown[:5]))
    places = np.array([known[str(name)] for name in foreign.items], np.int64)
    if len(np.unique(places)) != len(places):
        raise DataError("two items of the model are one item of the workspace")
    return places


def _probes() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(0))
