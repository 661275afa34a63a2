"""Low-rank additions to layers that can be taken away again: the weights underneath stay as they are, bit for bit.

Hu et al. 2022 (LoRA, arXiv 2106.09685, equation 3): W x + scale B A x, with A (rank, in) drawn and B (out, rank) at zero. A
convolution is the linear layer of its patches, so its `in` is channels x height x width of the kernel.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError
from expunge.training.rng import normals

ADDED = r"\.(?:up|down)\Z"
"""Names of the added tensors in a network that holds them; the old weights lie under `.base.`."""


class Adapted(nn.Module):
    """A layer `base` that computes with W + scale B A; the sum is made anew each time and never stored."""

    def __init__(self, base: nn.Linear | nn.Conv2d, down: Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up = nn.Parameter(down), nn.Parameter(torch.zeros(len(base.weight), len(down)))

    @property
    def summed(self) -> Tensor:
        """W + scale B A."""
        return self.base.weight + self.scale * (self.up @ self.down).view_as(self.base.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of the layer with its addition."""
        base = self.base
        if isinstance(base, nn.Linear):
            return F.linear(inputs, self.summed, base.bias)
        return F.conv2d(inputs, self.summed, base.bias, base.stride, base.padding, base.dilation)


def _takes(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Linear layers, and convolutions that look at all channels at once."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros"
    return isinstance(layer, nn.Linear)


def with_adapter(unet: nn.Module, where: str, rank: int, scale: float, seed: str) -> nn.Module:
    """A copy whose layers named by `where` have a low-rank addition of zero; raises InputError where there are none."""
    count = 0

    def adapt(name: str, layer: nn.Module) -> nn.Module:
        nonlocal count
        if not (_takes(layer) and re.search(where, name)):
            return layer
        columns = layer.weight[0].numel()
        flat = normals(seed, "adapter", count, np.arange(rank, dtype=np.int64), columns) / np.sqrt(columns)
        count += 1
        return Adapted(layer, torch.from_numpy(flat.astype(np.float32)), scale)

    made = _replaced(unet, adapt)
    if not count:
        raise InputError(
            "no linear layers or convolutions to adapt", expected=f"names like {where}", code="no-cross-attention"
        )
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
