"""Does the log say that the candidate was trained on the retained records only, and nothing else?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expunge.core.finding import Condition, Finding, Verdict, worst
from expunge.core.protocols import CheckJob
from expunge.core.protocols import Provenance as Evidence

Lines = Sequence[Mapping[str, Any]]
_NO_ORIGINAL = "no original transcript to compare with"


class Provenance:
    """Compares the candidate's transcript, line by line, with what recipe, seed and retained manifest dictate.

    Every step's ordered commitment and every epoch's loader receipt must be the ones of an honest training without the
    records. It rests on the owner's log: a forged transcript of another training passes here, and only recomputation by
    somebody else (`expunge recompute`) turns it into a fact (Thudi et al. 2022, arXiv 2110.11891).
    Control: the original's transcript, held to the same lines, must not fit. An adopted original has no transcript:
    then what compares with it is UNVERIFIABLE and counts for nothing, and the reason says so. There is no reference:
    the lines are fixed by recipe and manifest, not measured on other models.
    """

    question = "Was the candidate trained on the retained records only, as its log tells it?"

    def run(self, job: CheckJob) -> Finding:
        """PASS when every line fits and the control, if there is one, does not; FAIL with everything that is wrong."""
        evidence = job.provenance
        if evidence is None:
            return self._finding(Verdict.INCONCLUSIVE, "the candidate has no transcript", 0, ())
        conditions = (
            _condition("no forgotten record in the retained manifest", evidence.forgotten[0] == 0),
            _condition("no step or epoch differs from the retained recipe", not _differences(evidence)),
            _condition("content that stays is listed as a copy", evidence.copies > 0 or evidence.forgotten[1] == 0),
            _condition("starts from its own initialisation", not _inherits(evidence.candidate)),
            _same_start(evidence),
            _condition("ends with the candidate's weights", _end(evidence.candidate) == evidence.candidate_digest),
            _condition("the plan was logged before the result", evidence.plan_index < evidence.result_index),
            _control(evidence),
        )
        judged = tuple(c.verdict for c in conditions if c.verdict is not Verdict.UNVERIFIABLE)
        verdict = worst(judged)
        return self._finding(verdict, _reason(evidence, conditions), len(evidence.expected), conditions, evidence)

    def _finding(
        self,
        verdict: Verdict,
        reason: str,
        n: int,
        conditions: tuple[Condition, ...],
        evidence: Evidence | None = None,
    ) -> Finding:
        differences = None if evidence is None else float(_differences(evidence))
        original = None if evidence is None else _control(evidence).estimate
        return Finding(
            check="provenance",
            question=self.question,
            statistic="transcript lines that differ from the retained recipe (count)",
            verdict=verdict,
            reason=reason,
            estimate=differences,
            limit=0.0,
            original=original,
            n=n,
            conditions=conditions,
            details={"copies_outside_request": str(evidence.copies)} if evidence is not None else {},
        )


def _lines(transcript: Lines) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key != "chain"}
        for line in transcript
        if line["kind"] in ("step", "epoch")
    ]


def _mismatches(transcript: Lines, expected: Lines) -> int:
    found = _lines(transcript)
    pairs = sum(dict(left) != dict(right) for left, right in zip(found, expected, strict=False))
    return pairs + abs(len(found) - len(expected))


def _differences(evidence: Evidence) -> int:
    return _mismatches(evidence.candidate, evidence.expected)


def _inherits(transcript: Lines) -> bool:
    return any("from" in line for line in transcript if line["kind"] == "start")


def _same_start(evidence: Evidence) -> Condition:
    """Momentum, weight decay, augmentation and the like show in no step line; the start lines commit to all of them.

    An original without a transcript (adopted) has none to compare with.
    """
    name, mine = "same recipe, numerics and seed as the original", _starts(evidence.candidate)
    if mine and not evidence.original:
        return Condition(name=name, verdict=Verdict.UNVERIFIABLE, note=_NO_ORIGINAL)
    return _condition(name, bool(mine) and mine == _starts(evidence.original))


def _control(evidence: Evidence) -> Condition:
    """The original saw the records, so it must not fit; a transcript that is not there proves no such thing."""
    name = "control: the original does not fit"
    if not evidence.original:
        return Condition(name=name, verdict=Verdict.UNVERIFIABLE, note=_NO_ORIGINAL)
    misfits = _mismatches(evidence.original, evidence.expected)
    verdict = Verdict.PASS if misfits > 0 else Verdict.FAIL
    return Condition(name=name, verdict=verdict, estimate=float(misfits), note="lines of the original that differ")


def _starts(transcript: Lines) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in ("chain", "from")}
        for line in transcript
        if line["kind"] == "start"
    ]


def _end(transcript: Lines) -> str | None:
    ends = [line for line in transcript if line["kind"] in ("end", "joined")]
    return str(ends[-1]["model"]) if ends else None


def _condition(name: str, holds: bool) -> Condition:
    return Condition(name=name, verdict=Verdict.PASS if holds else Verdict.FAIL)


def _reason(evidence: Evidence, conditions: tuple[Condition, ...]) -> str:
    failed = [condition.name for condition in conditions if condition.verdict is Verdict.FAIL]
    if failed:
        return f"does not hold: {'; '.join(failed)}; {_compared(evidence)}"
    copies = f"; {evidence.copies} other records have the same content and stay" if evidence.copies else ""
    lines = f"all {len(evidence.expected)} logged steps and epochs read retained records only, as logged by the owner"
    return f"{lines}{copies}; {_compared(evidence)}"


def _compared(evidence: Evidence) -> str:
    """What the control is; there is no reference model."""
    if not evidence.original:
        return f"{_NO_ORIGINAL}: neither the control nor its recipe and seed were compared"
    return "the control is the original's own transcript, no reference model was measured"
