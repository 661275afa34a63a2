"""Slow, obvious twins of the attacks: one target and one record at a time, densities by scipy, integrals by quadrature."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import integrate, optimize, stats

from oracle.naive import _logit


def phi_table(log_p):
    return np.array([[_logit(float(p)) for p in row] for row in log_p])


def groups(job, link=phi_table):
    """Per record: signals of its IN and of its OUT references."""
    signal = link(job.reference)
    return [
        (signal[job.member[:, r], r].tolist(), signal[~job.member[:, r], r].tolist()) for r in range(signal.shape[1])
    ]


def pooled(*sides):
    squares = sum(sum((x - np.mean(g)) ** 2 for x in g) for g in sides)
    return squares / sum(len(g) - 1 for g in sides)


def each(job, score, link=phi_table):
    """score(phi, record) over the table of targets."""
    signal = link(job.target)
    return np.array([[score(x, r) for r, x in enumerate(row)] for row in signal])


def gaussian_ratio(job):
    """LiRA's ratio with one variance, on a signal that is used as it is."""
    refs = groups(job, np.asarray)
    sd = math.sqrt(pooled(*[g for both in refs for g in both]))

    def score(x, r):
        inside, outside = refs[r]
        return stats.norm.logpdf(x, np.mean(inside), sd) - stats.norm.logpdf(x, np.mean(outside), sd)

    return each(job, score, np.asarray)


def lira_offline(job):
    refs = groups(job)
    sd = math.sqrt(pooled(*[outside for _, outside in refs]))
    return each(job, lambda x, r: stats.norm.ppf(stats.norm.cdf((x - np.mean(refs[r][1])) / sd)))


def lira_t(job):
    refs = groups(job)

    def predictive(x, group):
        n = len(group)
        return stats.t.logpdf(x, n - 1, np.mean(group), np.std(group, ddof=1) * math.sqrt(1 + 1 / n))

    return each(job, lambda x, r: predictive(x, refs[r][0]) - predictive(x, refs[r][1]))


def bavaria(job, prior=4.0):
    """The predictive density by integrating the Gaussian over the posterior of its mean and variance."""
    refs = groups(job)
    priors = [pooled(*[both[side] for both in refs]) for side in (0, 1)]

    def predictive(x, group, variance):
        n, mean = len(group), np.mean(group)
        freedom = prior + n - 1
        scale = prior * variance + sum((y - mean) ** 2 for y in group)
        posterior = stats.invgamma(freedom / 2, scale=scale / 2)

        def inner(v):
            return posterior.pdf(v) * stats.norm.pdf(x, mean, math.sqrt(v * (1 + 1 / n)))

        ends = posterior.ppf([1e-9, 0.1, 0.5, 0.9, 1 - 1e-4, 1 - 1e-9])
        return math.log(sum(integrate.quad(inner, a, b, epsabs=0)[0] for a, b in itertools.pairwise(ends)))

    return each(job, lambda x, r: predictive(x, refs[r][0], priors[0]) - predictive(x, refs[r][1], priors[1]))


def iam(job):
    refs = groups(job)
    sd = math.sqrt(pooled(*[g for both in refs for g in both]))

    def score(x, r):
        inside, outside = np.mean(refs[r][0]), np.mean(refs[r][1])
        weighted = integrate.quad(lambda a: a * stats.norm.cdf(x, (1 - a) * outside + a * inside, sd), 0, 1)[0]
        return weighted / integrate.quad(lambda a: a, 0, 1)[0]

    return each(job, score)


def pinball(residual, level):
    return sum(level * r if r >= 0 else (level - 1) * r for r in residual)


def quantile_fit(features, values, level):
    """Quantile regression as the linear programme of Koenker and Bassett 1978."""
    count, width = features.shape
    cost = np.r_[np.zeros(2 * width), np.full(count, level), np.full(count, 1 - level)]
    equal = np.hstack([features, -features, np.eye(count), -np.eye(count)])
    found = optimize.linprog(cost, A_eq=equal, b_eq=values, bounds=(0, None)).x
    return found[:width] - found[width : 2 * width]


def quantile(job, level=0.9):
    refs = groups(job)
    unseen, target = phi_table(job.reference_population), phi_table(job.target_population)
    known = np.stack([np.ones(unseen.shape[1]), unseen.mean(0), unseen.std(0, ddof=1)], 1)
    fits = [quantile_fit(known, row, level) for row in target]
    signal = phi_table(job.target)

    def predicted(t, r):
        outside = refs[r][1]
        return fits[t] @ [1, np.mean(outside), np.std(outside, ddof=1)]

    return np.array([[x - predicted(t, r) for r, x in enumerate(row)] for t, row in enumerate(signal)])


def gradient_ratio(block, population, damping):
    """−½ ln gᵀ(F + λ)⁻¹g; F of an unseen record leaves that record's own product out of the sum (not of Z and λ)."""
    size, count = population.shape[1], len(population)
    whole = sum(np.outer(g, g) for g in population) / count
    damp = damping * np.trace(whole) / size * np.eye(size)

    def signal(g, moment):
        return -0.5 * math.log(g @ np.linalg.inv(moment + damp) @ g)

    return (
        [signal(g, whole) for g in block],
        [signal(g, whole - np.outer(g, g) / count) for g in population],
    )
