"""Slow, obvious twins of the whole verdict, of its plan, of ranks and of sequential reading: plain loops and scipy."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats


def guarded(values, alternative):
    """The larger of scipy's t-test p-value and that of t after Hall's transform, skewness by scipy."""
    n = len(values)
    found = stats.ttest_1samp(values, 0, alternative=alternative)
    t, g = found.statistic, stats.skew(values, bias=False)
    bent = t + g * t**2 / (3 * n**0.5) + g**2 * t**3 / (27 * n) + g / (6 * n**0.5)
    tail = stats.t.cdf(bent, n - 1) if alternative == "less" else stats.t.sf(bent, n - 1)
    return max(found.pvalue, tail)


def equivalence(out, into, unlearned, margin, alpha):
    """Assay by Student's t (a planted control may lie exactly so far above O), both contrasts by the guarded p-value."""
    gap = into - out
    return (
        (np.ptp(gap) == 0 < gap[0] or stats.ttest_1samp(gap, 0, alternative="greater").pvalue <= alpha)
        and guarded(unlearned - (1 - margin) * out - margin * into, "less") <= alpha
        and guarded(unlearned - (1 + margin) * out + margin * into, "greater") <= alpha
    )


def absolute_inside(out, unlearned, bound, alpha, one_sided=False):
    """Both limits (or the upper alone) by searching the non-centrality with scipy's distribution."""
    n, difference = len(out), unlearned - out
    unit = difference.std(ddof=1) / out.std(ddof=1)
    t = math.sqrt(n) * difference.mean() / difference.std(ddof=1)

    def limit(probability):
        reach = 6 * math.sqrt(1 + t * t / (2 * n - 2))
        return optimize.brentq(lambda c: stats.nct.cdf(t, n - 1, c) - probability, t - reach, t + reach)

    low, high = (limit(p) * unit / math.sqrt(n) for p in (1 - alpha, alpha))
    return (one_sided or -bound < low) and high < bound


def variance_inside(out, unlearned, band, level):
    """θ is refuted when X/√θ + O and X/√θ − O correlate (Pitman and Morgan): both edges are, and the ratio is between."""
    refuted = [
        stats.pearsonr(unlearned / math.sqrt(edge) + out, unlearned / math.sqrt(edge) - out).pvalue < 1 - level
        for edge in band
    ]
    return band[0] < unlearned.var() / out.var() < band[1] and all(refuted)


def share_met(out, into, unlearned, further):
    """Where the gap is shown to be smaller nobody asks; else count runs beyond the midpoint of the other pairs."""
    n = len(out)
    if absolute_inside(out, into, further.midpoint_gap, 0.025, one_sided=True):
        return True
    hits = sum(unlearned[k] >= np.mean([(out[j] + into[j]) / 2 for j in range(n) if j != k]) for k in range(n))
    return hits < n and stats.beta.ppf(further.level, hits + 1, n - hits) <= further.share


def passes(out, into, unlearned, rule, further):
    """The whole rule on one signal."""
    return (
        equivalence(out, into, unlearned, rule.margin, rule.alpha)
        and absolute_inside(out, unlearned, further.absolute, rule.alpha)
        and share_met(out, into, unlearned, further)
        and variance_inside(out, unlearned, further.band, further.level)
    )


def power(design, pairs, gap, residual, rng, runs, verdict):
    """Pass share by drawing every pair of every signal; `verdict(out, into, unlearned)` judges one."""
    between = np.full((design.signals, design.signals), design.correlation)
    np.fill_diagonal(between, 1)
    covariance, passed = np.kron(between, design.covariance), 0
    for _ in range(runs):
        drawn = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=pairs).T
        arms = [
            (drawn[3 * s], drawn[3 * s + 1] + gap, drawn[3 * s + 2] + residual * gap) for s in range(design.signals)
        ]
        passed += all(verdict(*arm) for arm in arms)
    return passed


