"""EASE^R with a weight for every user, G = X'WX (weighted least squares), in whole numbers, so that a deletion is exact."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.errors import InputError
from expunge.data._interactions import Histories
from expunge.training.closed_form.fixed_point import share
from expunge.training.closed_form.gram import Rows
from expunge.training.closed_form.linear import LinearRecommender
from expunge.training.closed_form.model import LinearModel
from expunge.training.closed_form.settings import number
from expunge.training.recipe import ClosedFormRecipe

BITS = 14
Floats = NDArray[np.float64]


class WeightedEase(LinearRecommender):
    """Settings: lam (20), weights (`binary` or `rating`), alpha (0.5; 0 to 2, two decimals). A user with d events weighs
    d^-alpha: alpha 0 is EASE, where somebody with 1,000 events counts like a thousand; with alpha 1 all count alike.

    B minimises sum_u w_u |x_u - x_u B|^2 + lambda |B|^2 with a zero diagonal: EASE (Steck 2019, arXiv 1905.03375, equation 8)
    with G = X'WX in the place of X'X, as for any weighted ridge regression. That 1/d is a weight of users is RP3's
    (Paudel et al. 2017): its walks are X'D^-1 X. Scores: s_j = -(x'P)_j / P_jj, as there.

    Fixed point: d^-alpha is w_u = (s_u / 2^14)^2 with s_u = floor(2^14 d^(-alpha/2)), worked out in whole numbers. So s_u x_u is
    a row of whole numbers, G in units of 2^-28 is a sum of their outer products, and all that holds of X'X for exact
    deletion holds of it: what is left is, integer for integer, the sum without the user. Sums are int64 and refused from 2^53
    on, to which float64, from which P is inverted, knows whole numbers; that is 33 million users of one item, 335,000
    with five stars. w_u is below d^-alpha by a part of 2^-13 d^(alpha/2) at most: 0.6 % for 2,698 events and alpha 1.
    P is kept in units of 2^28, with lambda in those of G; B knows no units.

    Exact deletion: with y = s x, G - y y' and P + v v' / (1 - y'v), v = P y, which is Woodbury's identity with the weight:
    P' = P + w u u' / (1 - w l), u = P x, l = x'P x. Leave-one-out: (x'P')_j = (x'P)_j / (1 - w l) and
    P'_jj = P_jj + w u_j^2 / (1 - w l). An event that goes changes its user's weight: the row as it was is taken off at its
    weight, the shorter row put on at the new one, rank 2. An item that goes does so for all who had it.
    Fails when a history is so long that s_u is 0 (d^alpha from 2^28 on), which is refused. V2 has no counts to read.
    """

    family = "weighted_ease"
    defaults: Mapping[str, str] = {"lam": "20", "weights": "binary", "alpha": "0.5"}
    label = "weighted gram"
    entry = np.int64
    largest = 2**53 - 1

    def __init__(self, recipe: ClosedFormRecipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.power = number(self.settings, "alpha", 0, 2) / 2
        if self.power.denominator > 200:
            raise InputError("alpha has too many decimals", expected="two", got=self.settings["alpha"][:40])
        if items and not share(items, self.power, BITS):
            raise InputError("a user of all items would have no weight", expected=f"items^alpha below 2^{2 * BITS}")
        self.lam *= 4.0**BITS

    def matrix(self, histories: Histories) -> Rows:
        """s_u x_u: ones, or twice the stars, times the root of the user's weight in units of 2^-14."""
        rows = super().matrix(histories)
        data = rows.data * np.repeat(self._roots(rows), np.diff(rows.indptr))
        return sparse.csr_matrix((data, rows.indices, rows.indptr), shape=rows.shape)

    def outputs(self, model: LinearModel, rows: Rows) -> Floats:
        """Scores (B, I) of every item for each history, as if it had a weight of 1; what it holds is not masked."""
        return super().outputs(model, rows) / np.maximum(self._roots(rows), 1)[:, None]

    def own(self, model: LinearModel, rows: Rows) -> Floats:
        """(x'P)_j / P_jj, whatever the row's weight."""
        return self._unweighted(rows, super().own(model, rows))

    def left_out(self, model: LinearModel, rows: Rows, after: Rows) -> tuple[Floats, float | None]:
        """In closed form, as EASE's, of the weighted rows."""
        found, leverage = super().left_out(model, rows, after)
        return self._unweighted(rows, found), leverage

    def pair_counts(self, model: LinearModel) -> None:
        """G holds weights; how many users had both is not in it."""

    def _roots(self, rows: Rows) -> NDArray[np.int64]:
        """(U,) s_u by the length of each row, 0 for none."""
        return np.array([share(degree, self.power, BITS) for degree in np.diff(rows.indptr).tolist()], np.int64)

    def _unweighted(self, rows: Rows, values: Floats) -> Floats:
        return values / np.repeat(self._roots(rows), np.diff(rows.indptr))
