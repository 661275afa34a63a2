"""Low-rank additions to linear layers that can be taken away again: the weights underneath stay as they are, bit for bit.

Hu et al. 2022 (LoRA, arXiv 2106.09685, equation 3): W x + scale B A x, with A (rank, in) drawn and B (out, rank) at zero.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError
from expunge.training.rng import normals

ADDED = r"\.(?:up|down)\Z"
"""Names of the added tensors in a network that holds them; the old weights lie under `.base.`."""


class Adapted(nn.Module):
    """A linear layer `base` that computes with W + scale B A; the sum is made anew each time and never stored."""

    def __init__(self, base: nn.Linear, down: Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up = nn.Parameter(down), nn.Parameter(torch.zeros(base.out_features, len(down)))

    @property
    def summed(self) -> Tensor:
        """W + scale B A."""
        return self.base.weight + self.scale * (self.up @ self.down)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of the layer with its addition."""
        return F.linear(inputs, self.summed, self.base.bias)


def with_adapter(unet: nn.Module, where: str, rank: int, scale: float, seed: str) -> nn.Module:
    """A copy whose linear layers named by `where` have a low-rank addition of zero; raises InputError where there are none."""
    count = 0

    def adapt(name: str, layer: nn.Module) -> nn.Module:
        nonlocal count
        if not (isinstance(layer, nn.Linear) and re.search(where, name)):
            return layer
        columns = layer.in_features
        flat = normals(seed, "adapter", count, np.arange(rank, dtype=np.int64), columns) / np.sqrt(columns)
        count += 1
        return Adapted(layer, torch.from_numpy(flat.astype(np.float32)), scale)

    made = _replaced(unet, adapt)
    if not count:
        raise InputError("no linear layers to adapt", expected=f"names like {where}", code="no-cross-attention")
    return made


def without_adapter(unet: nn.Module) -> nn.Module:
    """A copy as it was before: anyone who has the file can do this."""
    return _replaced(unet, lambda _name, layer: layer.base if isinstance(layer, Adapted) else layer)


def merged(unet: nn.Module) -> nn.Module:
    """A copy with the additions summed into plain weights under their old names, as one file would hold them."""

    def merge(_name: str, layer: nn.Module) -> nn.Module:
        if isinstance(layer, Adapted):
            with torch.no_grad():
                layer.base.weight.copy_(layer.summed)
        return layer.base if isinstance(layer, Adapted) else layer

    return _replaced(unet, merge)


def _replaced(unet: nn.Module, change: Callable[[str, nn.Module], nn.Module]) -> nn.Module:
    """A copy with every layer that `change` answers with another exchanged for it."""
    made: nn.Module = copy.deepcopy(unet)
    for name, layer in list(made.named_modules()):
        if name and (other := change(name, layer)) is not layer:
            parent, _, own = name.rpartition(".")
            setattr(made.get_submodule(parent), own, other)
    return made