def rank_e_value(value, anchors, tilt):
    """The value's share of all weights, times their number."""
    pool = [value, *anchors]
    mean, sd = np.mean(pool), np.std(pool)
    weights = [math.exp(tilt * (v - mean) / sd) for v in pool]
    return len(pool) * weights[0] / sum(weights)


def deciding_p_value(value, anchors, side):
    """Rank by counting; Student's prediction beyond all anchors, else the larger of the two."""
    n = len(anchors)
    sign = 1 if side == "above" else -1
    rank = (1 + sum(sign * a >= sign * value for a in anchors)) / (n + 1)
    t = sign * (value - np.mean(anchors)) / (np.std(anchors, ddof=1) * math.sqrt(1 + 1 / n))
    prediction = stats.t.sf(t, n - 1)
    return prediction if rank == 1 / (n + 1) else max(rank, prediction)


def e_lond(e_values, alpha):
    """Rejections one after the other, from the definition."""
    hits = []
    for t, e in enumerate(e_values, start=1):
        level = alpha * 6 / (math.pi**2 * t**2) * (sum(hits) + 1)
        hits.append(e >= 1 / level)
    return hits


def klom(unlearned, never):
    """KL of two smoothed histograms on 20 common bins, one record at a time."""
    total = 0.0
    for r in range(unlearned.shape[1]):
        both = np.concatenate([unlearned[:, r], never[:, r]])
        edges = np.linspace(both.min(), both.max(), 21)
        sides = []
        for column in (unlearned[:, r], never[:, r]):
            counts = [0.5] * 20
            for v in column:
                counts[min(max(sum(v >= e for e in edges) - 1, 0), 19)] += 1
            sides.append([c / sum(counts) for c in counts])
        total += sum(p * math.log(p / q) for p, q in zip(*sides, strict=True))
    return total / unlearned.shape[1]


def epsilon_at(members, nonmembers, cut, delta, tail):
    """Both inequalities at one threshold, limits from scipy's beta quantiles."""

    def at_least(hits, n):
        return 0.0 if hits == 0 else stats.beta.ppf(tail, hits, n - hits + 1)

    def at_most(hits, n):
        return 1.0 if hits == n else stats.beta.ppf(1 - tail, hits + 1, n - hits)

    m, z = len(members), len(nonmembers)
    tp, fp = sum(v > cut for v in members), sum(v > cut for v in nonmembers)
    best = 0.0
    for top, bottom in ((at_least(tp, m), at_most(fp, z)), (at_least(z - fp, z), at_most(m - tp, m))):
        if top > delta:
            best = max(best, math.log((top - delta) / bottom))
    return best


def sequential_pass(out, into, unlearned, rule, plan, e_value):
    """Chunk by chunk: every path is a product of e-values bet on the past; stop at the first decision."""
    t = rule.margin
    contrasts = {
        "assay": (into - out, plan.gap / 2**0.5),
        "below": (-(unlearned - (1 - t) * out - t * into), None),
        "above": (unlearned - (1 + t) * out + t * into, None),
        "residue": (unlearned - (1 - t) * out - t * into, None),
        "over": (-(unlearned - (1 + t) * out + t * into), None),
    }
    effect = t * plan.gap / math.sqrt(1 + (1 - t) ** 2 + t**2)
    product, best = dict.fromkeys(contrasts, 1.0), dict.fromkeys(contrasts, 0.0)
    for chunk in range(min(len(out) // plan.chunk, plan.most)):
        rows = slice(chunk * plan.chunk, (chunk + 1) * plan.chunk)
        for name, (values, planned) in contrasts.items():
            bet, past = planned or effect, values[: rows.start]
            if len(past):
                bet = min(max((past.mean() / past.std(ddof=1) + bet) / 2, bet / 10), 10.0)
            product[name] *= e_value(values[rows], bet)
            best[name] = max(best[name], product[name])
        if best["assay"] >= 1 / rule.fail_alpha and max(best["residue"], best["over"]) >= 1 / rule.fail_alpha:
            return "fail", chunk + 1
        if min(best["assay"], best["below"], best["above"]) >= 1 / rule.alpha:
            return "pass", chunk + 1
    return "open", chunk + 1
