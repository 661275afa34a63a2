"""Verification of a recommender: climb from structure (V0) to what lies downstream (V5), and measure the quality.

Everything is asked three times: of the candidate, of the original (can this see anything?), and of what the retained
users alone would give. The seed is drawn after the plan was logged, so nobody knows the probes beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError
from expunge.core.ladder import Algebra, Behaviour, Downstream, Ladder, LeftOut, Ranking, ReadOut
from expunge.core.protocols import HasSufficientStatistics
from expunge.data._interactions import Histories
from expunge.stats.ranking import ItemLists
from expunge.stats.ranking_quality import RankingTally, quantile_segments
from expunge.stats.ranking_splits import fold_in
from expunge.training.closed_form.compared import Compared
from expunge.training.closed_form.readout import reach, refutes
from expunge.workflow.census import census_of

if TYPE_CHECKING:
    from expunge.workflow.execute import Executed
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

LARGEST = 4_000
"""A retraining is made beside every deletion while users or items are this few: the inverse costs the cube of the fewer."""
CHUNK = 500
KS = (20, 100)
REACH = 500  # users whose reach is looked up
NO_SUMS = "this family has no sums over users"


@dataclass(kw_only=True)
class Answers:
    """Models' answers to the test users' fold-in histories, whose lengths are `shown` (T,). `off`: the largest difference
    of a model's scores to those of the reference, `scale` the largest of these; empty and 0 without a reference."""

    tallies: Mapping[str, RankingTally]
    shown: NDArray[np.int64]
    off: Mapping[str, float]
    scale: float


def answers(adapter: Any, data: Any, models: Mapping[str, Any]) -> Answers:
    """Every model on every test user, `CHUNK` users at a time; one of them may be called `reference`."""
    test: Histories = data.test
    held = fold_in(test.ids, test.indptr, test.indices, key="expunge")  # type: ignore[arg-type]
    seen, out = test.keep(~held), test.keep(held)
    shown, wanted = (ItemLists.of(part.indptr, part.indices, len(part.items)) for part in (seen, out))
    tallies = {name: RankingTally(shown, wanted, _depths(len(test.items))) for name in models}
    rows, scale, off = adapter.matrix(seen), 0.0, dict.fromkeys(models, 0.0)
    for start in range(0, len(test), CHUNK):
        users = np.arange(start, min(start + CHUNK, len(test)))
        scores = {name: adapter.outputs(model, rows[users]) for name, model in models.items()}
        for name, found in scores.items():
            tallies[name].add(users, found)
            if "reference" in scores:
                off[name] = max(off[name], float(np.abs(found - scores["reference"]).max(initial=0.0)))
        if "reference" in scores:
            scale = max(scale, float(np.abs(scores["reference"]).max(initial=0.0)))
    known = off if "reference" in models else {}
    return Answers(tallies=tallies, shown=np.diff(seen.indptr), off=known, scale=scale)


def quality(workspace: Workspace) -> dict[str, float]:
    """Mean NDCG and Recall of the served model on its test users, by name; empty without test users."""
    if not len(workspace.data.test):
        return {}
    model = workspace.adapter.load(workspace.root / workspace.served().run / "model.safetensors")
    tally = answers(workspace.adapter, workspace.data, {"served": model}).tallies["served"]
    return {
        name: float(np.nanmean(values))
        for name, values in _metrics(tally, len(workspace.data.test), len(workspace.data.items)).items()
    }


def climb(workspace: Workspace, resolution: Resolution, executed: Executed, seed: int) -> Ladder:
    """All rungs for one candidate."""
    if not isinstance(workspace.adapter, HasSufficientStatistics):
        names = ("algebra", "weights_only", "left_out")
        return Ladder(census=census_of(workspace, resolution, executed), unable=dict.fromkeys(names, NO_SUMS))
    asked = _Asked(workspace, resolution, executed, seed)
    unable = dict(asked.unable)
    return Ladder(
        census=census_of(workspace, resolution, executed),
        algebra=asked.algebra(),
        read_out=asked.read_out(),
        left_out=asked.left_out(),
        behaviour=asked.behaviour(),
        downstream=asked.downstream(),
        ranking=asked.ranking(),
        unable=unable,
    )


