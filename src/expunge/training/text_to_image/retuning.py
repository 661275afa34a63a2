"""Training a copy of the whole denoiser a little further, a copy a run, and drawing with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from expunge.data._pictures import Pictures
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.matching import denoising
from expunge.training.text_to_image.probing import Probed, ProbeJob, by_runs, prompted
from expunge.training.text_to_image.sampler import Pixels
from expunge.training.text_to_image.tuning import Tuning, tuned


def by_tuning(
    job: ProbeJob, pictures: Pictures, captions: Sequence[str], prompt: Callable[[str, int], str], how: Tuning
) -> Probed:
    """Each seed tunes a copy on pictures under captions, as in training, and draws its prompts with that.

    Every weight of the denoiser may move; the text encoder stays. `last_loss`: mean over the last tenth of the steps.
    """
    model, budget = job.model, replace(how, steps=job.steps(how.steps))
    clean, words, bare = model.latents(pictures.images), model.encode(captions), model.encode([""])[0]
    losses = []

    def run(number: int) -> Pixels:
        loss = denoising(clean, words, bare, derive_seed(job.attack_seed(number), "tuning"), budget.batch)
        done = tuned(model, loss, budget, changes=".", progress=job.progress)
        losses.append(float(np.mean(done.losses[-max(1, budget.steps // 10) :])))
        return prompted(job, done.model, prompt, number)

    found = by_runs(job, run)
    return replace(found, figures={"last_loss": np.array(losses)})
