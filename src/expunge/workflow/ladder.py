"""Verification of a recommender: climb from structure (V0) to what lies downstream (V5), and measure the quality.

Everything is asked three times: of the candidate, of the original (can this see anything?), and of what the retained
users alone would give. The seed is drawn after the plan was logged, so nobody knows the probes beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, IntegrityError
from expunge.core.ladder import Algebra, Behaviour, Downstream, Ladder, LeftOut, Place, Ranking, ReadOut
from expunge.core.protocols import FitJob, HasSufficientStatistics
from expunge.stats.ranking_quality import RankingTally, by_items, quantile_segments
from expunge.training.checkpoint import load_tensors
from expunge.training.closed_form.compared import Compared
from expunge.training.closed_form.recommender import no_rows
from expunge.training.closed_form.recovered import UNREADABLE
from expunge.workflow.answers import KS, Answers, answers, depths, metrics, rows_of, said_of
from expunge.workflow.artefacts import inventory
from expunge.workflow.census import census_of
from expunge.workflow.execute import require_logged
from expunge.workflow.histories import shortened
from expunge.workflow.places import scratch
from expunge.workflow.read_out import compared, read

if TYPE_CHECKING:
    from expunge.workflow.execute import Executed
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

LARGEST = 4_000
"""A retraining is made beside every deletion while users or items are this few: the inverse costs the cube of the fewer."""
REACH = 500  # users whose reach is looked up
LONGEST = 900.0  # seconds that the training of a family without sums may take to be run again beside a deletion
NO_SUMS = "this family has no sums over users"
NO_TEST_USERS = (
    "no users were set apart to test on: `expunge init --option test_users=N` sets some apart, before training"
)
NO_PAIRS = "the weights hold no counts of pairs, so no history can be read out of them"


def climb(workspace: Workspace, resolution: Resolution, executed: Executed, seed: int) -> Ladder:
    """All rungs for one candidate."""
    _unchanged(workspace)
    summed = isinstance(workspace.adapter, HasSufficientStatistics)
    rungs: _Summed | _Trained = (_Summed if summed else _Trained)(workspace, resolution, executed, seed)
    census = census_of(workspace, resolution, executed)
    return Ladder(
        census=census,
        algebra=rungs.algebra(),
        read_out=rungs.read_out(),
        left_out=rungs.left_out(),
        behaviour=rungs.behaviour(),
        downstream=rungs.downstream(census.places),
        ranking=rungs.ranking(),
        unable=rungs.unable,
    )


class _Rungs:
    """Candidate and original, and a retraining on what is retained (`reference`) where one is made.

    `before` is the data that the original saw and `data` what is retained; `gone` are the rows of the request's slots as
    they were, `left` as they are to be (empty where users go).
    """

    def __init__(self, workspace: Workspace, resolution: Resolution, executed: Executed, seed: int) -> None:
        self.workspace, self.adapter, self.seed = workspace, workspace.adapter, seed
        self.before, self.data, self.leaves = workspace.data, workspace.data, workspace.book.leaves()
        self.slots, self.folder, self.executed = list(resolution.slots), executed.folder, executed
        self.files = {
            "candidate": executed.result.model,
            "original": workspace.root / workspace.served().run / "model.safetensors",
        }
        self.absent = frozenset(workspace.served().absent)
        if resolution.cut is None:
            self.absent |= frozenset(self.slots)
        else:
            left = shortened(workspace, resolution.cut)
            self.data, self.leaves = left.data, left.leaves
        self.gone = rows_of(self.adapter, self.before.train)[self.slots]
        self.left = rows_of(self.adapter, self.data.train)[self.slots] if resolution.cut else no_rows(self.gone)
        self.models: dict[str, Any] = {}
        self.why_not = ""
        self.unable: dict[str, str] = {}

    def _job(self, folder: Path) -> FitJob:
        """The training on what is retained, worked out here and not taken from the candidate."""
        job = self.workspace.fit_job(folder, absent=self.absent)
        return replace(job, data=self.data, leaves=self.leaves)

    def exact(self) -> NDArray[np.float64] | None:
        """(E,) what the model without the users says of their own items."""
        raise NotImplementedError

    def own(self, name: str) -> NDArray[np.float64]:
        """(E,) what a model says of the users' own items."""
        raise NotImplementedError

    reference: str

    def replayed(self) -> bool | None:
        """Does a restored original, with the deletions done again, come to the candidate? None with `why_not`."""
        raise NotImplementedError

    def downstream(self, places: Sequence[Place]) -> Downstream:
        """V5: what was made from older models, as it is now; and the way back, by the guard that every run starts with and
        by doing the deletions again."""
        found = inventory(self.workspace, self.executed, places)
        return Downstream(
            stale=found.stale,
            expiring=found.expiring,
            unknown=found.unknown,
            gone=found.gone,
            replayed=self.replayed(),
            why_not=self.why_not,
            refused=self._refuses_a_backup(),
        )

    def _refuses_a_backup(self) -> bool | None:
        """The original's file in the place of the candidate's, as a restore would put it."""
        if self.executed.record.digest == self.workspace.served().digest:
            return None
        try:
            require_logged(self.files["original"], self.executed.record.digest)
        except IntegrityError:
            return True
        return False

    def left_out(self) -> LeftOut | None:
        """V3: the same history is the fold-in for every model."""
        exact = self.exact()
        if exact is None:
            self.unable["left_out"] = self.why_not
            return None
        return LeftOut(
            candidate=self.own("candidate"),
            original=self.own("original"),
            exact=exact,
            user=np.repeat(np.arange(len(self.slots)), np.diff(self.gone.indptr)),
            reference=self.reference,
            scale=max(1.0, float(np.abs(exact).max(initial=0.0))),
        )

    @cached_property
    def _answers(self) -> Answers:
        return answers(self.adapter, self.data, self.models, self.workspace.config.quality.split)

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
            residual=found.residual,
        )

    def ranking(self) -> Ranking | None:
        """Quality on the test users, who are nobody's deletion."""
        if not len(self.data.test):
            self.unable["ranking"] = NO_TEST_USERS
            return None
        tallies = self._answers.tallies
        values = {name: metrics(tally, len(self.data.test), len(self.data.items)) for name, tally in tallies.items()}
        lengths = self._answers.shown
        groups = quantile_segments(lengths, 3)
        segments = {f"activity {name}": groups == k for k, name in enumerate(_THIRDS)}
        popularity = np.bincount(self.data.train.indices, minlength=len(self.data.items))
        return Ranking(
            candidate=values["candidate"],
            original=values["original"],
            reference=values.get("reference"),
            segments=segments,
            lists={name: tally.exposure(min(KS[0], len(self.data.items))) for name, tally in tallies.items()},
            split=said_of(self.workspace.config.quality.split, len(self.data.test)),
            by_items=_by_popularity(tallies, popularity, len(self.data.test)),
            popularity=popularity,
            users=int((np.diff(self.data.train.indptr) > 0).sum()),
        )


