"""The fast CIFAR network of Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds", arXiv 2404.00498, section 3), data-free.

Our deviation: the paper initialises the frozen first layer from the covariance of training patches, which would make
the weights depend on records that may have to be deleted. Here it is the fixed 2x2x3 cosine basis, scaled by the 1/f
law of natural images, so no record touches it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from expunge.core.errors import InputError
from expunge.training.classifier import ImageClassifier

SETTINGS = {"width": 64, "wide": 256}


class ConvNet(ImageClassifier):
    """Settings: width (channels of the first block), wide (of the second and third). Images of at least 16x16."""

    family = "convnet"

    def module(self, generator: torch.Generator) -> nn.Module:
        """Partial identity (Dirac) initialisation over a He start; all randomness from `generator`."""
        unknown = set(self.recipe.model) - set(SETTINGS)
        if unknown:
            raise InputError("unknown settings of family convnet", expected=", ".join(SETTINGS), got=", ".join(unknown))
        if min(self.shape[:2]) < 16:
            raise InputError("images too small for family convnet", expected="16x16 or more", got=str(self.shape[:2]))
        settings = {**SETTINGS, **self.recipe.model}
        width, wide = int(settings["width"]), int(settings["wide"])
        with torch.random.fork_rng(devices=[]):
            stem = _stem(self.shape[2])
            net = nn.Sequential(
                stem,
                nn.GELU(),
                *_block(stem.out_channels, width),
                *_block(width, wide),
                *_block(wide, wide),
                nn.AdaptiveMaxPool2d(1),
                nn.Flatten(),
                nn.Linear(wide, self.classes, bias=False),
                _Scale(1 / 9),
            )
        for module in net[1:].modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
                nn.init.dirac_(module.weight.data[: module.in_channels])
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        return net


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def _stem(channels: int) -> nn.Conv2d:
    """Frozen 2x2 convolution whose filters are the cosine basis of a patch and its negative; only the bias learns."""
    spatial = torch.tensor([[[1.0, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 2
    frequency = torch.tensor([1.0, 4.0, 4.0, 8.0])
    if channels == 3:
        colour = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
        colour = colour / colour.norm(dim=1, keepdim=True)
        chroma = torch.tensor([1.0, 3.0, 6.0])
    else:
        colour, chroma = torch.eye(channels), torch.ones(channels)
    basis = torch.einsum("shw,kc->skchw", spatial, colour) * (frequency[:, None] * chroma)[..., None, None, None]
    filters = basis.flatten(0, 1) * 0.5
    stem = nn.Conv2d(channels, 2 * len(filters), 2)
    with torch.no_grad():
        stem.weight.copy_(torch.cat([filters, -filters]))
        assert stem.bias is not None
        stem.bias.zero_()
    stem.weight.requires_grad_(False)
    return stem


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-5, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    """conv - pool - norm - GELU - conv - norm - GELU."""
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        _norm(outputs),
        nn.GELU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        _norm(outputs),
        nn.GELU(),
    ]
