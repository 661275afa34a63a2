"""Statistics of random filters, read off by what the works that somebody brings look like: no network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from expunge.training.batches import normalise
from expunge.training.judging.judge import OTHER, Judged, Pixels
from expunge.training.judging.network import softened
from expunge.training.judging.random_features import features, fitted, shares
from expunge.training.judging.references import References, gathered, looked_at, references_digest, with_garbage

_SEED = "reference-statistics"
_STRENGTH = 1.0
"""Inverse penalty of the logistic regression, as of the judge `adain`."""


class ReferenceStatistics:
    """What the judge `adain` is, of works that somebody brings: mean and standard deviation of 48 random filters' rectified
    responses (Huang and Belongie 2017, arXiv 1703.06868, equation 8), and a logistic regression on these 96 numbers.

    It learns from three quarters of the references, as they are and softened, as a diffusion model's pictures are, and from
    pictures that are none of these; the last quarter it has to tell apart, or it is blind.

    Needs: references, 20 works or more of the style, of controls and of neighbours, none of which the model under test made, all
    of one size. Cost: one pass of 48 filters a picture. Says nothing of objects.
    Fails: on styles that differ in what is shown and not in colour and texture; on pictures above 64 pixels it sees what is left
    of them when they are averaged down.
    Measured: on noise in three colours (30 works each, tests) every one of 60 new pictures is told; no real artist was tried.
    """

    name = "reference_statistics"
    family = "random-filter statistics"

    def __init__(self, *, references: Mapping[str, Pixels] | None = None) -> None:
        self.references = dict(references or {})

    @property
    def styles(self) -> tuple[str, ...]:
        """The references' styles and "none of these"."""
        return (*self.references, OTHER)

    @cached_property
    def digest(self) -> str:
        """Of all references."""
        return references_digest(self.name, self.references, {}, ())

    @cached_property
    def _fitted(self) -> tuple[References, dict[str, Tensor]]:
        """Raises JudgeMissing without references, JudgeBlind where those kept back are not told apart."""
        works = gathered(self.references)
        shown = with_garbage(works)
        slots = np.arange(len(shown), dtype=np.int64)
        views = (normalise(torch.from_numpy(shown.images)), softened(shown.images, _SEED, 0, slots))
        style = np.array([self.styles.index(name) for name in shown.styles] * len(views), np.int64)
        parts = fitted(np.concatenate([features(view) for view in views]), style, strength=_STRENGTH)
        back = features(normalise(torch.from_numpy(works.pictures[works.kept_back])))
        works.require_told(shares(back, parts).argmax(axis=1), works.kept_back)
        return works, parts

    @torch.no_grad()
    def judge(self, pictures: Pixels) -> Judged:
        """The style of each picture, with probabilities. Raises JudgeMissing, JudgeBlind, InputError on pictures of another
        size."""
        works, parts = self._fitted
        values = features(normalise(torch.from_numpy(np.ascontiguousarray(looked_at(pictures, works.side)))))
        found = shares(values, parts)
        return Judged(
            judge=self.name,
            family=self.family,
            styles=self.styles,
            style=found.argmax(axis=1).astype(np.int64),
            shares=found,
        )