_THIRDS = ("low", "middle", "high")


def _by_popularity(
    tallies: Mapping[str, RankingTally], popularity: NDArray[np.int64], users: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """NDCG of the test users when only items of one third of the catalogue count, by how many training users have them."""
    thirds, depth = quantile_segments(popularity, 3), depths(len(popularity))[1]
    found: dict[str, dict[str, NDArray[np.float64]]] = {f"popularity {name}": {} for name in _THIRDS}
    for model in ("candidate", "original"):
        parts = by_items(tallies[model].ranks(depth), thirds, 3, depth)
        for name, part in zip(found, parts, strict=True):
            found[name][model] = np.full(users, np.nan)
            found[name][model][part.users] = part.values
    return found


class _Summed(_Rungs):
    """A family with sums: they are added up again from the retained users, and the rest follows from them."""

    reference = "the original without what was deleted, in closed form"

    def __init__(self, workspace: Workspace, resolution: Resolution, executed: Executed, seed: int) -> None:
        super().__init__(workspace, resolution, executed, seed)
        workspace.progress("rungs", 0, 2)
        self.foreign = self.adapter.foreign(self.files["candidate"])
        with ThreadPoolExecutor(2) as loader:  # beside the sums: both are large, and arithmetic on arrays needs no lock
            loading = {name: loader.submit(self.adapter.load, file) for name, file in self.files.items()}
            self.retained = self.adapter.rows(self._job(executed.folder))
            self.sums = self.adapter.sums_of(self.retained)
            self.models = {name: found.result() for name, found in loading.items()}
        workspace.progress("rungs", 1, 2)
        self.why_not = self._too_large()
        if not self.why_not:
            self.models["reference"] = self.adapter.model_of(self.sums, self.adapter.derived(self.retained, self.sums))
        workspace.progress("rungs", 2, 2)

    def _too_large(self) -> str:
        users = int((np.diff(self.retained.indptr) > 0).sum())
        if min(users, self.retained.shape[1]) <= LARGEST:
            return ""
        return f"no retraining was made: {users} users and {self.retained.shape[1]} items, at most {LARGEST} of one"

    def algebra(self) -> Algebra:
        """V1."""
        mine, before = (self._compared(name) for name in ("candidate", "original"))
        control = None if before.wrong else self._seen_of_another()
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
            control_wrong=None if control is None else control.wrong,
            control_derived=None if control is None else control.derived,
        )

    def _seen_of_another(self) -> Compared:
        """The candidate against sums without the user who stays and weighs most: is anybody seen?"""
        weights = np.asarray(abs(self.retained).sum(1)).ravel()
        rows = self.adapter.rows(replace(self._job(self.folder), absent=self.absent | {int(weights.argmax())}))
        generator = np.random.Generator(np.random.Philox(self.seed))
        found: Compared = self.adapter.compared(self.models["candidate"], rows, self.adapter.sums_of(rows), generator)
        return found

    def _compared(self, name: str) -> Compared:
        generator = np.random.Generator(np.random.Philox(self.seed))
        found: Compared = self.adapter.compared(self.models[name], self.retained, self.sums, generator)
        return found

    def read_out(self) -> ReadOut | None:
        """V2, from counts inverted out of what is served, or from those in the files, which V1 ties it to."""
        histories = [self.before.train.row(slot)[0] for slot in self.slots]
        most = self.workspace.config.quality.invert
        self.unable["weights_only"] = NO_PAIRS
        if any(len(one) == 0 for one in histories):
            return None
        try:
            found = {name: read(self.adapter, self.models[name], histories, most) for name in ("candidate", "original")}
        except DataError as error:
            if error.code != UNREADABLE:
                raise
            self.unable["weights_only"] = f"{error.message}: nothing can be read out of it"
            return None
        if found["candidate"] is None or found["original"] is None:
            return None
        del self.unable["weights_only"]
        everybody = self.adapter.pair_counts(self.models["original"]), self.before.train, self._some()
        return compared(found["candidate"], found["original"], histories, everybody)

    def _some(self) -> list[int]:
        """Users with a history, all or a drawn part."""
        users = np.flatnonzero(np.diff(self.retained.indptr) > 0)
        if len(users) > REACH:
            users = np.random.Generator(np.random.Philox(self.seed)).choice(users, REACH, replace=False)
        return [int(user) for user in users]

    @cached_property
    def _left_out(self) -> tuple[NDArray[np.float64], float | None]:
        found: tuple[NDArray[np.float64], float | None] = self.adapter.left_out(
            self.models["original"], self.gone, self.left
        )
        return found

    def exact(self) -> NDArray[np.float64]:
        """In closed form from the original."""
        return self._left_out[0]

    def own(self, name: str) -> NDArray[np.float64]:
        """Residuals, or scores of a counting family."""
        found: NDArray[np.float64] = self.adapter.own(self.models[name], self.gone)
        return found

    def replayed(self) -> bool:
        """The deletion done again on the original's sums, from the list of tombstones."""
        mine = self.adapter.sums_in(self.models["candidate"])
        return bool(self.adapter.replays(self.models["original"], self.gone, self.left, mine))


