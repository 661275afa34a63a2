"""What recommenders answer to test users whose histories are folded in: lists, distances to a retraining, quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError
from expunge.data._interactions import Histories
from expunge.stats.ranking import ItemLists
from expunge.stats.ranking_quality import RankingTally
from expunge.stats.ranking_splits import fold_in, global_time_split, leave_last_out
from expunge.stats.residual import ResidualSums

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

CHUNK = 500
KS = (20, 100)
PAST = 0.8  # of all events, for the split by time


def rows_of(adapter: Any, histories: Histories) -> Any:
    """(U, I): what a family sees of the users' histories; ones, where it does not say."""
    matrix = getattr(adapter, "matrix", None)
    return histories.matrix() if matrix is None else matrix(histories)


@dataclass(kw_only=True)
class Answers:
    """Models' answers to the test users' fold-in histories, whose lengths are `shown` (T,). `off`: the largest difference
    of a model's scores to those of the reference, `scale` the largest of these; empty and 0 without a reference. `residual`: the
    candidate's distance to the reference in units of the original's, over all scores; None without, or where that is 0."""

    tallies: Mapping[str, RankingTally]
    shown: NDArray[np.int64]
    off: Mapping[str, float]
    scale: float
    residual: float | None = None


def held_out(test: Histories, split: str) -> NDArray[np.bool_]:
    """(E,) the test users' events that have to be guessed. Raises DataError where a split needs times that are not there."""
    if split == "fold-in":
        return fold_in(test.ids, test.indptr, test.indices, key="expunge")  # type: ignore[arg-type]
    if test.times is None:
        raise DataError(f"split {split!r} needs times", hint="quality.split: fold-in, or a source with times")
    if split == "last":
        return leave_last_out(test.indptr, test.indices, test.times)
    return global_time_split(test.times, PAST)


def said_of(split: str, users: int) -> str:
    """A split in words."""
    how = {"fold-in": "a fifth of each history held out", "last": "each user's last event held out"}
    later = "what came after four fifths of all events held out"
    return f"strong generalisation, {users} test users, {how.get(split, later)}"


def answers(adapter: Any, data: Any, models: Mapping[str, Any], split: str = "fold-in") -> Answers:
    """Every model on every test user, `CHUNK` users at a time; one of them may be called `reference`."""
    test: Histories = data.test
    held = held_out(test, split)
    seen, out = test.keep(~held), test.keep(held)
    shown, wanted = (ItemLists.of(part.indptr, part.indices, len(part.items)) for part in (seen, out))
    tallies = {name: RankingTally(shown, wanted, depths(len(test.items))) for name in models}
    rows, scale, off, sums = rows_of(adapter, seen), 0.0, dict.fromkeys(models, 0.0), ResidualSums()
    for start in range(0, len(test), CHUNK):
        users = np.arange(start, min(start + CHUNK, len(test)))
        scores = {name: adapter.outputs(model, rows[users]) for name, model in models.items()}
        for name, found in scores.items():
            tallies[name].add(users, found)
            if "reference" in scores:
                off[name] = max(off[name], float(np.abs(found - scores["reference"]).max(initial=0.0)))
        if "reference" in scores:
            scale = max(scale, float(np.abs(scores["reference"]).max(initial=0.0)))
        if {"candidate", "original", "reference"} <= scores.keys():
            sums.add(scores["candidate"], scores["original"], scores["reference"])
    known = off if "reference" in models else {}
    return Answers(tallies=tallies, shown=np.diff(seen.indptr), off=known, scale=scale, residual=sums.ratio)


def quality(workspace: Workspace) -> dict[str, float]:
    """Mean NDCG and Recall of the served model on its test users, by name; empty without test users."""
    if not len(workspace.data.test):
        return {}
    model = workspace.adapter.load(workspace.root / workspace.served().run / "model.safetensors")
    split = workspace.config.quality.split
    tally = answers(workspace.adapter, workspace.data, {"served": model}, split).tallies["served"]
    return {
        name: float(np.nanmean(values))
        for name, values in metrics(tally, len(workspace.data.test), len(workspace.data.items)).items()
    }


def depths(items: int) -> tuple[int, ...]:
    """Lengths of lists; a catalogue shorter than a list is listed whole."""
    return tuple(min(k, items) for k in KS)


def metrics(tally: RankingTally, users: int, items: int) -> dict[str, NDArray[np.float64]]:
    """Recall and NDCG by name, (T,), NaN for a user with nothing held out."""
    short, long = depths(items)
    found = {}
    for name, values in ((f"NDCG@{KS[1]}", tally.ndcg(long)), (f"Recall@{KS[0]}", tally.recall(short))):
        found[name] = np.full(users, np.nan)
        found[name][values.users] = values.values
    return found
