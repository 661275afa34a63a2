"""What every image-classifier family shares over the one training loop: how images are read, and answers.

A family (one file in models/) only says how its module is built from a recipe. With `shards` > 1 the answer is the mean
of the S modules' log-probabilities.
"""

from __future__ import annotations

from abc import ABC

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.protocols import FitJob
from expunge.training.batches import Reader, normalise
from expunge.training.iterated import MODEL, Iterated, leaves_of_job
from expunge.training.recipe import Recipe
from expunge.training.serving import for_answers
from expunge.training.whitebox import WhiteBox

__all__ = ["MODEL", "ImageClassifier"]


class ImageClassifier(Iterated, WhiteBox, ABC):
    """Base of the image-classifier families."""

    def __init__(self, recipe: Recipe, *, classes: int, shape: tuple[int, int, int]) -> None:
        super().__init__(recipe, {"classes": classes, "shape": shape})
        self.classes = classes
        self.shape = shape

    def source(self, job: FitJob) -> Reader:
        """Images and labels, augmented by the recipe."""
        train = job.data.train
        return Reader(
            images=train.images, labels=train.labels, recipe=self.recipe, seed=job.seed, leaves=leaves_of_job(job)
        )

    @torch.no_grad()
    def outputs(self, model: list[nn.Module], images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Log-probabilities (N, K) in fp32; test-time augmentation only where the recipe states it."""
        chunks = []
        modules = [for_answers(module) for module in model]
        for start in range(0, len(images), 250):
            pixels = normalise(torch.from_numpy(images[start : start + 250]))
            logs = torch.stack([self._log_probabilities(module, pixels) for module in modules]).mean(0)
            chunks.append(torch.log_softmax(logs, 1).numpy())
        return np.concatenate(chunks) if chunks else np.zeros((0, self.classes), np.float32)

    def _log_probabilities(self, module: nn.Module, pixels: Tensor) -> Tensor:
        """Average of the logits over the test-time views that the recipe states."""

        def mirrored(view: Tensor) -> Tensor:
            mean: Tensor = (module(view) + module(view.flip(3))) / 2
            return mean

        if self.recipe.test_augment == "none":
            logits = module(pixels)
        elif self.recipe.test_augment == "flip":
            logits = mirrored(pixels)
        else:
            padded = F.pad(pixels, (1,) * 4, mode="reflect")
            shifted = mirrored(padded[:, :, :-2, :-2]) + mirrored(padded[:, :, 2:, 2:])
            logits = mirrored(pixels) / 2 + shifted / 4
        return torch.log_softmax(logits.float(), 1)