class _Trained(_Rungs):
    """A family that is trained: the recipe is run again on the retained users, from the original's seed.

    The weights are equal or they are not; nothing is estimated. A training too long to run beside a deletion leaves the
    rungs unclimbed.
    """

    reference = "a retraining without what was deleted, from the same seed"

    def __init__(self, workspace: Workspace, resolution: Resolution, executed: Executed, seed: int) -> None:
        super().__init__(workspace, resolution, executed, seed)
        self.models = {name: self.adapter.load(file) for name, file in self.files.items()}
        self.tensors = {name: load_tensors(file)[0] for name, file in self.files.items()}
        self.unable = {"weights_only": NO_SUMS}
        seconds = workspace.served().seconds
        if seconds > LONGEST:
            self.why_not = f"no retraining was made: it takes {seconds:.0f} s, at most {LONGEST:.0f} s are spent here"
            self.unable["algebra"] = self.why_not
            return
        self.seed_of_run = executed.record.seed
        with scratch(workspace) as folder:
            again = self._again(folder / "run", self.absent)
            self.models["reference"] = self.adapter.load(again)
            self.tensors["reference"] = load_tensors(again)[0]

    def _again(self, folder: Path, absent: frozenset[int]) -> Path:
        """The recipe run again without these slots; the file of its weights."""
        job = replace(self._job(folder), absent=absent, seed=self.seed_of_run, keep_checkpoints=False)
        model: Path = self.adapter.fit(job).model
        return model

    def _seen_of_another(self) -> int:
        """Weights that differ when the user who stays and has most events is left out as well: is anybody seen? It takes one
        more training, and is asked only where the weights did not have to change."""
        lengths = np.diff(self.data.train.indptr)
        lengths[list(self.absent)] = 0
        with scratch(self.workspace) as folder:
            again = self._again(folder / "run", self.absent | {int(lengths.argmax())})
            return _differing(self.tensors["candidate"], load_tensors(again)[0])

    def algebra(self) -> Algebra | None:
        """V1: every weight against the retraining's."""
        if "reference" not in self.tensors:
            return None
        wrong = {name: _differing(self.tensors[name], self.tensors["reference"]) for name in self.files}
        return Algebra(
            what="the recipe run again",
            unit="weights",
            entries=sum(tensor.numel() for tensor in self.tensors["reference"].values()),
            wrong=wrong["candidate"],
            original_wrong=wrong["original"],
            derived=None,
            derived_limit=0.0,
            original_derived=None,
            probes=0,
            control_wrong=None if wrong["original"] else self._seen_of_another(),
        )

    def read_out(self) -> None:
        """Weights of a trained family hold no counts."""

    def replayed(self) -> bool | None:
        """Nothing can be subtracted from a restored copy: the recipe is run again without the tombstones, and is the candidate
        in every weight or is not."""
        if "reference" not in self.tensors:
            return None
        return _differing(self.tensors["candidate"], self.tensors["reference"]) == 0

    def exact(self) -> NDArray[np.float64] | None:
        """From the retraining."""
        return self.own("reference") if "reference" in self.models else None

    def own(self, name: str) -> NDArray[np.float64]:
        """Scores."""
        where = np.repeat(np.arange(self.gone.shape[0]), np.diff(self.gone.indptr))
        found: NDArray[np.float64] = self.adapter.outputs(self.models[name], self.gone)[where, self.gone.indices]
        return found


def _differing(mine: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Weights that are not the same; those of a tensor that is missing, or of another shape, all count."""
    wrong = 0
    for name in mine.keys() | other.keys():
        first, second = mine.get(name), other.get(name)
        if first is None or second is None or first.shape != second.shape or first.dtype != second.dtype:
            wrong += max(part.numel() for part in (first, second) if part is not None)
        else:
            wrong += int((first != second).sum())
    return wrong


def _unchanged(workspace: Workspace) -> None:
    """The histories in the source are those whose leaves were logged. Raises DataError."""
    train, digests = workspace.data.train, workspace.book.digests
    wrong = sum(digest is not None and digest != train.content_digest(slot) for slot, digest in enumerate(digests))
    if wrong:
        raise DataError(
            f"{wrong} histories are not those that were ingested",
            hint="restore the source; a deletion is judged on the data that the log names",
        )
