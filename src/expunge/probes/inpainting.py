"""Inpainting: parts of the artist's works are shown, and the model draws what is missing between them."""

from __future__ import annotations

import numpy as np

from expunge.core.errors import InputError
from expunge.training.text_to_image.probing import Group, Probed, ProbeJob, by_runs, prompted
from expunge.training.text_to_image.sampler import Pixels, Start
from expunge.training.text_to_image.starting import by_object, chosen

_GREY = 127


class Inpainting:
    """A work is cut into upright stripes; every second one is shown, the others are blanked and drawn under the neutral prompt
    (Lugmayr et al. 2022, arXiv 2201.09865, without resampling), and then the other way round.

    Needs the model's use and works of the artist, and no word for the style. The picture that is judged is put together of
    drawn stripes alone: not one of its pixels is the artist's, so what is seen in it the model drew.
    Settings: stripes (2, even number of parts of the picture's width). Cost: sampling, twice.
    Fails: many narrow stripes let any model continue what it sees, so only the excess over controls says anything; a model
    with an autoencoder is refused here.
    """

    name = "inpainting"
    group: Group = "picture"
    needs = frozenset({"works"})

    def __init__(self, *, stripes: int = 2) -> None:
        if not (2 <= stripes <= 64 and stripes % 2 == 0):
            raise InputError("stripes out of range", expected="an even number, 2..64", got=str(stripes))
        self.stripes = stripes

    def run(self, job: ProbeJob) -> Probed:
        """n pictures a seed, each after a work that shows its object."""
        return by_runs(job, lambda number: self._drawn(job, number))

    def _drawn(self, job: ProbeJob, number: int) -> Pixels:
        works = chosen(job, number, by_object(job.works))
        side = works.shape[1]
        if side % (2 * self.stripes):
            raise InputError(
                "the pictures do not divide into such stripes", expected="two pixels or a multiple", got=str(side)
            )
        odd = np.arange(side) * self.stripes // side % 2 == 1
        drawn = np.empty_like(works)
        for shown in (odd, ~odd):
            drawn[:, :, ~shown] = self._continued(job, number, works, shown)[:, :, ~shown]
        return drawn

    def _continued(self, job: ProbeJob, number: int, works: Pixels, shown: np.ndarray) -> Pixels:
        """Pictures drawn around the columns `shown` (S,) of works; the rest of them never reaches the model."""
        keep = np.broadcast_to(shown, works.shape[1:3]).copy()
        images = np.where(keep[None, :, :, None], works, np.uint8(_GREY))
        start = Start(images=images, keep=keep)
        return prompted(job, job.model, lambda name, _: job.wording.neutral(name), number, start)
