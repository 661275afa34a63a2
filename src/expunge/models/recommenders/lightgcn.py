"""LightGCN (He et al. 2020): item embeddings smoothed over the graph of users and items, and users who are their items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from expunge.core.protocols import FitJob
from expunge.training.closed_form.settings import number, whole
from expunge.training.iterated import leaves_of_job
from expunge.training.recipe import Recipe
from expunge.training.user_graphs import GraphReader
from expunge.training.user_models import UserModel


class Lightgcn(UserModel):
    """Scores: s_j = e_u . e_j, each the mean of its layers 0 to K; with shards, the mean of theirs, each on its own graph.

    e_u^(k+1) = sum_i e_i^(k) / sqrt(|N_u| |N_i|) over u's items, and the like for e_i (He et al. 2020, arXiv 2002.02126,
    equations 3 to 8, every alpha_k = 1 / (K + 1)); trained by BPR (equation 15), whose penalty is the recipe's weight
    decay; measured with Nesterov momentum where theirs is Adam. Deviations: e_u^(0) is no free row but e_u^(1), what
    equation 3 makes of the items (as Wu et al. 2022, INMO, arXiv 2107.05247, with other weights): a row a user would have
    to be found and deleted, and nobody new could be answered. So nobody has a row, and a history is folded in by the
    formula that trained its own user. Pairs are drawn a user, not an event. Where a recipe has slices, the graph grows
    with them.
    Settings: factors (64), layers (K, 2), pairs (a user and epoch, 16), scale (of the first embeddings, 0.1).

    Exact deletion: retraining; replay; retraining of the user's shard, which has a graph of its own. Every step reads the
    whole graph, so a user changes every other one's gradient, from the first step of the epoch in which they come in.
    Replay keeps what was before that epoch, and no more: without slices nothing, and it is a retraining. The transcript's
    start line says that every step reads the epoch's receipt. Taking a user out of the last graph alone deletes nothing.
    Cost: 3 x 2 x steps x (K events + B I + B pairs) x F operations; rows of a batch are dense. A deletion keeps no step
    after the user's slice.
    Fails on catalogues so large that a batch of dense rows does not fit; without a high lr (embeddings are averaged over
    neighbours, gradients are small). It diverges at too high a one, and is then refused.
    Measured: NDCG@100 .405 (SD .018, n = 3 splits) on ml-latest-small where BPR has .407 and EASE .431, a training 20 to 21
    CPU seconds (1 thread, settings swept on training users; benchmarks/recommender/seeds.json).
    """

    family = "lightgcn"
    reads_everybody = True
    defaults: Mapping[str, str] = {"factors": "64", "layers": "2", "pairs": "16", "scale": "0.1"}

    def __init__(self, recipe: Recipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.factors = whole(self.settings, "factors", 1, 65_536)
        self.layers = whole(self.settings, "layers", 1, 16)
        self.pairs = whole(self.settings, "pairs", 1, 65_536)
        self.scale = float(number(self.settings, "scale", 0, 10, above=True))

    def module(self, generator: torch.Generator) -> nn.Module:
        """Normal embeddings from `generator` only."""
        module = _Smoothed(self.items, self.factors, self.layers)
        nn.init.normal_(module.items, 0, self.scale, generator=generator)
        return module

    def source(self, job: FitJob) -> GraphReader:
        """Users' rows and pairs, and the graph of those in use."""
        schedule = self._schedule(job)
        present = ~np.isin(schedule.slots, np.fromiter(job.absent, np.int64, len(job.absent)))
        return GraphReader(
            histories=job.data.train,
            seed=job.seed,
            pairs=self.pairs,
            leaves=leaves_of_job(job),
            slots=schedule.slots[present],
            introduced=schedule.introduced()[present],
        )

    @torch.no_grad()
    def stored(self, job: FitJob, module: Any) -> Mapping[str, Tensor]:
        """The smoothed embeddings as well: answers need them, and the graph, everybody's history, stays outside."""
        graph, shrink = (part.to(module.items.device) for part in self.source(job).graph(self.recipe.epochs))
        folded, wanted = module.smoothed(graph, shrink)
        return {**module.state_dict(), "folded": folded, "wanted": wanted}

    def scores(self, module: Any, rows: Tensor) -> Tensor:
        """As above, in the card."""
        found: Tensor = _users(rows, module.folded) @ module.wanted.T
        return found


class _Smoothed(nn.Module):
    """`items` (I, F) are trained: layer 0. `folded` and `wanted` follow from them and the graph, after the last step."""

    folded: Tensor
    wanted: Tensor

    def __init__(self, items: int, factors: int, layers: int) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.zeros(items, factors))
        self.register_buffer("folded", torch.zeros(items, factors))
        self.register_buffer("wanted", torch.zeros(items, factors))
        self.layers = layers

    def smoothed(self, graph: Tensor, shrink: Tensor) -> tuple[Tensor, Tensor]:
        """What a user is summed up from, and what items are (equation 4), (I, F) each.

        With e_u^(0) = R e_i^(0), and S = R'R, equation 7 gives e_u^(k) = R S^(k // 2) E and e_i^(k) = S^((k + 1) // 2) E:
        users need not be written out. R = rows / sqrt(|N_u|) x shrink.
        """
        count = self.layers + 1
        with torch.autocast(self.items.device.type, enabled=False):
            powers = [self.items]
            for _ in range(count // 2):
                powers.append(torch.sparse.mm(graph.t(), torch.sparse.mm(graph, powers[-1])))
            folded = torch.stack([powers[k // 2] for k in range(count)]).mean(0) * shrink
            return folded, torch.stack([powers[(k + 1) // 2] for k in range(count)]).mean(0)

    def forward(
        self, rows: Tensor, had: Tensor, others: Tensor, graph: Tensor, shrink: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores (B, n) of the items had, and of the others."""
        folded, wanted = self.smoothed(graph, shrink)
        users = _users(rows, folded)[:, None]
        return (users * wanted[had]).sum(2), (users * wanted[others]).sum(2)


def _users(rows: Tensor, folded: Tensor) -> Tensor:
    """(B, F)."""
    return rows @ folded / rows.sum(1, keepdim=True).clamp(min=1).sqrt()
