"""More slow, obvious twins: definitions of the multiple-testing, e-value and epsilon statistics, in plain loops."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats


def holm_rejects(p_values, alpha):
    """Step down: the smallest p at alpha/H, the next at alpha/(H - 1), stop at the first that is not rejected."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def e_bh_rejects(e_values, alpha):
    """The largest k for which at least k e-values are at least H/(alpha k)."""
    count = len(e_values)
    for k in range(count, 0, -1):
        if sum(e >= count / (alpha * k) for e in e_values) >= k:
            return [e >= count / (alpha * k) for e in e_values]
    return [False] * count


def t_e_value(values, effect):
    """Ratio of scipy's non-central to its central t density at the t statistic."""
    n = len(values)
    t = np.mean(values) / (np.std(values, ddof=1) / math.sqrt(n))
    return stats.nct.pdf(t, n - 1, math.sqrt(n) * effect) / stats.t.pdf(t, n - 1)


def one_run_p_value(correct, guesses, canaries, epsilon, delta):
    """Theorem 5.2 of Steinke et al. written out with scipy's binomial and a running sum."""
    w = stats.binom(guesses, math.exp(epsilon) / (1 + math.exp(epsilon)))
    slope, total = 0.0, 0.0
    for i in range(1, correct + 1):
        total += w.pmf(correct - i)
        slope = max(slope, total / i)
    return min(1.0, w.sf(correct - 1) + 2 * canaries * delta * slope)


def student_predictive(value, sample):
    """Density of one more draw: scipy's t, moved and stretched."""
    n = len(sample)
    scale = np.std(sample, ddof=1) * math.sqrt(1 + 1 / n)
    return stats.t.pdf((value - np.mean(sample)) / scale, n - 1) / scale


def u_lira_accuracy(unlearned, never):
    """Each model, each record: fit both arms without it, ask which is likelier."""
    hits, total = 0.0, 0
    for own, other in ((unlearned, never), (never, unlearned)):
        for k in range(len(own)):
            rest = np.delete(own, k, axis=0)
            for r in range(own.shape[1]):
                here = stats.norm.logpdf(own[k, r], rest[:, r].mean(), rest[:, r].std(ddof=1))
                there = stats.norm.logpdf(own[k, r], other[:, r].mean(), other[:, r].std(ddof=1))
                hits += 1.0 if here > there else 0.5 if here == there else 0.0
                total += 1
    return hits / total
