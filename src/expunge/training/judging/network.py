"""A small convolutional network with two heads, style and object, trained by the one loop on softened pictures.

Softening, because a diffusion model's pictures are: a judge that has seen crisp ones only would call them none of these,
and a style that is still there would count as gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import IntegrityError
from expunge.core.protocols import FitJob
from expunge.data._pictures import Pictures
from expunge.training.batches import Batch, Leaves, normalise
from expunge.training.iterated import Iterated, leaves_of_job
from expunge.training.judging.judge import Judge, Judged
from expunge.training.loop import numerics, numerics_of
from expunge.training.recipe import Recipe
from expunge.training.rng import below, draws, normals

OBJECT_WEIGHT = 0.5
"""Of the object's loss beside the style's."""
GRAIN = 12.0
"""Largest standard deviation of the noise, in grey values."""
GAIN, LIFT = 0.15, 12.0
"""How far contrast and brightness move: a share, and grey values."""
SHIFT = 1
"""Pixels by which a picture is moved at most, its borders mirrored."""
WIDTH = 96
"""Numbers from which both heads read off their answers."""
_FIELD = 96
_ROWS = 256
_NO_OBJECT = -1


@dataclass(frozen=True, kw_only=True)
class JudgeReader:
    """Rows of `pictures`, softened by draws of (seed, epoch, slot), with the numbers of style and object."""

    pictures: Pictures
    styles: tuple[str, ...]
    objects: tuple[str, ...]
    seed: str
    leaves: Leaves | None = None

    @cached_property
    def _wanted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        number = {name: place for place, name in enumerate(self.objects)}
        styles = [self.styles.index(style) for style in self.pictures.styles]
        return np.array(styles, np.int64), np.array(
            [number.get(o, _NO_OBJECT) for o in self.pictures.objects], np.int64
        )

    def batch(self, slots: NDArray[np.int64], epoch: int, moment: float) -> Batch:
        """Softened pixels (B, 3, H, W); style (B,) and object (B,), -1 where a picture shows none."""
        pixels = softened(self.pictures.images[slots], self.seed, epoch, slots)
        wanted = tuple(torch.from_numpy(column[slots]) for column in self._wanted)
        return Batch(inputs=(pixels,), wanted=wanted)

    def loss(self, found: Tensor, wanted: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the style and, with less weight, of the object, summed over the batch."""
        styles = len(self.styles)
        style = F.cross_entropy(found[:, :styles].float(), wanted[0], reduction="sum")
        thing = F.cross_entropy(found[:, styles:].float(), wanted[1], reduction="sum", ignore_index=_NO_OBJECT)
        return style + OBJECT_WEIGHT * thing


def softened(images: NDArray[np.uint8], seed: str, epoch: int, slots: NDArray[np.int64]) -> Tensor:
    """Mild blur, noise, contrast, brightness and a shift, keyed by (seed, epoch, slot).

    (N, H, W, 3) uint8 to normalised (N, 3, H, W), channels last.
    """
    how, where = draws(seed, "soften", epoch, slots), draws(seed, "place", epoch, slots)
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    pixels = _moved(pixels, where)
    pixels = pixels + _column(_half(how[:, 0])) * (_smoothed(pixels) - pixels)
    pixels = pixels + _column(_half(how[:, 1])) * GRAIN * _noise(where, pixels.shape[2])
    gain, lift = _column(_even(how[:, 2])) * GAIN, _column(_even(how[:, 3])) * LIFT
    pixels = (pixels - 127.5) * (1 + gain) + 127.5 + lift
    return normalise(pixels.clamp_(0, 255).permute(0, 2, 3, 1))


def _noise(where: NDArray[np.uint32], side: int) -> Tensor:
    """(N, 3, side, side) windows of one fixed field: cheaper than fresh numbers, and as unpredictable to a filter."""
    field, span = _grain(), _FIELD - side + 1
    tops, lefts = (torch.from_numpy(below(where[:, column], span)) for column in (2, 3))
    s0, s1, s2 = field.stride()
    return field.as_strided((span, span, 3, side, side), (s1, s2, s0, s1, s2))[tops, lefts]


@cache
def _grain() -> Tensor:
    drawn = normals("grain", "judge", 0, np.arange(3, dtype=np.int64), _FIELD * _FIELD)
    return torch.from_numpy(drawn.astype(np.float32)).view(3, _FIELD, _FIELD)


