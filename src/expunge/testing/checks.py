"""What every check must obey: a pass is earned with data, garbage never passes, and what is missing is said.

A check that is a Probe is run on real models too: a tiny bank whose X arm was retrained (honest) or has its last layer
turned round and blown up (garbage).
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.codec import canonical, encode
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import Arms, CheckJob, Coins, Correctness, Deployed, FitJob, Linkage, Measured, Provenance
from expunge.data._records import Dataset, ImageRecords
from expunge.testing.arms import Bench, Pair, Standing, retrained
from expunge.testing.ladders import garbage_ladder, honest_ladder
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.testing.style_evidence import garbage_styles, honest_styles
from expunge.testing.world import make_world, random_records, tree_digest
from expunge.training.checkpoint import load_tensors, save_tensors

_RECORDS, _POPULATION, _PAIRS, _ANCHORS, _HOLDOUT, _COINS = 8, 60, 24, 24, 3_000, 162
_GAP = 4.0
_PROBE_PAIRS = 8
_DIGEST = "sha256:" + "ab" * 32


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """Real models for probes: pairs, and the two X arms made from them."""

    bench: Bench
    pairs: list[Pair]
    honest: list[Standing]
    garbage: list[Standing]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A check with three jobs: nothing to look at, an honest candidate, and one that is wrong in every way.

    `zoo` is there for a check that is a Probe.
    """

    name: str
    plugin: type
    empty: CheckJob
    honest: CheckJob
    garbage: CheckJob
    zoo: Zoo | None = None

    def run(self, job: CheckJob) -> Any:
        """What a fresh instance answers on a copy of the job: a Finding, if it keeps its promise."""
        return self.plugin().run(copy.deepcopy(job))

    @property
    def jobs(self) -> tuple[CheckJob, ...]:
        """All three."""
        return self.empty, self.honest, self.garbage


def asks_one_question(subject: Subject) -> str | None:
    """`question` is text, the Finding repeats it, and the class has a docstring."""
    question: Any = getattr(subject.plugin, "question", "")
    if not isinstance(question, str) or not question.endswith("?"):
        return f"question is {question!r}"
    if subject.run(subject.empty).question != question:
        return "the finding answers another question"
    return has_card(subject.plugin)


def finding_is_valid_and_named(subject: Subject) -> str | None:
    """A Finding under the check's own name, without NaN, that can be written to a record."""
    for job in subject.jobs:
        found = subject.run(job)
        if not isinstance(found, Finding):
            return f"run returned {type(found).__name__}"
        if found.check != subject.name:
            return f"the finding is named {found.check!r}"
        if found.verdict not in tuple(Verdict):
            return f"verdict is {found.verdict!r}"
        canonical(encode(found))
    return None


def nothing_to_look_at_is_no_pass(subject: Subject) -> str | None:
    """An empty job is INCONCLUSIVE or UNVERIFIABLE with a reason; neither a pass nor a failure was seen."""
    found = subject.run(subject.empty)
    if found.verdict in (Verdict.PASS, Verdict.FAIL):
        return f"{found.verdict.value} on an empty job"
    return None if found.reason.strip() else "no reason is given"


def garbage_never_passes(subject: Subject) -> str | None:
    """A candidate that is over-unlearned, useless and has the original's transcript passes no check."""
    found = subject.run(subject.garbage)
    return "PASS on a candidate that is wrong in every way" if found.verdict is Verdict.PASS else None


def honest_candidate_does_not_fail(subject: Subject) -> str | None:
    """A candidate drawn like the references, with the transcript of an honest training."""
    found = subject.run(subject.honest)
    return f"FAIL on an honest candidate: {found.reason}" if found.verdict is Verdict.FAIL else None


def verdict_depends_on_the_candidate(subject: Subject) -> str | None:
    """Honest and garbage candidates do not get the same answer."""
    honest, garbage = subject.run(subject.honest), subject.run(subject.garbage)
    return "honest and garbage candidates get the same finding" if honest == garbage else None


