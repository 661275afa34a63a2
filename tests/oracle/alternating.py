"""Alternating least squares by the book: every user and every item its own normal equations, dense, in float64."""

import numpy as np


def half_sweep(confidence, preference, fixed, regularization):
    """Rows of the factors that minimise sum_j c_ij (p_ij - x_i'f_j)^2 + lambda |x_i|^2, one row at a time (eq. 4)."""
    found = []
    for c, p in zip(confidence, preference, strict=True):
        left = fixed.T @ np.diag(c) @ fixed + regularization * np.eye(fixed.shape[1])
        found.append(np.linalg.solve(left, fixed.T @ np.diag(c) @ p))
    return np.array(found)


def sweep(values, items, alpha, regularization):
    """Users from items, then items from users; `values` (U, I) dense."""
    confidence, preference = 1 + alpha * values, (values > 0).astype(float)
    users = half_sweep(confidence, preference, items, regularization)
    return users, half_sweep(confidence.T, preference.T, users, regularization)


def objective(values, users, items, alpha, regularization):
    """What is minimised (eq. 3), over every pair."""
    off = (values > 0) - users @ items.T
    return ((1 + alpha * values) * off**2).sum() + regularization * ((users**2).sum() + (items**2).sum())
