"""What families of the loop share that are trained on users' histories: settings, answers in float64, and divergence."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expunge.core.errors import InputError
from expunge.training.closed_form.settings import chosen
from expunge.training.iterated import Iterated
from expunge.training.recipe import Recipe

_ROWS = 500  # histories that are dense at once


class UserModel(Iterated):
    """Base: `defaults` are all settings there are, as texts; a family says how its module is built, read and asked."""

    solver = "sgd"
    defaults: Mapping[str, str]

    def __init__(self, recipe: Recipe, *, items: int) -> None:
        super().__init__(recipe, {"items": items})
        self.items = items
        self.settings = chosen(self.family, self.defaults, recipe.model)

    @abstractmethod
    def scores(self, module: Any, rows: Tensor) -> Tensor:
        """(B, I) of one shard's module in double precision, for histories as ones (B, I)."""

    def load(self, path: Path) -> list[nn.Module]:
        """The module of each shard. Raises InputError on a training that left the numbers: it has no answers."""
        modules = super().load(path)
        if not all(bool(torch.isfinite(tensor).all()) for module in modules for tensor in module.state_dict().values()):
            raise InputError("the training diverged", expected="finite weights", hint="a lower lr, or a longer warmup")
        return modules

    @torch.no_grad()
    def outputs(self, model: list[nn.Module], rows: Any) -> NDArray[np.float64]:
        """Scores (B, I) of every item for each history, the mean over shards; what the history holds is not masked."""
        found = [np.zeros((0, self.items))]
        modules = [copy.deepcopy(module).double().eval() for module in model]
        for start in range(0, rows.shape[0], _ROWS):
            dense = torch.from_numpy((rows[start : start + _ROWS].toarray() != 0).astype(np.float64))
            found.append(torch.stack([self.scores(module, dense) for module in modules]).mean(0).numpy())
        return np.concatenate(found)