def pass_shows_its_controls(subject: Subject) -> str | None:
    """A PASS carries n and the same statistic on the original: could this check see anything at all?"""
    found = subject.run(subject.honest)
    if found.verdict is not Verdict.PASS:
        return None
    return None if found.original is not None and found.n > 0 else "PASS without the control on the original"


def same_job_gives_the_same_finding(subject: Subject) -> str | None:
    """A finding can be recomputed: all randomness comes from the job's seed."""
    differ = any(subject.run(job) != subject.run(job) for job in subject.jobs)
    return "two runs of one job differ" if differ else None


def inputs_are_not_changed(subject: Subject) -> str | None:
    """All checks look at the same arms."""
    for job in subject.jobs:
        given = copy.deepcopy(job)
        subject.plugin().run(given)
        if not _same(given, job):
            return "the job was changed"
    return None


def probe_requires_a_capability(subject: Subject) -> str | None:
    """`requires` is a protocol that a registered family can meet."""
    if subject.zoo is None:
        return None
    requires: Any = getattr(subject.plugin, "requires", None)
    if not isinstance(requires, type):
        return f"requires is {requires!r}"
    return None if isinstance(subject.zoo.bench.world.adapter, requires) else f"no model has {requires.__name__}"


def probe_measures_the_same_of_every_model(subject: Subject) -> str | None:
    """Finite float arrays, the same names and shapes on OUT, IN and X."""
    if subject.zoo is None:
        return None
    zoo, seen = subject.zoo, set()
    for standing in (zoo.pairs[0].out, zoo.pairs[0].into, zoo.honest[0], zoo.garbage[0]):
        found = zoo.bench.measure(subject.plugin, [standing])[0]
        arrays = {name: np.asarray(values) for name, values in found.items()}
        wrong = [name for name, a in arrays.items() if a.dtype.kind != "f" or not np.isfinite(a).all() or not a.size]
        if wrong or not arrays:
            return f"not finite floats: {', '.join(wrong) or 'nothing'}"
        seen.add(tuple(sorted((name, a.shape) for name, a in arrays.items())))
    return None if len(seen) == 1 else f"names or shapes differ between models: {sorted(seen)}"


def probe_is_a_function_of_its_job(subject: Subject) -> str | None:
    """All randomness comes from the job's seed, so that every arm is asked the same."""
    if subject.zoo is None:
        return None
    first, second = (subject.zoo.bench.measure(subject.plugin, [subject.zoo.pairs[0].into])[0] for _ in range(2))
    same = all(np.array_equal(first[name], second[name]) for name in first)
    return None if same else "two measurements of one model differ"


def probe_changes_nothing(subject: Subject) -> str | None:
    """Neither the model nor a file outside the scratch folder; and the scratch folder is left empty."""
    if subject.zoo is None:
        return None
    bench, standing = subject.zoo.bench, subject.zoo.pairs[0].into
    job, images = bench.job(standing), bench.world.data.test.images
    files, answers = tree_digest(bench.world.folder), bench.world.adapter.outputs(job.model, images)
    subject.plugin().measure(job)
    if not np.array_equal(answers, bench.world.adapter.outputs(job.model, images)):
        return "the model answers otherwise after the probe"
    return None if tree_digest(bench.world.folder) == files else "files were changed or left behind"


CHECK_LAWS: tuple[Law[Subject], ...] = (
    asks_one_question,
    finding_is_valid_and_named,
    nothing_to_look_at_is_no_pass,
    garbage_never_passes,
    honest_candidate_does_not_fail,
    verdict_depends_on_the_candidate,
    pass_shows_its_controls,
    same_job_gives_the_same_finding,
    inputs_are_not_changed,
    probe_requires_a_capability,
    probe_measures_the_same_of_every_model,
    probe_is_a_function_of_its_job,
    probe_changes_nothing,
)


def check_check(name: str) -> None:
    """Hold the registered check `name` to every law; raises Nonconforming with all that are broken."""
    require("checks", name, examine_check(registry.load("checks", name), name=name))


