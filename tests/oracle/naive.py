"""Slow, obvious twins of the statistics and attacks: loops and definitions, nothing clever."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats


def lira(job, variance="pooled"):
    """Gaussian log-likelihood ratio, one target and one record at a time."""
    phi = [[_logit(p) for p in row] for row in job.reference]
    models, records = len(phi), len(phi[0])
    inside = [[phi[m][r] for m in range(models) if job.member[m][r]] for r in range(records)]
    outside = [[phi[m][r] for m in range(models) if not job.member[m][r]] for r in range(records)]
    squares = sum(sum((x - np.mean(g)) ** 2 for x in g) for g in inside + outside)
    pooled = squares / sum(len(g) - 1 for g in inside + outside)
    scores = np.empty((len(job.target), records))
    for t, row in enumerate(job.target):
        for r, log_p in enumerate(row):
            sides = []
            for group in (inside[r], outside[r]):
                sd = math.sqrt(pooled if variance == "pooled" else np.var(group, ddof=1))
                sides.append(stats.norm.logpdf(_logit(log_p), np.mean(group), sd))
            scores[t, r] = sides[0] - sides[1]
    return scores


def _logit(log_p):
    log_p = min(max(log_p, -50.0), -1e-6)
    return log_p - math.log(1 - math.exp(log_p))


def rmia(job, gamma=1.0, a=1.0):
    """Share of z with LR(x, z) >= gamma, by a double loop over ratios of probabilities."""

    def marginal(column, use):
        out = np.mean([math.exp(p) for p, u in zip(column, use, strict=True) if u])
        return ((1 + a) * out + (1 - a)) / 2

    everybody = [True] * len(job.reference_population)
    scores = np.empty(np.shape(job.target))
    for t in range(scores.shape[0]):
        ratio_z = [
            math.exp(p) / marginal(job.reference_population[:, z], everybody)
            for z, p in enumerate(job.target_population[t])
        ]
        for r in range(scores.shape[1]):
            ratio_x = math.exp(job.target[t][r]) / marginal(job.reference[:, r], ~job.member[:, r])
            scores[t, r] = np.mean([ratio_x / z >= gamma for z in ratio_z])
    return scores


def clopper_pearson(hits, trials, level):
    """Invert the binomial test on a fine grid."""
    tail, grid = (1 - level) / 2, np.linspace(0, 1, 200_001)
    low = grid[stats.binom.sf(hits - 1, trials, grid) >= tail][0]
    high = grid[stats.binom.cdf(hits, trials, grid) >= tail][-1]
    return low, high


def fieller(numerator, denominator, alpha, grid):
    """Every ρ on the grid whose contrast is not rejected by scipy's t-test at 2·alpha."""
    kept = [rho for rho in grid if stats.ttest_1samp(numerator - rho * denominator, 0).pvalue >= 2 * alpha]
    return min(kept), max(kept)


def equivalence(out, into, unlearned, margin, alpha):
    """The two one-sided tests by scipy."""
    assay = stats.ttest_1samp(into - out, 0, alternative="greater").pvalue
    minus = stats.ttest_1samp(unlearned - (1 - margin) * out - margin * into, 0, alternative="less").pvalue
    plus = stats.ttest_1samp(unlearned - (1 + margin) * out + margin * into, 0, alternative="greater").pvalue
    return assay <= alpha and minus <= alpha and plus <= alpha


def unpaired_equivalence(out, into, unlearned, margin, alpha):
    """The mistake: arms treated as independent, variances added without their covariance."""
    n, ok = out.size, True
    for sign in (1, -1):
        weights = (-(1 - margin), -margin) if sign == 1 else (-(1 + margin), margin)
        mean = unlearned.mean() + weights[0] * out.mean() + weights[1] * into.mean()
        error = math.sqrt(
            (unlearned.var(ddof=1) + weights[0] ** 2 * out.var(ddof=1) + weights[1] ** 2 * into.var(ddof=1)) / n
        )
        ok = ok and sign * mean / error < -stats.t.ppf(1 - alpha, 3 * n - 3)
    return ok


def auc(members, nonmembers):
    """Share of pairs that are in order, ties a half."""
    return float(np.mean([(m > n) + 0.5 * (m == n) for m in members for n in nonmembers]))


def delong_variance(members, nonmembers):
    """Structural components by their definition."""

    def win(m, n):
        return (m > n) + 0.5 * (m == n)

    by_member = [np.mean([win(m, n) for n in nonmembers]) for m in members]
    by_other = [np.mean([win(m, n) for m in members]) for n in nonmembers]
    return np.var(by_member, ddof=1) / len(members) + np.var(by_other, ddof=1) / len(nonmembers)


def within(hits, trials, share, level=0.999):
    """Whether a simulated count agrees with the claimed share (exact interval, wide so that a seed may stay fixed)."""
    low, high = stats.binomtest(int(hits), trials).proportion_ci(level, method="exact")
    return low <= share <= high


def at_most(hits, trials, share, level=0.999):
    """Whether a simulated count is compatible with a share of at most this."""
    return stats.binomtest(int(hits), trials, share, alternative="greater").pvalue > 1 - level
