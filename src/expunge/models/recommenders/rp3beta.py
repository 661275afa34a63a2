"""RP3beta (Christoffel et al. 2015; Paudel et al. 2017), and P3alpha (Cooper et al. 2014) with beta 0: three random steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.training.closed_form.counts import CountModel, CountRecommender, Sum, Sums, histories_of, require_binary
from expunge.training.closed_form.fixed_point import share
from expunge.training.closed_form.gram import Rows, add_rows
from expunge.training.closed_form.settings import number
from expunge.training.recipe import ClosedFormRecipe

BITS = 40


class Rp3beta(CountRecommender):
    """Scores: s_j = d_j^-beta sum over i in x, users v of p_xi p_iv p_vj: three random steps from a history x to item j.

    Every step is 1 / degree to the power alpha (P3alpha, Cooper et al. 2014, WWW), and popular ends are damped by beta
    (RP3beta, Christoffel et al. 2015, RecSys; Paudel et al. 2017, ACM TiiS 7(1)). Deviations: histories are binary; x
    comes from outside and is one of the v only if it was trained on; nothing is cut to k neighbours.
    Settings: alpha (1; above 0 to 2, two decimals), beta (0.6; 0 to 2; 0 is P3alpha).

    What is summed over users v is W = sum w(d_v) x_v x_v', and no sum of 1 / d_v^alpha is exact in floats, or in whole
    numbers over a common multiple of thousands of degrees. So w(d) is floor(2^40 / d^alpha), worked out in whole
    numbers for any alpha: each weight is below the true one by less than 2^-40, a part d^alpha 2^-40 of itself at most
    (9e-10 for 1,000 events and alpha 1; so are the scores). W is exact in these units, whoever is added or removed, in
    any order; it fits 64 bits below 8,388,608 users an item, and more are refused.
    The other two steps and beta are taken from degrees when a history is scored, so alpha and beta other than 1 cost
    nothing; powers other than -1 are the C library's and good to its last bit.

    Exact deletion: W loses w(d) x x' and d degrees lose 1. Cost: 8 I^2 bytes; d^2 operations a deletion, I d a history.
    Fails when alpha is near 2 and histories are long: at 10,000 events a weight is 10,995 units, good to 1 in 10,000.
    """

    family = "rp3beta"
    defaults: Mapping[str, str] = {"alpha": "1", "beta": "0.6"}
    sums: Mapping[str, Sum] = {"walks": Sum(dtype=np.int64, axes=2), "degrees": Sum(dtype=np.int64, axes=1)}

    def __init__(self, recipe: ClosedFormRecipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.alpha = number(self.settings, "alpha", 0, 2, above=True)
        self.beta = float(number(self.settings, "beta", 0, 2))
        if self.alpha.denominator > 100:
            raise InputError("alpha has too many decimals", expected="two", got=self.settings["alpha"][:40])
        if items ** float(self.alpha) >= 2**BITS:
            raise InputError("a user of all items would have no weight", expected=f"items^alpha below 2^{BITS}")

    def add(self, sums: Sums, rows: Rows, sign: int) -> None:
        """W += w(d_u) x_u x_u' and the items' degrees."""
        degrees = sums["degrees"] + sign * np.bincount(require_binary(rows).indices, minlength=self.items)
        if int(degrees.max(initial=0)) >= 2 ** (63 - BITS):
            raise InputError("an item has too many users for 64 bits", expected=f"below {2 ** (63 - BITS)}")
        sums["degrees"][:] = degrees
        weights = [share(degree, self.alpha, BITS) for degree in np.diff(rows.indptr).tolist()]
        add_rows(sums["walks"], rows, sign, weights=np.array(weights, np.int64))

    def outputs(self, model: CountModel, rows: Rows) -> NDArray[np.float64]:
        """Scores (B, I) of every item for each history; what the history holds is not masked."""
        degrees = np.maximum(model.sums["degrees"], 1).astype(np.float64)
        step, damp = degrees ** -float(self.alpha) / 2**BITS, degrees**-self.beta
        found = np.zeros(rows.shape)
        for number_, items in histories_of(rows, self.items):
            for item in items.tolist():
                found[number_] += model.sums["walks"][item] * step[item]
            found[number_] *= len(items) ** -float(self.alpha) * damp
        return found
