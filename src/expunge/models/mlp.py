"""A multilayer perceptron for small images: the model of the embedded demo and of the fast tests."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from expunge.core.errors import InputError
from expunge.training.classifier import ImageClassifier


class Mlp(ImageClassifier):
    """Flatten, `depth` hidden layers of `width` ReLU units, linear output. Settings: width (96), depth (1)."""

    family = "mlp"

    def module(self, generator: torch.Generator) -> nn.Module:
        """He initialisation from `generator` only."""
        settings = {"width": 96, "depth": 1, **self.recipe.model}
        unknown = set(settings) - {"width", "depth"}
        if unknown:
            raise InputError("unknown settings of family mlp", expected="width, depth", got=", ".join(sorted(unknown)))
        width, depth = int(settings["width"]), int(settings["depth"])
        sizes = [self.shape[0] * self.shape[1] * self.shape[2], *[width] * depth]
        layers: list[nn.Module] = [nn.Flatten()]
        with torch.random.fork_rng(devices=[]):
            for fan_in, fan_out in pairwise(sizes):
                layers += [_linear(fan_in, fan_out, generator), nn.ReLU()]
            layers.append(_linear(sizes[-1], self.classes, generator))
        return nn.Sequential(*layers)


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.kaiming_normal_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
