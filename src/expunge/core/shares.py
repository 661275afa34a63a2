"""What counts demonstrate about a share, in exact arithmetic: nothing is rounded, so a tie is a tie.

The limits are the one-sided 95 % limits of Clopper and Pearson 1934. A limit L of k in n is the share at which the tail
beyond k weighs exactly 1/20, so comparing L with a share needs that tail at that share, and never L itself: 1 of 1 has
the lower limit 1/20, which is not above .05, while a float of it is.
"""

from __future__ import annotations

from fractions import Fraction

MOST = 10_000
"""Trials that are added up exactly. More are taken for a forgery, and every question is answered the strict way."""
_SURE, _RARE = Fraction(19, 20), Fraction(1, 20)


def exceeds(hits: int, trials: int, share: float) -> bool:
    """Whether the lower limit of `hits` in `trials` lies above `share`: the share is demonstrably larger."""
    return _fewer(hits, trials, share, _SURE) > 0


def reaches(hits: int, trials: int, share: float) -> bool:
    """Whether the lower limit lies above `share` or on it."""
    return _fewer(hits, trials, share, _SURE) >= 0


def may_exceed(hits: int, trials: int, share: float) -> bool:
    """Whether the upper limit of `hits` in `trials` lies above `share`: the share is not shown to be that small."""
    return _fewer(hits + 1, trials, share, _RARE) > 0


def _fewer(hits: int, trials: int, share: float, level: Fraction) -> int:
    """1, 0 or -1: the chance of fewer than `hits` in `trials`, each with chance `share`, is above, at or below `level`.

    `share` lies in [0, 1) and is taken as it is written: .05 is 1/20, and not the float a little above it.
    """
    if trials > MOST:
        return 1
    chance = Fraction(str(share))
    win, lose = chance.numerator, chance.denominator - chance.numerator
    bar = level.numerator * chance.denominator**trials
    ways, heap = lose**trials, 0  # of 0 hits, then of 1, 2, ...; over the common denominator**trials
    for k in range(min(hits, trials + 1)):
        heap += ways * level.denominator
        if heap > bar:
            return 1
        ways = ways * (trials - k) * win // ((k + 1) * lose)
    return 0 if heap == bar else -1
