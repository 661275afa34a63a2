"""What every rung of a recommender's ladder needs: the reason why it was not measured, and counts that are counts."""

from __future__ import annotations

from expunge.core.errors import CheckBroken
from expunge.core.protocols import CheckJob


def unmeasured(job: CheckJob, name: str) -> str:
    """Why the rung of the check `name` is missing: the workflow's own words, if it left any."""
    said = "" if job.ladder is None else job.ladder.unable.get(name, "")
    return said or "this was not measured on the model"


def whole(**counts: object) -> None:
    """Raises CheckBroken unless every one is a whole number from 0: a float or a bool is no count."""
    wrong = [name for name, n in counts.items() if isinstance(n, bool) or not isinstance(n, int) or n < 0]
    if wrong:
        got = ", ".join(f"{name} = {counts[name]!r:.40}" for name in wrong)
        raise CheckBroken("counts are whole numbers from 0", got=got)


def coarse(count: int) -> int:
    """Rounded down to a power of two: how many items somebody had is not for a certificate; that there were some is."""
    return 1 << (count.bit_length() - 1) if count > 0 else 0
