"""What is published about requests: how many, by outcome, by method, by rung. No names, and no count that points at somebody.

Each table stands alone: a cross table of small counts would tell who got what. Small cells are folded together, and so is
the next larger one where a single folded cell could be had by subtraction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.core.styles import StyleRung
from expunge.workflow.rights.policy import RightsPolicy
from expunge.workflow.rights.terms import Action

FOLDED = "others, folded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A request that is done with. `method` and `rung` are empty where nothing was edited."""

    action: Action
    method: str = ""
    rung: StyleRung | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Counts by outcome, method and rung; `total` is None where even that is below the floor."""

    total: int | None
    floor: int
    outcomes: Mapping[str, int]
    methods: Mapping[str, int]
    rungs: Mapping[str, int]


def published(closed: Sequence[Closed], policy: RightsPolicy) -> Published:
    """Public counts of a closed period. Whoever publishes overlapping periods publishes their differences."""
    floor = policy.limits.published_floor
    return Published(
        total=len(closed) if len(closed) >= floor else None,
        floor=floor,
        outcomes=fold(Counter(one.action.value for one in closed), floor),
        methods=fold(Counter(one.method for one in closed if one.method), floor),
        rungs=fold(Counter(one.rung.value for one in closed if one.rung is not None), floor),
    )


def fold(counts: Mapping[str, int], floor: int) -> dict[str, int]:
    """Cells below the floor as one, with the next larger one where they are still below it together (so never one alone);
    nothing of them at all where no larger one is left."""
    small = sorted((count, name) for name, count in counts.items() if 0 < count < floor)
    large = sorted((count, name) for name, count in counts.items() if count >= floor)
    while small and large and sum(count for count, _ in small) < floor:
        small.append(large.pop(0))
    found = {name: count for count, name in sorted(large, key=lambda cell: cell[1])}
    folded = sum(count for count, _ in small)
    return {**found, FOLDED: folded} if folded >= floor else found
