"""Where a bank of works can be built for a text-to-image model: artists few enough to each other, and others to compare with."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from expunge.core.errors import InputError
from expunge.data._pictures import PictureSet
from expunge.farm.bank import MAX_BLOCK_SHARE

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

LEAST_TEST_WORKS = 20
"""Of works that no training saw; some attacks compare with as many (`rmia`, `quantile`)."""


def check_bankable_works(workspace: Workspace) -> None:
    """Raises InputError where a bank of works could judge nobody, or nobody would ask it."""
    if workspace.served().adopted:
        raise InputError(
            "no bank judges a model that was trained elsewhere: nobody here can train its like",
            hint="expunge selftest, then expunge request; it can be edited",
        )
    policy = workspace.policy
    if not policy.attacks or not any("membership" in rules for rules in policy.guarantees.values()):
        raise InputError(
            "the policy asks no bank",
            expected="attacks, and `membership` under a guarantee",
            got=f"policy {policy.name!r}",
            hint="take both from the policy of a new workspace (docs/guides/text-to-image.md)",
        )
    _check_shares(workspace)
    if len(workspace.data.test) < LEAST_TEST_WORKS:
        raise InputError(
            "too few test works to compare an artist with",
            expected=f"{LEAST_TEST_WORKS} that are never trained on, in test/ of the folder",
            got=str(len(workspace.data.test)),
            hint="put works aside in test/metadata.jsonl, and start a workspace",
        )


def _check_shares(workspace: Workspace) -> None:
    """Somebody has to be judged by all those trainings."""
    absent = frozenset(workspace.served().absent)
    works = Counter(block for slot, block in enumerate(workspace.book.blocks) if block and slot not in absent)
    least, total = min(works.values()), sum(works.values())
    if least > MAX_BLOCK_SHARE * total:
        raise InputError(
            "no artist is small enough for a bank test",
            expected=f"an artist with at most 1 % of the works, of these {total}",
            got=f"{least} works of the one with the fewest",
            hint="expunge selftest, then expunge request; the proof is `provenance`, with a bank and without",
        )


def asked_of_works(data: Any) -> dict[str, int]:
    """What a bank's spec holds of works beside their source: no artist is judged for having few works only."""
    return {"small_block": 0} if isinstance(data, PictureSet) else {}
