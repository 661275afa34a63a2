"""Simulated arms of known truth, many runs at once, and a fast screen of the three-arm test that is checked against the
product on a sample of every cell. Nothing passes here that the product does not pass: passing runs are judged again by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import special

from expunge.stats.threearm import Outcome, PairArms, Rule, three_arm

GRID = (-0.6, -0.3, 0.0, 0.3, 0.6, 0.9)
SIGNAL_CORRELATION = 0.5
TRIPLE_OF_A_BANK = (0.0, -0.3, -0.3)
SHAPES = ("gaussian", "t3", "lognormal .5", "lognormal 1", "X lognormal .5", "X lognormal 1", "X t3")
SPREADS = {"equal": (1.0, 1.0, 1.0), "X twice": (1.0, 1.0, 2.0), "X half": (1.0, 1.0, 0.5), "I twice": (1.0, 2.0, 1.0)}


@dataclass(frozen=True)
class Truth:
    """n pairs, S signals; correlations of X-I, X-O, O-I; a shape and a spread by name; the true residual."""

    pairs: int
    signals: int = 1
    correlations: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shape: str = "gaussian"
    spread: str = "equal"


def feasible() -> list[tuple[float, float, float]]:
    """Triples (X-I, X-O, O-I) on the grid whose matrix is positive definite."""
    return [triple for triple in product(GRID, repeat=3) if np.linalg.eigvalsh(matrix(triple)).min() > 1e-6]


def matrix(triple: tuple[float, float, float]) -> np.ndarray:
    """Correlation matrix of O, I, X."""
    xi, xo, oi = triple
    return np.array([[1.0, oi, xo], [oi, 1.0, xi], [xo, xi, 1.0]])


def noise(truth: Truth, runs: int, rng: np.random.Generator) -> np.ndarray:
    """(runs, S, 3, n) of O, I, X: mean 0, SD by the spread; signals correlate by .5 through their Gaussians."""
    between = np.full((truth.signals, truth.signals), SIGNAL_CORRELATION)
    np.fill_diagonal(between, 1.0)
    root = np.linalg.cholesky(np.kron(between, matrix(truth.correlations)))
    z = rng.standard_normal((runs, truth.pairs, 3 * truth.signals)) @ root.T
    z = z.reshape(runs, truth.pairs, truth.signals, 3).transpose(0, 2, 3, 1)
    name = truth.shape.removeprefix("X ")
    bent = np.array(z)
    arms = (2,) if truth.shape.startswith("X ") else (0, 1, 2)
    for arm in arms:
        bent[:, :, arm] = shaped(name, z[:, :, arm], rng)
    return bent * np.array(SPREADS[truth.spread])[:, None]


def shaped(name: str, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standard Gaussians to mean 0 and SD 1 of another shape; correlations shrink a little."""
    if name == "gaussian":
        return z
    if name == "t3":
        return z / np.sqrt(rng.chisquare(3, z.shape) / 3) / np.sqrt(3)
    sigma = float(name.split()[1])
    power = np.exp(sigma * sigma)
    return (np.exp(sigma * z) - np.sqrt(power)) / np.sqrt(power * (power - 1))


def placed(drawn: np.ndarray, gap: float, residual: float) -> np.ndarray:
    """The same arms around O = 0, I = gap, X = residual·gap."""
    return drawn + np.array([0.0, gap, residual * gap])[:, None]


def contrast_p(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Student, guarded) p-values against "the mean is at most 0", over the last axis."""
    n = values.shape[-1]
    mean, sd = values.mean(-1), values.std(-1, ddof=1)
    standard = (values - mean[..., None]) / sd[..., None]
    skew = (standard**3).sum(-1) * n / ((n - 1) * (n - 2))
    t = mean / (sd / np.sqrt(n))
    bent = t + skew * t**2 / (3 * np.sqrt(n)) + skew**2 * t**3 / (27 * n) + skew / (6 * np.sqrt(n))
    student = special.stdtr(n - 1, -t)
    return student, np.maximum(student, special.stdtr(n - 1, -bent))


def pass_p(arms: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """(Student, guarded) p-value of the whole three-arm test, assay and both contrasts, the largest over signals."""
    out, into, left = (arms[:, :, k] for k in range(3))
    assay = contrast_p(into - out)[0]
    below = contrast_p(-(left - (1 - margin) * out - margin * into))
    above = contrast_p(left - (1 + margin) * out + margin * into)
    return tuple(np.maximum(assay, np.maximum(below[k], above[k])).max(axis=1) for k in (0, 1))  # type: ignore[return-value]


def agrees(arms: np.ndarray, p: np.ndarray, margin: float, alpha: float, count: int = 6) -> int:
    """Raises if the product decides one of the first `count` runs differently; returns how many were compared."""
    rule = Rule(margin=margin, alpha=alpha, fail_alpha=alpha)
    for run in range(min(count, len(arms))):
        mine = all(three_arm(PairArms.of(*signal), rule).outcome is Outcome.EQUIVALENT for signal in arms[run])
        if mine != bool(p[run] <= alpha):
            raise SystemExit(f"the screen and the product disagree on run {run}")
    return min(count, len(arms))
