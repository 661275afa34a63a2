"""MultVAE (Liang et al. 2018): a variational autoencoder of histories with a multinomial likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expunge.core.protocols import FitJob
from expunge.training.closed_form.settings import number, whole
from expunge.training.iterated import leaves_of_job
from expunge.training.recipe import Recipe
from expunge.training.user_batches import UserReader, unit_rows
from expunge.training.user_models import UserModel


class Multvae(UserModel):
    """Scores: log-probabilities log pi(z) at the mean z of the history's code; with shards, the mean of theirs.

    I - H tanh - 2L, z = mean + noise x deviation, L - H tanh - I; input of length 1 with dropout; multinomial likelihood
    and beta times the Kullback-Leibler term, annealed (Liang et al. 2018, arXiv 1802.05814, eq. 2, 5 and 6). Deviations:
    the loss of a user is divided by their number of events, so that plain momentum (Nesterov) trains it instead of
    Adam; weights start by Glorot and Bengio's uniform rule, biases at 0; histories are ones.
    Settings: hidden (H, 200), latent (L, 64), dropout (0.5), beta (1), annealing (share of the steps until beta, 0.5).

    Exact deletion: replay from the last checkpoint before the user's slice, retraining of the user's shard, or
    retraining: dropout and noise are drawn from (seed, epoch, slot, place), an absent user's place in a batch stays
    empty, and the loss is divided by places. No user has a row in the weights, but every weight has every user in it.
    Cost: 3 x 2 x epochs x users x I x 2H operations; rows of a batch are dense.
    Fails on catalogues so large that a batch of dense rows does not fit; at a high lr it diverges, and is then refused.
    Fails where users are few. Measured on ml-latest-small (2,269 films, 460 training users, 150 test users, 5 splits;
    settings swept on training users): NDCG@100 .365 (SD .011) where EASE at lambda 200 has .427 (.014); one retraining
    4.6 to 10 s (2 cores, CPU, 1 thread; benchmarks/recommender/iterative.json).
    """

    family = "multvae"
    defaults: Mapping[str, str] = {
        "hidden": "200",
        "latent": "64",
        "dropout": "0.5",
        "beta": "1",
        "annealing": "0.5",
    }

    def __init__(self, recipe: Recipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.hidden, self.latent = (whole(self.settings, name, 1, 65_536) for name in ("hidden", "latent"))
        self.dropout = float(number(self.settings, "dropout", 0, 0.99))
        self.beta = float(number(self.settings, "beta", 0, 1_000))
        self.annealing = float(number(self.settings, "annealing", 0, 1))

    def module(self, generator: torch.Generator) -> nn.Module:
        """Glorot and Bengio's uniform initialisation from `generator` only."""
        with torch.random.fork_rng(devices=[]):
            module = _Autoencoder(self.items, self.hidden, self.latent)
        for layer in (part for part in module.modules() if isinstance(part, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
        return module

    def source(self, job: FitJob) -> UserReader:
        """Users' rows, with dropout and noise."""
        return UserReader(
            histories=job.data.train,
            seed=job.seed,
            latent=self.latent,
            dropout=self.dropout,
            beta=self.beta,
            annealing=self.annealing,
            leaves=leaves_of_job(job),
        )

    def scores(self, module: Any, rows: Tensor) -> Tensor:
        """log pi(z) at the mean z of the code."""
        none = torch.zeros(len(rows), self.latent, dtype=rows.dtype)
        return torch.log_softmax(module(unit_rows(rows), none)[0], 1)


class _Autoencoder(nn.Module):
    def __init__(self, items: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, items))

    def forward(self, rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, I), and mean and logarithm of the variance of the code (B, L)."""
        mean, logarithm = self.encoder(rows).chunk(2, dim=1)
        return self.decoder(mean + noise * (logarithm / 2).exp()), mean, logarithm
