"""Powers of whole numbers as whole numbers of a small unit, so that sums of them are exact in any order."""

from __future__ import annotations

from fractions import Fraction
from functools import cache


@cache
def share(degree: int, power: Fraction, bits: int) -> int:
    """floor(2^bits / degree^power), exactly: the largest w with w^q degree^p <= 2^(bits q) for power = p / q; 0 for none."""
    if degree == 0:
        return 0
    p, q = power.numerator, power.denominator
    most, times = 1 << bits * q, degree**p
    found = int(2.0**bits * degree ** -float(power))
    while found**q * times > most:
        found -= 1
    while (found + 1) ** q * times <= most:
        found += 1
    return found
