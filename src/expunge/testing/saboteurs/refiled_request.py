"""Saboteur: a request that failed is filed again, to start with a fresh error budget."""

from __future__ import annotations

from typing import Any

from expunge.core.codec import loads
from expunge.core.errors import ExpungeError
from expunge.core.sabotage import Attempt, Scene


class RefiledRequest:
    """Files the block again, alone and together with somebody else's record, after an attempt on it has failed.

    What it does: one attempt fails; then new cases name the same records, so that the attempt might count as the first
    and be judged at the full alpha. Attempts are counted by keyed record handles across cases (VERDICTS section 4).
    Control: a request about other records does start at attempt 1.
    """

    caught_by: tuple[str, ...] = ("attempts",)

    def attempt(self, scene: Scene) -> Attempt:
        """Three cases about the same records, and one about another."""
        with scene.workspace() as owner:
            _number(owner, [scene.records[0]])
            again = _number(owner, [scene.records[0]])
            overlapping = _number(owner, [scene.records[0], scene.records[1]])
            fresh = _number(owner, [scene.records[2]])
        objection = None if fresh == 1 else f"a request about other records was counted as attempt {fresh}"
        if again <= 1 or overlapping <= again:
            return Attempt(accepted=True, by=f"counted as attempts {again} and {overlapping}", objection=objection)
        return Attempt(accepted=False, by="attempts", objection=objection)


def _number(owner: Any, records: list[str]) -> int:
    """Which attempt a new case about these records is counted as."""
    case = owner.request(ids=records)
    try:
        owner.run(case, ["finetune"])
    except ExpungeError as refused:  # not erased; the attempt counts all the same
        if refused.code not in ("not-erased", "held"):
            raise
    plans = sorted(case.folder.glob("plan-*.json"))
    return max((int(loads(plan.read_bytes(), what=plan.name)["attempt"]) for plan in plans), default=0)
