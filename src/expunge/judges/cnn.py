"""The trained classifier: a small convolutional network for the styles and objects of the artist-styles testbed."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import nn

from expunge.core.errors import IntegrityError
from expunge.training.judging.files import Shipped
from expunge.training.judging.judge import Judged, Pixels, check_pixels
from expunge.training.judging.network import JudgeModel
from expunge.training.recipe import parse_recipe


class Cnn(Shipped):
    """Six convolutions, two heads: 18 styles and "none of these"; 5 objects. 290,704 weights in half precision.

    A style classifier as in UnlearnCanvas (Zhang et al. 2024, arXiv 2402.11846), at 32x32 and trained by the house's loop on
    softened photos, some with a stamp of another style, and on noise, plain colours, blur and mixtures, which are none of
    these: without them a classifier has a sink, an innocent style that all garbage is called by.

    Needs: 32x32 pictures of the artist-styles testbed. Cost: .36 ms of CPU a picture (n = 2,048).
    Fails on pieces of several styles side by side (83 of 100 such jigsaws are called by some style), on grey photos (13 of 300
    are called sketch), and as a judge of what it was never shown: it learned from the same painters as the models it judges.
    Measured: style right in 5,360 of 5,400 pictures of CIFAR-10's test photos (99.3 %, 95 % interval 99.0 to 99.5), 98.7 %
    when softened; object right in 54 %, from 43 % (woodcut) to 70 % (photo); 2 cores of an AMD EPYC, 120 CPU s of training.
    """

    name = "cnn"
    family = "trained classifier"
    space = "the layer below the heads of the judge cnn, 96 numbers"

    @cached_property
    def _model(self) -> tuple[JudgeModel, nn.Sequential]:
        made, tensors = self.read
        recipe = parse_recipe(made.recipe, what="the judge's recipe")
        if recipe.digest != made.recipe_digest:
            raise IntegrityError("the judge's recipe was changed", expected=made.recipe_digest, got=recipe.digest)
        model = JudgeModel(recipe, styles=made.styles, objects=made.objects)
        return model, model.filled(tensors)

    def judge(self, pictures: Pixels) -> Judged:
        """Style and object of each picture, with probabilities."""
        model, module = self._model
        return model.judged(module, check_pixels(pictures), self)

    def features(self, pictures: Pixels) -> NDArray[np.float64]:
        """(N, 96) what both heads read off."""
        model, module = self._model
        return model.features(module, check_pixels(pictures))
