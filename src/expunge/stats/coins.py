"""One-run deletion canaries: m fair coins held by the verifier, heads trained and then deleted, tails never seen.

If deletion left nothing, no guess is right more often than a coin. The bound holds for this run, these canaries and
this attack (VERDICTS section 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import booleans, finite
from expunge.stats.intervals import by_score, constant, share_at_least, share_at_most

MAX_COINS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinAudit:
    """`correct` of `coins` guesses; `low` and `high` are one-sided Clopper-Pearson limits of the accuracy at `level`."""

    correct: int
    coins: int
    low: float
    high: float
    level: float

    @property
    def accuracy(self) -> float:
        """Share of correct guesses; .5 is what a coin gets."""
        return self.correct / self.coins

    @property
    def worst(self) -> float:
        """Upper limit for whoever reads the score either way round: guesses that are wrong too often leak as much.

        It holds at 2·level − 1 (both one-sided limits)."""
        return max(self.high, 1 - self.low)


def audit_coins(scores: ArrayLike, trained: ArrayLike, level: float = 0.95, seed: int = 0) -> CoinAudit:
    """Guess "trained" for the upper half of the scores (m,), and count.

    The cut is the median of all scores: it looks at no coin, so with nothing left every guess is right with
    probability ½, independently, and the limits are exact. Ties at the cut go by a seeded draw and not by position, which
    may follow the coin. Scores that do not vary guess nothing: the limits are then 0 and 1.
    """
    values = finite("scores", scores, (None,))
    coins = booleans("trained", trained, (values.size,))
    if values.size < 2:
        raise CheckBroken("at least 2 canaries expected", got=str(values.size))
    if constant(values):
        return CoinAudit(correct=values.size // 2, coins=int(values.size), low=0.0, high=1.0, level=level)
    guess = np.zeros(values.size, bool)
    guess[by_score(values, seed)[values.size // 2 :]] = True
    correct, m = int((guess == coins).sum()), int(values.size)
    low, high = share_at_least(correct, m, level), share_at_most(correct, m, level)
    return CoinAudit(correct=correct, coins=m, low=low, high=high, level=level)


def needed_coins(accuracy: float, *, power: float = 0.8, level: float = 0.95) -> int:
    """Coins from which on a deletion that left nothing shows "accuracy below this" with the wanted power: every larger
    number does too. Power moves in steps, so single smaller numbers may happen to reach it."""
    if not (0.5 < accuracy < 1 and 0 < power < 1 and 0 < level < 1):
        raise CheckBroken("an accuracy in (.5, 1) and a power in (0, 1) expected", got=f"{accuracy} and {power}")
    wanted = (float(special.ndtri(level)) + max(0.0, float(special.ndtri(power)))) / (2 * (accuracy - 0.5))
    m = int(1.5 * wanted**2) + 50
    if m > MAX_COINS:
        raise CheckBroken("the accuracy asked for is too close to ½", got=str(accuracy))
    while m > 1 and coin_power(m - 1, accuracy, level) >= power:
        m -= 1
    return m


def coin_power(coins: int, accuracy: float, level: float = 0.95) -> float:
    """Probability that m fair guesses have an upper limit below `accuracy`."""
    low, high = -1, coins
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if share_at_most(middle, coins, level) < accuracy else (low, middle)
    return 0.0 if low < 0 else float(special.bdtr(low, coins, 0.5))
