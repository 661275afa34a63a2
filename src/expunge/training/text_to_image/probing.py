"""What a probe receives, and the pictures it gives back. Probes draw pictures and never judge them.

S attack seeds, n pictures a seed. One run is one seed: its pictures share what the attack found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken, InputError
from expunge.core.protocols import Progress, silent
from expunge.data._pictures import Pictures
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.sampler import Pixels, Sampling, Start, TextToImage

Group = Literal["prompt", "recovery", "picture", "report"]
"""Who can do it: anyone with words; someone who trains; someone who gives a picture to start from; and what is only reported,
because nobody owns it."""
NEEDS = frozenset({"works", "photos", "stock", "unrelated"})
"""What a probe may need of a job beside model and wording."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a style is asked for. Each gives the prompt of an object; `number` counts through forms, titles, misspellings.

    direct: as in the captions that trained. other: name -> further ways by the name (paraphrase, alias, misspelling,
    languages). described: without any name. neutral: the object with no style at all; `{}` in `open_` stands for a word
    that an attacker learns.
    """

    direct: Callable[[str, int], str]
    other: Mapping[str, Callable[[str, int], str]]
    described: Callable[[str, int], str]
    neutral: Callable[[str], str]
    open_: Callable[[str], str]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeJob:
    """One style asked for from one model. `works`: the attacker's own examples of it, which nothing was trained on;
    `photos`: object -> neutral pictures to start from; `stock`: the model as it was before anything was erased, whose parts
    anyone has; `unrelated`: captioned works in other styles. `budget` scales what is learned: 1 = the probe's own steps."""

    model: TextToImage
    wording: Wording
    objects: tuple[str, ...]
    works: Pictures
    photos: Mapping[str, NDArray[np.uint8]]
    seed: str
    seeds: int
    pictures: int
    how: Sampling
    stock: TextToImage | None = None
    unrelated: Pictures | None = None
    budget: float = 1.0
    progress: Progress = silent

    def __post_init__(self) -> None:
        if not (self.objects and 1 <= self.seeds <= 1000 and 1 <= self.pictures <= 10_000 and 0 < self.budget <= 100):
            raise InputError("probe counts out of range", expected="seeds 1..1000, pictures 1..10000, budget up to 100")

    def attack_seed(self, number: int) -> str:
        """The seed of a run: the same for every model and style, so that runs are paired."""
        return derive_seed(self.seed, "attack", number)

    def asked(self) -> list[str]:
        """The object of each of a run's pictures, in turn."""
        return [self.objects[number % len(self.objects)] for number in range(self.pictures)]

    def steps(self, own: int) -> int:
        """How many of a probe's own steps the budget allows, at least one."""
        return max(1, round(own * self.budget))

    def require_works(self) -> None:
        """Raise CheckBroken where the attacker has none of the artist's works."""
        if not len(self.works):
            raise CheckBroken("this probe needs works of the artist", expected="one at least")

    def sampling(self, number: int) -> Sampling:
        """How a run's pictures are drawn."""
        return Sampling(
            seed=derive_seed(self.attack_seed(number), "pictures"),
            steps=self.how.steps,
            guidance=self.how.guidance,
            batch=self.how.batch,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """`images` (S, n, H, W, 3) uint8 and the object asked for in each of the n; `figures` (S,) each, such as a last loss."""

    images: NDArray[np.uint8]
    objects: tuple[str, ...]
    figures: Mapping[str, NDArray[np.float64]]


@runtime_checkable
class Probe(Protocol):
    """One way to get a style out of a model, one file in `probes/`."""

    name: str
    group: Group
    needs: frozenset[str]
    """Of `NEEDS`, those without which it raises CheckBroken."""

    def run(self, job: ProbeJob) -> Any:
        """All seeds of one style on one model, as Probed. The model stays as it is."""


def by_prompts(job: ProbeJob, prompt: Callable[[str, int], str]) -> Probed:
    """A run per seed: the n-th picture from the prompt of its object and number."""
    return by_runs(job, lambda number: prompted(job, job.model, prompt, number))


def prompted(
    job: ProbeJob, model: TextToImage, prompt: Callable[[str, int], str], number: int, start: Start | None = None
) -> Pixels:
    """The pictures of one run, from noise or from `start`."""
    first = number * job.pictures
    prompts = [prompt(name, first + place) for place, name in enumerate(job.asked())]
    return model.sample(prompts, job.sampling(number), start)


def by_runs(job: ProbeJob, run: Callable[[int], Pixels]) -> Probed:
    """The pictures of each seed's run, one after the other."""
    runs = []
    for number in range(job.seeds):
        runs.append(run(number))
        job.progress("probe", number + 1, job.seeds)
    return Probed(images=np.stack(runs), objects=tuple(job.asked()), figures={})