class _Asked:
    """Candidate, original and the sums of the retained users, each loaded or added up once."""

    def __init__(self, workspace: Workspace, resolution: Resolution, executed: Executed, seed: int) -> None:
        self.adapter, self.data, self.seed = workspace.adapter, workspace.data, seed
        self.slots = list(resolution.slots)
        original = workspace.root / workspace.served().run / "model.safetensors"
        absent = frozenset(executed.record.absent) | frozenset(self.slots)
        workspace.progress("rungs", 0, 2)
        _unchanged(workspace)
        self.foreign = self.adapter.foreign(executed.result.model)
        with ThreadPoolExecutor(2) as loader:  # beside the sums: both are large, and arithmetic on arrays needs no lock
            files = {"candidate": executed.result.model, "original": original}
            loading = {name: loader.submit(self.adapter.load, file) for name, file in files.items()}
            self.retained = self.adapter.rows(workspace.fit_job(executed.folder, absent=absent))
            self.sums = self.adapter.sums_of(self.retained)
            self.models = {name: found.result() for name, found in loading.items()}
        self.gone = self.adapter.matrix(self.data.train)[self.slots]
        self.why_not = self._too_large()
        workspace.progress("rungs", 1, 2)
        if not self.why_not:
            self.models["reference"] = self.adapter.model_of(self.sums, self.adapter.derived(self.retained, self.sums))
        workspace.progress("rungs", 2, 2)

    @property
    def unable(self) -> Mapping[str, str]:
        """Rungs that cannot be climbed here."""
        if self.adapter.pair_counts(self.models["original"]) is None:
            return {"weights_only": "the weights hold no counts of pairs, so no history can be read out of them"}
        return {}

    def _too_large(self) -> str:
        users = int((np.diff(self.retained.indptr) > 0).sum())
        if min(users, self.retained.shape[1]) <= LARGEST:
            return ""
        return f"no retraining was made: {users} users and {self.retained.shape[1]} items, at most {LARGEST} of one"

    def algebra(self) -> Algebra:
        """V1."""
        mine, before = (self._compared(name) for name in ("candidate", "original"))
        return Algebra(
            what=self.adapter.label,
            entries=mine.entries,
            wrong=mine.wrong + self.foreign,
            original_wrong=before.wrong,
            derived=mine.derived,
            derived_limit=mine.limit,
            original_derived=before.derived,
            probes=4,
            leverage=self._left_out[1],
        )

    def _compared(self, name: str) -> Compared:
        generator = np.random.Generator(np.random.Philox(self.seed))
        found: Compared = self.adapter.compared(self.models[name], self.retained, self.sums, generator)
        return found

    def read_out(self) -> ReadOut | None:
        """V2, from the counts in the files; V1 ties the inverse that is served to them."""
        counts = {name: self.adapter.pair_counts(self.models[name]) for name in ("candidate", "original")}
        histories = [self.data.train.row(slot)[0] for slot in self.slots]
        if counts["candidate"] is None or counts["original"] is None or any(len(found) == 0 for found in histories):
            return None
        open_book = [found for found in histories if _readable(counts["original"], found)]
        return ReadOut(
            candidate=tuple(_ruled_out(counts["candidate"], found) for found in histories),
            original=tuple(_ruled_out(counts["original"], found) for found in histories),
            read_before=len(open_book),
            read_after=sum(_readable(counts["candidate"], found) for found in open_book),
            reach=reach(counts["original"], self.data.train, self._some()),
        )

    def _some(self) -> list[int]:
        """Users with a history, all or a drawn part."""
        users = np.flatnonzero(np.diff(self.retained.indptr) > 0)
        if len(users) > REACH:
            users = np.random.Generator(np.random.Philox(self.seed)).choice(users, REACH, replace=False)
        return [int(user) for user in users]

    @cached_property
    def _left_out(self) -> tuple[NDArray[np.float64], float | None]:
        found: tuple[NDArray[np.float64], float | None] = self.adapter.left_out(self.models["original"], self.gone)
        return found

    def left_out(self) -> LeftOut:
        """V3: the same history is the fold-in for every model."""
        values = {name: self.adapter.own(self.models[name], self.gone) for name in ("candidate", "original")}
        exact = self._left_out[0]
        return LeftOut(
            candidate=values["candidate"],
            original=values["original"],
            exact=exact,
            user=np.repeat(np.arange(len(self.slots)), np.diff(self.gone.indptr)),
            reference="the original without the users, in closed form",
            scale=max(1.0, float(np.abs(exact).max(initial=0.0))),
        )

    @cached_property
    def _answers(self) -> Answers:
        return answers(self.adapter, self.data, self.models)

    def behaviour(self) -> Behaviour | None:
        """V4: lists of people who stay, beside those that a retraining gives them."""
        if not len(self.data.test):
            return None
        found = self._answers
        lists = {name: tally.lists(min(KS[0], len(self.data.items))) for name, tally in found.tallies.items()}
        return Behaviour(
            items=len(self.data.items),
            candidate=lists["candidate"],
            original=lists["original"],
            reference=lists.get("reference"),
            largest=found.off.get("candidate"),
            original_largest=found.off.get("original"),
            scale=found.scale,
            why_not=self.why_not,
        )

    def downstream(self) -> Downstream:
        """V5: a restored original, with the deletion done again from the list of tombstones, has the retained sums."""
        again = self.adapter.replays(self.models["original"], self.gone, self.sums)
        return Downstream(stale=(), expiring=(), replayed=bool(again))

    def ranking(self) -> Ranking | None:
        """Quality on the test users, who are nobody's deletion."""
        if not len(self.data.test):
            return None
        tallies = self._answers.tallies
        values = {name: _metrics(tally, len(self.data.test), len(self.data.items)) for name, tally in tallies.items()}
        lengths = self._answers.shown
        groups = quantile_segments(lengths, 3)
        segments = {f"activity {name}": groups == k for k, name in enumerate(("low", "middle", "high"))}
        return Ranking(
            candidate=values["candidate"],
            original=values["original"],
            reference=values.get("reference"),
            segments=segments,
            lists={name: tally.exposure(min(KS[0], len(self.data.items))) for name, tally in tallies.items()},
            split=f"strong generalisation, {len(self.data.test)} test users, a fifth of each history held out",
        )