def examine_check(plugin: Any, *, name: str = "", laws: Sequence[Law[Subject]] = CHECK_LAWS) -> tuple[Broken, ...]:
    """The broken laws of a check's class; those of a Probe on real models too."""
    return examine(laws, _subject(plugin, name or plugin.__name__.lower()))


def _subject(plugin: Any, name: str) -> Subject:
    empty = CheckJob(limits=Limits(), guarantee=Guarantee.EXACT, seed=7)
    signals = registry.names("attacks")
    honest = replace(
        empty,
        signals=signals,
        arms=_arms(moved=0.0),
        deployed=_deployed(moved=0.0),
        correctness=_correctness(lost=0.0),
        provenance=provenance_example(),
        linkage=_linkage(outside=0),
        coins=_coins(left=0.0),
        ladder=honest_ladder(),
        styles=honest_styles(),
    )
    garbage = replace(
        empty,
        signals=signals,
        arms=_arms(moved=-12.0),
        deployed=_deployed(moved=-12.0),
        correctness=_correctness(lost=0.5),
        provenance=replace(provenance_example(), candidate=provenance_example().original),
        linkage=_linkage(outside=3),
        coins=_coins(left=_GAP),
        ladder=garbage_ladder(),
        styles=garbage_styles(),
    )
    zoo = the_zoo() if hasattr(plugin, "measure") else None
    if zoo is not None and _can_measure(plugin, zoo):
        looked = zoo.bench.measured(plugin, zoo.pairs)
        honest = replace(honest, measured={f"checks/{name}": _with(zoo, plugin, looked, zoo.honest)})
        garbage = replace(garbage, measured={f"checks/{name}": _with(zoo, plugin, looked, zoo.garbage)})
    return Subject(name=name, plugin=plugin, empty=empty, honest=honest, garbage=garbage, zoo=zoo)


def _can_measure(plugin: Any, zoo: Zoo) -> bool:
    requires = getattr(plugin, "requires", None)
    return isinstance(requires, type) and isinstance(zoo.bench.world.adapter, requires)


def _with(zoo: Zoo, plugin: Any, looked: Measured, arm: list[Standing]) -> Measured:
    return replace(looked, unlearned=zoo.bench.measure(plugin, arm))


@cache
def the_zoo() -> Zoo:
    """A tiny bank of networks that memorise; trained once a process, its folder goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="expunge-testing-")
    _KEPT.append(folder)
    data = _with_canaries()
    world = make_world(Path(folder.name), data=data, epochs=15, batch=16, introduce=(0.0,), model={"width": 32})
    bench = Bench.of(world, range(_RECORDS), neighbours=6, retained=80)
    pairs = bench.pairs(_PROBE_PAIRS)
    return Zoo(
        bench=bench,
        pairs=pairs,
        honest=bench.unlearned("honest", pairs, retrained(world.adapter)),
        garbage=bench.unlearned("garbage", pairs, _turned_round),
    )


def _with_canaries() -> Dataset:
    """120 training records, the first of them mislabelled, and 150 unseen ones of the same classes."""
    data = random_records(270, (8, 8, 1), 4, seed=2)
    labels = data.train.labels.copy()
    labels[:_RECORDS] = (labels[:_RECORDS] + 1) % 4

    def part(rows: slice) -> ImageRecords:
        train = data.train
        return ImageRecords(
            ids=train.ids[rows], images=train.images[rows], labels=labels[rows], blocks=train.blocks[rows]
        )

    return replace(data, train=part(slice(0, 120)), test=part(slice(120, None)))


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _turned_round(job: FitJob, start: Path) -> Path:
    """The IN model with its last layer turned round and blown up: over-unlearned, useless, and damaged."""
    tensors, metadata = load_tensors(start)
    last = list(tensors)[-1].rpartition(".")[0]
    job.folder.mkdir(parents=True, exist_ok=True)
    target = job.folder / "model.safetensors"
    changed = {name: -8 * t if name.rpartition(".")[0] == last else t for name, t in tensors.items()}
    save_tensors(target, changed, metadata)
    return target


def _log_p(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return -np.logaddexp(0.0, -logits)


class _Models:
    """Draws models' answers about a block of records and about a population."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.Generator(np.random.Philox(seed))
        self.level = self.generator.normal(0, 1, _RECORDS)
        self.unseen = self.generator.normal(1, 1, _POPULATION)

    def block(self, count: int, moved: float) -> NDArray[np.float64]:
        return _log_p(self.level + moved + self.generator.standard_normal((count, _RECORDS)))

    def population(self, count: int) -> NDArray[np.float64]:
        return _log_p(self.unseen + 0.5 * self.generator.standard_normal((count, _POPULATION)))


