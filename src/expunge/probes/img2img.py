"""Image to image: a neutral photo, noised in part and drawn anew under a neutral prompt."""

from __future__ import annotations

from expunge.core.errors import InputError
from expunge.training.text_to_image.probing import Group, Probed, ProbeJob, by_runs, prompted
from expunge.training.text_to_image.sampler import Pixels, Start
from expunge.training.text_to_image.starting import chosen


class Img2img:
    """Photos of the objects, noised by `strength` of the schedule, drawn on by the neutral prompt (Meng et al. 2022, SDEdit,
    arXiv 2108.01073; against erased models 2506.08991).

    Needs the model's use and a picture to start from, and no word for the style. No honest model has a reason to draw the
    style here, the original has none either: what is seen above it and above controls leaked into everything by the edit.
    Settings: strength (.5, share of the schedule, 0 to 1; 1 starts from noise). Cost: sampling, strength of its steps.
    Fails: at small strengths the photo stays what it is, whatever the model holds; a style that looks like photos is seen
    in photos.
    """

    name = "img2img"
    group: Group = "picture"
    needs = frozenset({"photos"})

    def __init__(self, *, strength: float = 0.5) -> None:
        if not 0 < strength <= 1:
            raise InputError("strength out of range", expected="above 0, up to 1", got=str(strength))
        self.strength = strength

    def run(self, job: ProbeJob) -> Probed:
        """n pictures a seed, each from a photo of its object."""

        def run(number: int) -> Pixels:
            start = Start(images=chosen(job, number, job.photos), strength=self.strength)
            return prompted(job, job.model, lambda name, _: job.wording.neutral(name), number, start)

        return by_runs(job, run)
