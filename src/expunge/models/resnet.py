"""CIFAR ResNets of selectable width and depth: ResNet-9 (the DAWNBench shape) and ResNet-20 (He et al. 2016, section 4.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError
from expunge.training.classifier import ImageClassifier

SETTINGS: dict[str, int | str | bool] = {"depth": 9, "width": 32, "norm": "batch", "scale": "0.125"}


class ResNet(ImageClassifier):
    """Settings: depth (9 or 6n+2), width (channels of the first stage), norm (`batch`, or `group`, which couples no
    records and admits per-example gradients), scale (multiplier on the logits of depth 9).
    """

    family = "resnet"

    def module(self, generator: torch.Generator) -> nn.Module:
        """He initialisation from `generator` only; the caller's global random state is untouched."""
        unknown = set(self.recipe.model) - set(SETTINGS)
        if unknown:
            raise InputError("unknown settings of family resnet", expected=", ".join(SETTINGS), got=", ".join(unknown))
        settings: dict[str, int | str | bool] = {**SETTINGS, **self.recipe.model}
        depth, width, norm = int(settings["depth"]), int(settings["width"]), str(settings["norm"])
        if norm not in ("batch", "group"):
            raise InputError("unknown norm", expected="batch or group", got=norm)
        with torch.random.fork_rng(devices=[]):
            if depth == 9:
                net: nn.Module = _resnet9(self.shape[2], width, self.classes, norm, float(settings["scale"]))
            elif depth % 6 == 2 and depth >= 8:
                net = _resnet_cifar(self.shape[2], width, self.classes, norm, (depth - 2) // 6)
            else:
                raise InputError("unsupported depth", expected="9 or 6n+2", got=str(depth))
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return net


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class _Residual(nn.Module):
    """x + body(x), or the He et al. block when a shortcut is given."""

    def __init__(self, body: nn.Module, stride: int = 1, grow: int = 0, last: bool = False) -> None:
        super().__init__()
        self.body, self.stride, self.grow, self.last = body, stride, grow, last

    def forward(self, x: Tensor) -> Tensor:
        short = x
        if self.stride > 1 or self.grow:
            # Option A of He et al.: subsample and pad channels with zeros, no parameters.
            short = F.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.grow // 2, self.grow - self.grow // 2)
            )
        y: Tensor = short + self.body(x)
        return F.relu(y) if self.last else y


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(math.gcd(channels, 8), channels)


def _conv(inputs: int, outputs: int, norm: str, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), _norm(norm, outputs)]


def _resnet9(channels: int, width: int, classes: int, norm: str, scale: float) -> nn.Sequential:
    """prep(w) - layer(2w)+res - layer(4w) - layer(8w)+res - max pool - linear."""

    def block(inputs: int, outputs: int, pool: bool) -> list[nn.Module]:
        return [*_conv(inputs, outputs, norm), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]

    def residual(size: int) -> nn.Module:
        return _Residual(nn.Sequential(*block(size, size, False), *block(size, size, False)))

    return nn.Sequential(
        *block(channels, width, False),
        *block(width, 2 * width, True),
        residual(2 * width),
        *block(2 * width, 4 * width, True),
        *block(4 * width, 8 * width, True),
        residual(8 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, classes, bias=False),
        _Scale(scale),
    )


def _resnet_cifar(channels: int, width: int, classes: int, norm: str, blocks: int) -> nn.Sequential:
    """conv(w) - n blocks each of w, 2w, 4w channels - average pool - linear."""
    layers: list[nn.Module] = [*_conv(channels, width, norm), nn.ReLU()]
    inputs = width
    for stage in range(3):
        outputs = width * 2**stage
        for number in range(blocks):
            stride = 2 if stage and number == 0 else 1
            body = nn.Sequential(*_conv(inputs, outputs, norm, stride), nn.ReLU(), *_conv(outputs, outputs, norm))
            layers.append(_Residual(body, stride, outputs - inputs, last=True))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