def _arms(moved: float) -> Arms:
    models = _Models(3)
    return Arms(
        out=models.block(_PAIRS, 0.0),
        into=models.block(_PAIRS, _GAP),
        unlearned=models.block(_PAIRS, moved),
        out_population=models.population(_PAIRS),
        into_population=models.population(_PAIRS),
        unlearned_population=models.population(_PAIRS),
    )


def _deployed(moved: float) -> Deployed:
    models = _Models(4)
    return Deployed(
        candidate=models.block(1, moved),
        original=models.block(1, _GAP),
        out_anchors=models.block(_ANCHORS, 0.0),
        in_anchors=models.block(_ANCHORS, _GAP),
        candidate_population=models.population(1),
        original_population=models.population(1),
        out_population=models.population(_ANCHORS),
        in_population=models.population(_ANCHORS),
    )


def _correctness(lost: float) -> Correctness:
    generator = np.random.Generator(np.random.Philox(5))
    original = generator.random(_HOLDOUT) < 0.9
    spoilt = generator.random(_HOLDOUT) < lost
    return Correctness(
        labels=np.arange(_HOLDOUT) % 2,
        candidate=original & ~spoilt,
        original=original,
        references=generator.random((4, _HOLDOUT)) < 0.9,
        classes=("a", "b"),
    )


def _linkage(outside: int) -> Linkage:
    return Linkage(inside=0, outside=outside, recall=(59, 60), thresholds={"hash_agree": "8", "false_links": "0.01"})


def _coins(left: float) -> Coins:
    """162 canaries; the original scores heads `_GAP` SD above tails, the candidate `left`."""
    generator = np.random.Generator(np.random.Philox(8))
    trained = np.arange(_COINS) % 2 == 0
    draw = generator.standard_normal((2, _COINS))
    return Coins(trained=trained, candidate=draw[0] + left * trained, original=draw[1] + _GAP * trained)


def provenance_example() -> Provenance:
    """An honest candidate of two steps and one epoch, with the original's own transcript as control."""

    def transcript(order: str, end: str) -> list[dict[str, Any]]:
        return [
            {"kind": "start", "recipe": _DIGEST, "seed": _DIGEST},
            {"kind": "step", "step": 0, "epoch": 0, "order": order, "present": 7, "slots": 8, "lr": "0.1"},
            {"kind": "step", "step": 1, "epoch": 0, "order": "22" * 32, "present": 8, "slots": 8, "lr": "0.05"},
            {"kind": "epoch", "epoch": 0, "receipt": {"root": _DIGEST, "count": 15}},
            {"kind": "end", "step": 2, "model": end},
        ]

    candidate = transcript("11" * 32, _DIGEST)
    return Provenance(
        expected=candidate[1:4],
        candidate=candidate,
        original=transcript("33" * 32, "sha256:" + "cd" * 32),
        candidate_digest=_DIGEST,
        plan_index=4,
        result_index=9,
        forgotten=(0, 0),
        copies=0,
    )


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right)
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    if hasattr(left, "__dataclass_fields__"):
        return all(_same(getattr(left, name), getattr(right, name)) for name in left.__dataclass_fields__)
    return bool(left == right)
