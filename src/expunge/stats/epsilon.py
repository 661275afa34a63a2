"""Lower bounds on epsilon that hold: the threshold is never picked on the labels it is tested on.

An "epsilon" here bounds what this attack showed on these records; it is not a privacy guarantee of a procedure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Bools, Floats, booleans, finite
from expunge.stats.intervals import by_score

Counts = NDArray[np.int64]
_LEAST = 20
_LARGEST = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonBound:
    """`epsilon` is at least this much at `level` (0 when nothing was shown), for the given delta; `n` records judged."""

    epsilon: float
    delta: float
    level: float
    method: str
    n: int


def epsilon_lower_bound(
    members: ArrayLike,
    nonmembers: ArrayLike,
    *,
    seed: int,
    delta: float = 0.0,
    level: float = 0.95,
    thresholds: int = 1,
) -> EpsilonBound:
    """From scores of independent members and nonmembers (higher = member), both sides of (ε, δ)-indistinguishability.

    TPR ≤ e^ε·FPR + δ and TNR ≤ e^ε·FNR + δ (Kairouz et al. 2015, Thm 2.1) with Clopper-Pearson limits at half the
    error each (Nasr et al. 2021). A random part of the records picks the `thresholds`: half of them for one threshold
    ("split"), a tenth for several, whose limits then share the error (Bonferroni). The rest judges.
    """
    high, low = finite("members", members, (None,)), finite("nonmembers", nonmembers, (None,))
    if min(high.size, low.size) < _LEAST:
        raise CheckBroken(f"at least {_LEAST} members and nonmembers expected", got=f"{high.size} and {low.size}")
    _rates(delta, level)
    if thresholds < 1:
        raise CheckBroken("at least one threshold expected", got=str(thresholds))
    share = 0.5 if thresholds == 1 else 0.1
    rng = np.random.default_rng(seed)
    (pick_high, judge_high), (pick_low, judge_low) = (_parts(side, share, rng) for side in (high, low))
    cuts = _cuts(pick_high, pick_low, thresholds, delta)
    tail = (1 - level) / (4 * len(cuts))  # two inequalities, two limits each
    best = max(_at(judge_high, judge_low, cut, delta, 1 - tail) for cut in cuts)
    method = "split" if thresholds == 1 else f"Bonferroni over {len(cuts)} thresholds"
    return EpsilonBound(epsilon=best, delta=delta, level=level, method=method, n=int(judge_high.size + judge_low.size))


def _parts(values: Floats, share: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    order = rng.permutation(values.size)
    cut = max(1, round(share * values.size))
    return values[order[:cut]], values[order[cut:]]


def _cuts(high: Floats, low: Floats, count: int, delta: float) -> list[float]:
    """The most telling threshold of the picking part (split), or quantiles of it (Bonferroni)."""
    pooled = np.concatenate([high, low])
    if count > 1:
        return [float(cut) for cut in np.unique(np.quantile(pooled, (np.arange(count) + 0.5) / count))]
    candidates = np.unique(pooled)
    return [float(candidates[np.argmax(_on_all(high, low, candidates, delta, 0.9))])]


def _at(high: Floats, low: Floats, cut: float, delta: float, level: float) -> float:
    """The better of the two inequalities at one threshold, each limit one-sided at `level`."""
    return float(_on_all(high, low, np.array([cut]), delta, level)[0])


def _on_all(high: Floats, low: Floats, cuts: Floats, delta: float, level: float) -> Floats:
    """The same at every threshold, (C,)."""
    hits = high.size - np.searchsorted(np.sort(high), cuts, side="right")
    alarms = low.size - np.searchsorted(np.sort(low), cuts, side="right")
    members = _least(hits, high.size, level) - delta, _most(alarms, low.size, level)
    others = _least(low.size - alarms, low.size, level) - delta, _most(high.size - hits, high.size, level)
    return np.maximum(_log_ratio(*members), _log_ratio(*others))


def _least(hits: Counts, trials: int, level: float) -> Floats:
    """One-sided Clopper-Pearson lower limits, as `share_at_least`."""
    return np.where(hits == 0, 0.0, special.betaincinv(np.maximum(hits, 1), trials - hits + 1, 1 - level))


def _most(hits: Counts, trials: int, level: float) -> Floats:
    """One-sided Clopper-Pearson upper limits, as `share_at_most`."""
    return np.where(hits == trials, 1.0, special.betaincinv(hits + 1, np.maximum(trials - hits, 1), level))


def _log_ratio(top: Floats, bottom: Floats) -> Floats:
    ratio = np.where(top > 0, top, bottom) / bottom
    return np.asarray(np.maximum(np.log(ratio), 0.0), dtype=np.float64)


def one_run_epsilon(
    scores: ArrayLike, trained: ArrayLike, *, guesses: int, delta: float = 0.0, level: float = 0.95, seed: int = 0
) -> EpsilonBound:
    """One training, m independent fair coins (Steinke, Nasr and Jagielski 2023, Thm 5.2).

    The `guesses`/2 highest scores (m,) are guessed trained, the lowest not trained, the rest is not guessed; how many
    are guessed is fixed beforehand. `trained` (m,) bool are the coins. Ties are broken by a seeded draw, not by coin
    nor by position, which may follow the coin.
    """
    values = finite("scores", scores, (None,))
    coins = booleans("trained", trained, (values.size,))
    if not 2 <= guesses <= values.size or guesses % 2:
        raise CheckBroken("an even number of guesses, at most the canaries, expected", got=f"{guesses}")
    _rates(delta, level)
    correct = _correct(values, coins, guesses // 2, seed)

    def rejected(epsilon: float) -> bool:
        return one_run_p_value(correct, guesses, values.size, epsilon, delta) <= 1 - level

    return EpsilonBound(
        epsilon=_largest(rejected), delta=delta, level=level, method="one run, fixed guesses", n=int(values.size)
    )


def _correct(values: Floats, coins: Bools, each: int, seed: int) -> int:
    order = by_score(values, seed)
    return int(coins[order[-each:]].sum() + (~coins[order[:each]]).sum())


def one_run_p_value(correct: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Largest probability of so many correct guesses under (ε, δ)-DP: β + 2·m·δ·max_i (Pr[v − i ≤ W < v])/i, at most 1.

    W ~ Binomial(guesses, e^ε/(1 + e^ε)), β = Pr[W ≥ v].
    """
    if not (0 <= correct <= guesses <= canaries and math.isfinite(epsilon) and epsilon >= 0 and 0 <= delta < 1):
        raise CheckBroken("0 <= correct <= guesses <= canaries, epsilon >= 0 and delta in [0, 1) expected")
    q = float(special.expit(epsilon))
    at_least = float(special.bdtrc(correct - 1, guesses, q)) if correct > 0 else 1.0
    if not delta or not correct:
        return at_least
    steps = np.arange(1, correct + 1)
    below = special.bdtr(correct - 1, guesses, q)
    before = np.where(steps < correct, special.bdtr(np.maximum(correct - 1 - steps, 0), guesses, q), 0.0)
    slope = float(((below - before) / steps).max())
    return min(1.0, at_least + 2 * canaries * delta * slope)


def _largest(rejected: Callable[[float], bool]) -> float:
    """The largest epsilon that is still rejected, to 1e-6, from below; 0 when not even 0 is."""
    low, high = 0.0, _LARGEST
    if not rejected(low):
        return 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def _rates(delta: float, level: float) -> None:
    if not (0 <= delta < 1 and 0 < level < 1):
        raise CheckBroken("delta in [0, 1) and a level in (0, 1) expected", got=f"{delta} and {level}")
