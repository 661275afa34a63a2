"""EASE^R (Steck 2019, arXiv 1905.03375): item-item weights with zero diagonal, in closed form."""

from __future__ import annotations

from expunge.training.closed_form.linear import LinearRecommender


class Ease(LinearRecommender):
    """Settings: lam (200), weights (`binary` or `rating`). Scores: s_j = -(x'P)_j / P_jj for items j not in x.

    Exact deletion: G loses the user's outer product, integer for integer, and P is corrected by a rank-1 step.
    """

    family = "ease"
