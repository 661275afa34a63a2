"""Repeated attempts on one subject share one error budget (VERDICTS section 4)."""

from __future__ import annotations

from expunge.core.errors import CheckBroken

MAX_ATTEMPT = 60
"""Far beyond any policy; later there is nothing left to spend."""
ERROR, LEVEL = 0.05, 0.95
"""Where a check has one-sided limits of a level of its own: the error that all attempts share, and the level of what fails, the
same at every attempt. It is also that of what passes where no attempts are counted, as in a benchmark."""


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


def limit_level(attempt: int) -> float:
    """Level of each limit that lets attempt j pass: 1 - spent_alpha(.05, j), 97.5 % for the first. CheckBroken on j < 1."""
    return 1 - spent_alpha(ERROR, attempt)


def levels_said(attempt: int) -> str:
    """Both levels of an attempt, for a finding's reason."""
    return f"attempt {attempt}: passing at {100 * limit_level(attempt):g} %, failing at {100 * LEVEL:g} %"
