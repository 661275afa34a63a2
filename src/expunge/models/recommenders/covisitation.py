"""Co-visitation (Linden et al. 2003; Davidson et al. 2010): users who took this also took that."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from expunge.training.closed_form.counts import Sum, Sums
from expunge.training.closed_form.gram import Rows
from expunge.training.closed_form.pairs import PairModel, PairRecommender
from expunge.training.closed_form.settings import one_of, whole
from expunge.training.closed_form.toplists import Floats
from expunge.training.recipe import ClosedFormRecipe


class Covisitation(PairRecommender):
    """Scores: s_j = sum over the items i of the history that list j of r(i, j); every item lists its `length` best.

    r(i, j) = C_ij / C_ii, the share of i's users who also took j, or the lift C_ij N / (C_ii C_jj), how many times
    likelier than by chance, with C_ij the users who had both and N all users who had anything. Lift is the relatedness
    of Davidson et al. 2010 (RecSys) with f = c_i c_j, times N. Deviations: users are counted over their whole history, not
    within 24 hours; pairs of fewer than `support` users are left out instead of items of few views; a history's lists
    are added up. Settings: normalisation (`conditional` or `lift`), length (50), support (2).

    Exact deletion: C and N lose the user, integer for integer; N scales all lists alike and orders none. Conditional
    lists hang on the item's own pairs only, so d lists are ranked anew for a user of d items, and none is repaired.
    Cost: as item-kNN, 4 I^2 bytes for C.
    Fails with lift and low support: pairs of two users who had nothing else lead every list.
    """

    family = "covisitation"
    defaults: Mapping[str, str] = {"normalisation": "conditional", "length": "50", "support": "2"}
    sums: Mapping[str, Sum] = {**PairRecommender.sums, "users": Sum(dtype=np.int64, axes=0)}

    def __init__(self, recipe: ClosedFormRecipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.normalisation = one_of(self.settings, "normalisation", "conditional", "lift")
        self.size = whole(self.settings, "length", 1, 10_000)
        self.support = whole(self.settings, "support", 1, 1_000_000)

    def add(self, sums: Sums, rows: Rows, sign: int) -> None:
        """C, and N: users with any event."""
        super().add(sums, rows, sign)
        sums["users"] += sign * int((np.diff(rows.indptr) > 0).sum())

    def value(self, both: Floats, one: Floats, other: Floats) -> Floats:
        """C_ij / C_ii, or C_ij / (C_ii C_jj): N stays outside, so that it changes no list."""
        return both / one if self.normalisation == "conditional" else both / (one * other)

    def outputs(self, model: PairModel, rows: Rows) -> NDArray[np.float64]:
        """Scores (B, I): sums over the history's lists; what the history holds is not masked."""
        found = super().outputs(model, rows)
        return found if self.normalisation == "conditional" else found * int(model.sums["users"])