def _unchanged(workspace: Workspace) -> None:
    """The histories in the source are those whose leaves were logged. Raises DataError."""
    train, digests = workspace.data.train, workspace.book.digests
    wrong = sum(digest is not None and digest != train.content_digest(slot) for slot, digest in enumerate(digests))
    if wrong:
        raise DataError(
            f"{wrong} histories are not those that were ingested",
            hint="restore the source; a deletion is judged on the data that the log names",
        )


def _depths(items: int) -> tuple[int, ...]:
    """Lengths of lists; a catalogue shorter than a list is listed whole."""
    return tuple(min(k, items) for k in KS)


def _metrics(tally: RankingTally, users: int, items: int) -> dict[str, NDArray[np.float64]]:
    """Recall and NDCG by name, (T,), NaN for a user with nothing held out."""
    short, long = _depths(items)
    found = {}
    for name, values in ((f"NDCG@{KS[1]}", tally.ndcg(long)), (f"Recall@{KS[0]}", tally.recall(short))):
        found[name] = np.full(users, np.nan)
        found[name][values.users] = values.values
    return found


def _ruled_out(counts: NDArray[Any], history: NDArray[np.int32]) -> str:
    return refutes(counts, history).by


def _readable(counts: NDArray[Any], history: NDArray[np.int32]) -> bool:
    """Is there an item with one owner whose row is exactly this history?"""
    lonely = history[np.diagonal(counts)[history] == 1]
    return any(np.array_equal(np.flatnonzero(counts[item]), history) for item in lonely.tolist())
