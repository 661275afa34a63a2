"""What every check must obey: a pass is earned with data, garbage never passes, and what is missing is said."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.codec import canonical, encode
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import Arms, CheckJob, Correctness, Deployed, Provenance
from expunge.testing.laws import Broken, Law, examine, has_card, require

_RECORDS, _POPULATION, _PAIRS, _ANCHORS, _HOLDOUT = 8, 60, 24, 24, 3_000
_GAP = 4.0
_DIGEST = "sha256:" + "ab" * 32


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A check with three jobs: nothing to look at, an honest candidate, and one that is wrong in every way."""

    name: str
    plugin: type
    empty: CheckJob
    honest: CheckJob
    garbage: CheckJob

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
)


def check_check(name: str) -> None:
    """Hold the registered check `name` to every law; raises Nonconforming with all that are broken."""
    require("checks", name, examine_check(registry.load("checks", name), name=name))


def examine_check(plugin: Any, *, name: str = "") -> tuple[Broken, ...]:
    """The broken laws of a check's class."""
    empty = CheckJob(limits=Limits(), guarantee=Guarantee.EXACT, seed=7)
    signals = registry.names("attacks")
    honest = replace(
        empty,
        signals=signals,
        arms=_arms(moved=0.0),
        deployed=_deployed(moved=0.0),
        correctness=_correctness(lost=0.0),
        provenance=provenance_example(),
    )
    garbage = replace(
        empty,
        signals=signals,
        arms=_arms(moved=-12.0),
        deployed=_deployed(moved=-12.0),
        correctness=_correctness(lost=0.5),
        provenance=replace(provenance_example(), candidate=provenance_example().original),
    )
    name = name or plugin.__name__.lower()
    return examine(CHECK_LAWS, Subject(name=name, plugin=plugin, empty=empty, honest=honest, garbage=garbage))


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
    if hasattr(left, "__dataclass_fields__"):
        return all(_same(getattr(left, name), getattr(right, name)) for name in left.__dataclass_fields__)
    return bool(left == right)
