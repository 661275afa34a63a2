"""Pictures that a run starts from, chosen by its seed: one for each picture that it draws, of the same object."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken
from expunge.data._pictures import Pictures
from expunge.training.rng import below, draws
from expunge.training.text_to_image.probing import ProbeJob
from expunge.training.text_to_image.sampler import Pixels


def chosen(job: ProbeJob, number: int, shelves: Mapping[str, NDArray[np.uint8]]) -> Pixels:
    """(n, S, S, 3) pictures for run `number` from `shelves`, object -> pictures; raises CheckBroken where an object has none."""
    bare = [name for name in job.objects if not len(shelves.get(name, ()))]
    if bare:
        raise CheckBroken(f"no picture to start from of {', '.join(bare)}", expected="one of each object at least")
    draw = draws(job.attack_seed(number), "start from", 0, np.arange(job.pictures, dtype=np.int64))
    rows = [int(below(draw[place, :1], len(shelves[name]))[0]) for place, name in enumerate(job.asked())]
    return np.stack([shelves[name][row] for name, row in zip(job.asked(), rows, strict=True)])


def by_object(works: Pictures) -> dict[str, NDArray[np.uint8]]:
    """object -> the works that show it."""
    return {name: works.images[[row for row, one in enumerate(works.objects) if one == name]] for name in works.objects}
