"""Label-only attack: members keep their label in a wider neighbourhood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob, ModelAdapter, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import as_measured, gaussian_ratio, on_both

_NOISES = (8.0, 24.0, 48.0)
_DRAWS = 5
_SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))

Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOnly:
    """Log-likelihood ratio of IN against OUT of how often the label stays right in a neighbourhood of the record.

    Choquette-Choo et al. 2021 (arXiv 2007.14321), augmentation and noise attacks: correctness on augmented copies (flips and
    translations) and on noisy ones, which stand for the distance to the decision boundary. Only the predicted label is
    used, so masked or clamped confidences do not blind it. Deviations: hits on all views are counted, the count's
    empirical logit takes the place of a learned attack model, and the Gaussian ratio of LiRA (Carlini et al. 2022, arXiv
    2112.03570, eq. 4) with one variance pooled over all records is taken of it.

    25 views: the record and its mirror image, each shifted by 0 or by 1/16 of the side (at least 1 pixel) in four
    directions with the border repeated, and 5 draws of Gaussian noise of 8, 24 and 48 grey levels, the same for all
    records and models of one seed. `measure` gives ln((k + ½)/(25 − k + ½)) of k right labels. It moves in 26 steps and
    saturates at ±3.9: a record that every model gets right in all views scores 0 and informs nobody. Unit of the score:
    nats, linear in the signal. Needs 2 IN and 2 OUT references a record; otherwise CheckBroken, as on NaN and infinity.
    Cost: 25 forward passes a record and model.
    """

    requires = ModelAdapter

    def measure(self, job: ProbeJob) -> Mapping[str, Floats]:
        """`block` (R,) and `population` (Z,): empirical logit of the share of right labels; higher = member."""

        def signal(images: Images, labels: NDArray[np.int64]) -> Floats:
            hits, views = np.zeros(len(images)), 0
            for view in _neighbourhood(images, job.seed):
                hits += np.argmax(job.adapter.outputs(job.model, view), axis=1) == labels
                views += 1
            return np.asarray(np.log((hits + 0.5) / (views - hits + 0.5)), dtype=np.float64)

        return on_both(job, signal)

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        values = gaussian_ratio("label_only", job, as_measured)
        return MembershipScores(attack="label_only", values=values, unit="nats")


def _neighbourhood(images: Images, seed: int) -> Iterator[Images]:
    """The 25 views of uint8 images (N, H, W, C), one after the other."""
    for sides in (images, images[:, :, ::-1]):
        for down, right in _SHIFTS:
            yield _shifted(sides, down, right)
    generator = np.random.Generator(np.random.Philox(seed))
    for deviation in _NOISES:
        for _ in range(_DRAWS):
            noisy = images + deviation * generator.standard_normal(images.shape[1:])
            yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _shifted(images: Images, down: int, right: int) -> Images:
    """Moved by one step each way, the border repeated."""
    height, width = images.shape[1:3]
    rows = np.clip(np.arange(height) - down * max(1, height // 16), 0, height - 1)
    columns = np.clip(np.arange(width) - right * max(1, width // 16), 0, width - 1)
    return np.asarray(images[:, rows][:, :, columns])
