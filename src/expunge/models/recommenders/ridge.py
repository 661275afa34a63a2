"""Ridge regression of every item on all items: SLIM-L2 (Ning and Karypis 2011) without its constraints."""

from __future__ import annotations

from expunge.training.closed_form.linear import LinearRecommender


class Ridge(LinearRecommender):
    """Settings: lam (200), weights (`binary` or `rating`). Scores: s = x - lambda x'P, which is x'PG.

    The diagonal is free, so an item predicts itself; ranking masks what the user already has.
    """

    family = "ridge"
    free = True
