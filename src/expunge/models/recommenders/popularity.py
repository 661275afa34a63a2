"""Popularity: how many users had an item, of late or ever; the baseline every recommender is held against."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, InputError
from expunge.data._interactions import Histories
from expunge.training.closed_form.counts import CountModel, CountRecommender, Sum, Sums, require_items
from expunge.training.closed_form.gram import Rows
from expunge.training.closed_form.settings import number, whole
from expunge.training.recipe import ClosedFormRecipe

BITS, STEPS = 31, 20
_DAY = 86_400


class Popularity(CountRecommender):
    """Scores: the number of users who had the item, or the sum of their events' weights 2^(-age / half-life).

    The same for every history. Ages are taken at `now`, a setting, so that a fit is the same tomorrow; another `now`
    multiplies all weights alike and changes no order, but for rounding. An event later than `now` is refused.
    Settings: half_life_days (`none`, or up to 1,000,000), now (seconds since 1970; needed with a half-life).

    Exact deletion: counts are whole numbers, and weights whole units of 2^-31, worked out in integers alone: too large
    by less than 7 in 10^7 (the age is cut to half-life / 2^20) or too small by up to 21 units. After 32 half-lives an
    event weighs nothing. Cost: O(d) a deletion, 8 I bytes.
    Fails as a recommender of anything personal: it is the baseline.
    """

    family = "popularity"
    defaults: Mapping[str, str] = {"half_life_days": "none", "now": "0"}
    sums: Mapping[str, Sum] = {"counts": Sum(dtype=np.int64, axes=1)}

    def __init__(self, recipe: ClosedFormRecipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.now = whole(self.settings, "now", 0, 2**40)
        self.half_life = 0
        if self.settings["half_life_days"] != "none":
            self.half_life = int(number(self.settings, "half_life_days", 0, 1_000_000, above=True) * _DAY)
            if not self.half_life or not self.now:
                raise InputError("a half-life needs a second or more, and `now` in seconds since 1970")

    def matrix(self, histories: Histories) -> Rows:
        """Ones, or each event's weight in units of 2^-31."""
        rows = histories.matrix("binary")
        if self.half_life:
            if histories.times is None:
                raise DataError("events have no times, so their popularity cannot decay", hint="half_life_days: none")
            if len(histories.times) and histories.times.max() > self.now:
                late = int((histories.times > self.now).sum())
                raise DataError(f"{late} events are later than now", expected=f"at most {self.now}")
            rows.data = decayed(self.now - histories.times, self.half_life)
        return rows

    def add(self, sums: Sums, rows: Rows, sign: int) -> None:
        """The weights of each item's events."""
        np.add.at(sums["counts"], rows.indices, sign * rows.data)

    def outputs(self, model: CountModel, rows: Rows) -> NDArray[np.float64]:
        """Scores (B, I), the same for every history."""
        require_items(rows, self.items)
        counts = model.sums["counts"] / (2**BITS if self.half_life else 1)
        return np.repeat(counts[None], rows.shape[0], axis=0)


def decayed(ages: NDArray[np.int64], half_life: int) -> NDArray[np.int64]:
    """2^(-age / half_life) in whole units of 2^-31, ages and half-life in seconds.

    The exponent is cut to a multiple of 2^-20 and its bits multiply fixed factors, rounding down: integers throughout.
    """
    steps = np.minimum(ages, 63 * half_life) * 2**STEPS // half_life
    found = np.full(len(ages), 1 << BITS, np.int64)
    for bit, factor in enumerate(_factors(), start=1):
        found = np.where(steps >> (STEPS - bit) & 1, found * factor >> BITS, found)
    found >>= steps >> STEPS
    return found


def _factors() -> list[int]:
    """floor(2^31 2^(-2^-k)) for k = 1..20, by square roots of whole numbers with 200 bits behind the point."""
    precise, found = 1 << 199, []
    for _ in range(STEPS):
        precise = isqrt(precise << 200)
        found.append(precise >> 200 - BITS)
    return found
