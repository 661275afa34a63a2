"""Repeated attempts on one subject share one error budget (VERDICTS section 4)."""

from __future__ import annotations

from expunge.core.errors import CheckBroken

MAX_ATTEMPT = 60
"""Far beyond any policy; later there is nothing left to spend."""


def spent_alpha(alpha: float, attempt: int) -> float:
    """What attempt j = 1, 2, … may spend: alpha · 2⁻ʲ, so that all attempts together stay below alpha.

    Failed attempts count; re-filing a request does not bring the budget back. Raises CheckBroken on j < 1 or an
    alpha outside (0, 1).
    """
    if not 1 <= attempt <= MAX_ATTEMPT:
        raise CheckBroken(f"attempts are counted from 1 to {MAX_ATTEMPT}", got=str(attempt))
    if not 0 < alpha < 1:
        raise CheckBroken("alpha is a probability between 0 and 1", got=str(alpha))
    return alpha * 2.0**-attempt