def _half(draw: NDArray[np.uint32]) -> NDArray[np.float32]:
    """0 for half of the pictures, so that crisp ones are seen too; else uniform up to 1."""
    return np.maximum(0, draw / 2.0**31 - 1).astype(np.float32)


def _even(draw: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Uniform in -1..1."""
    return (draw / 2.0**31 - 1).astype(np.float32)


def _column(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values)[:, None, None, None]


def _smoothed(pixels: Tensor) -> Tensor:
    """1-2-1 along rows and columns: a standard deviation of .7 pixels."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def _moved(pixels: Tensor, where: NDArray[np.uint32]) -> Tensor:
    side, span = pixels.shape[2], 2 * SHIFT + 1
    padded = F.pad(pixels, (SHIFT,) * 4, mode="reflect").contiguous()
    s0, s1, s2, s3 = padded.stride()
    windows = padded.as_strided((len(pixels), span, span, 3, side, side), (s0, s2, s3, s1, s2, s3))
    down, right = (torch.from_numpy(below(where[:, column], span)) for column in (0, 1))
    return windows[torch.arange(len(pixels)), down, right]


class JudgeModel(Iterated):
    """The network by its recipe. `styles` end with "none of these"; the last numbers of an answer are the objects'."""

    family = "style-judge"

    def __init__(self, recipe: Recipe, *, styles: tuple[str, ...], objects: tuple[str, ...]) -> None:
        super().__init__(recipe, {"styles": styles, "objects": objects})
        self.styles, self.objects = styles, objects

    def source(self, job: FitJob) -> JudgeReader:
        """Softened pictures with their style and object."""
        train = job.data.train
        return JudgeReader(
            pictures=train, styles=self.styles, objects=self.objects, seed=job.seed, leaves=leaves_of_job(job)
        )

    def module(self, generator: torch.Generator) -> nn.Sequential:
        """Six convolutions, averaged over the picture, and one linear layer for both heads."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            return network(len(self.styles) + len(self.objects))

    def filled(self, tensors: Mapping[str, Tensor]) -> nn.Sequential:
        """The network with these weights, in evaluation mode. Raises IntegrityError where they do not fit."""
        found = self.module(torch.Generator().manual_seed(0))
        try:
            found.load_state_dict(dict(tensors))
        except RuntimeError as error:
            raise IntegrityError("the weights do not fit the judge's network", got=str(error)[:200]) from error
        return found.eval()

    def answers(self, module: nn.Module, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities of the styles (N, S) and of the objects (N, K). On the recipe's threads, so that the count of a
        style does not depend on how busy the machine is."""
        logits = torch.from_numpy(self._asked(module, images, len(self.styles) + len(self.objects)))
        cut = len(self.styles)
        return torch.softmax(logits[:, :cut], 1).numpy(), torch.softmax(logits[:, cut:], 1).numpy()

    def judged(self, module: nn.Module, images: NDArray[np.uint8], judge: Judge) -> Judged:
        """Style and object of each picture, with probabilities, as this judge says them."""
        shares, things = self.answers(module, images)
        return Judged(
            judge=judge.name,
            family=judge.family,
            styles=judge.styles,
            style=shares.argmax(axis=1).astype(np.int64),
            shares=shares,
            objects=self.objects,
            things=things,
        )

    def features(self, module: nn.Sequential, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, WIDTH) what both heads read off: the last convolutions' answers, averaged over the picture. On the recipe's
        threads."""
        return self._asked(module[:-1], images, WIDTH)

    @torch.no_grad()
    def _asked(self, module: nn.Module, images: NDArray[np.uint8], width: int) -> NDArray[np.float64]:
        chunks = [np.zeros((0, width))]
        with numerics(numerics_of(self.recipe)):
            for start in range(0, len(images), _ROWS):
                pixels = normalise(torch.from_numpy(np.ascontiguousarray(images[start : start + _ROWS])))
                chunks.append(module(pixels).double().numpy())
        return np.concatenate(chunks)


def network(answers: int) -> nn.Sequential:
    """About 290 k weights: the first layers see single pixels, because a style at 32x32 is made of them."""
    return nn.Sequential(
        *_layer(3, 24),
        *_layer(24, 48, stride=2),
        *_layer(48, 64),
        *_layer(64, 96, stride=2),
        *_layer(96, 112),
        *_layer(112, WIDTH, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTH, answers),
    )


def _layer(into: int, out: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
