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


def limit_level(attempt: int, artists: int = 1) -> float:
    """Level of each limit that lets attempt j pass: 1 - spent_alpha(.05, j), 97.5 % for the first. Of several `artists` who are
    judged at once each has an equal share of the error (Bonferroni). CheckBroken on j < 1 and on nobody."""
    if artists < 1:
        raise CheckBroken("somebody is judged", expected="one artist or more", got=str(artists))
    return 1 - spent_alpha(ERROR, attempt) / artists


def levels_said(attempt: int, artists: int = 1) -> str:
    """Both levels of an attempt, for a finding's reason."""
    return f"attempt {attempt}: passing at {100 * limit_level(attempt, artists):g} %, failing at {100 * LEVEL:g} %"
