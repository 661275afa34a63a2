"""BPR (Rendle et al. 2009) over users who are the sum of what they had: a factor model without a table of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expunge.core.protocols import FitJob
from expunge.training.closed_form.settings import number, whole
from expunge.training.iterated import leaves_of_job
from expunge.training.recipe import Recipe
from expunge.training.user_batches import PairReader
from expunge.training.user_models import UserModel


class Bpr(UserModel):
    """Scores: s_j = b_j + q_j . (sum_i in history p_i) / |history|^alpha; with shards, the mean of theirs.

    Trained on pairs of an item that a user had and one that they did not (Rendle et al. 2009, arXiv 1205.2618, BPR-Opt,
    equation 4, without its Gaussian prior but for the recipe's weight decay). Deviation: BPR-MF has a factor for every
    user; here the user is the sum of their items' factors, the item that is being predicted left out (Kabbur, Ning and
    Karypis 2013, FISMauc, equations 3 and 12). So nobody has a row in the weights, and somebody new is folded in
    without training. Uniform counter-examples; those that the user had after all weigh nothing.
    Settings: factors (K, 64), alpha (0.5), pairs (a user and epoch, 16), scale (of the first weights, 0.1).

    Exact deletion: replay from the last checkpoint before the user's slice, retraining of the user's shard, or
    retraining: pairs are drawn from (seed, epoch, slot, place) and an absent user's place in a batch stays empty.
    Cost: 3 x 2 x epochs x users x (I + pairs) x K operations; rows of a batch are dense.
    Fails on catalogues so large that a batch of dense rows does not fit; at a high lr it diverges, and is then refused.
    Measured: NDCG@100 .407 (SD .023, n = 3 splits) on ml-latest-small where EASE has .427, a training 6 to 7 s (1 thread;
    benchmarks/recommender/seeds.json).
    """

    family = "bpr"
    defaults: Mapping[str, str] = {"factors": "64", "alpha": "0.5", "pairs": "16", "scale": "0.1"}

    def __init__(self, recipe: Recipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.factors = whole(self.settings, "factors", 1, 65_536)
        self.pairs = whole(self.settings, "pairs", 1, 65_536)
        self.alpha = float(number(self.settings, "alpha", 0, 1))
        self.scale = float(number(self.settings, "scale", 0, 10, above=True))

    def module(self, generator: torch.Generator) -> nn.Module:
        """Normal factors from `generator` only; biases at 0."""
        return _Factors(self.items, self.factors, self.alpha).drawn(self.scale, generator)

    def source(self, job: FitJob) -> PairReader:
        """Users' rows, and pairs."""
        return PairReader(histories=job.data.train, seed=job.seed, pairs=self.pairs, leaves=leaves_of_job(job))

    def scores(self, module: Any, rows: Tensor) -> Tensor:
        """As above, in the card."""
        found: Tensor = module.scores(rows)
        return found


class _Factors(nn.Module):
    def __init__(self, items: int, factors: int, alpha: float) -> None:
        super().__init__()
        self.had = nn.Parameter(torch.zeros(items, factors))
        self.wanted = nn.Parameter(torch.zeros(items, factors))
        self.bias = nn.Parameter(torch.zeros(items))
        self.alpha = alpha

    def drawn(self, scale: float, generator: torch.Generator) -> _Factors:
        with torch.no_grad():
            for factors in (self.had, self.wanted):
                factors.normal_(0, scale, generator=generator)
        return self

    def scores(self, rows: Tensor) -> Tensor:
        """(B, I)."""
        length = rows.sum(1, keepdim=True).clamp(min=1)
        return rows @ self.had / length**self.alpha @ self.wanted.T + self.bias

    def forward(self, rows: Tensor, had: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, n) of the items had, each by the rest of the history, and of the others, by all of it."""
        length = rows.sum(1, keepdim=True).clamp(min=1)
        whole = rows @ self.had
        rest = (whole[:, None] - self.had[had]) / (length - 1).clamp(min=1)[:, :, None] ** self.alpha
        mine = (rest * self.wanted[had]).sum(2) + self.bias[had]
        user = (whole / length**self.alpha)[:, None]
        return mine, (user * self.wanted[others]).sum(2) + self.bias[others]
