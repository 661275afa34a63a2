"""Relearning: a few steps of training on a few works of the artist, under a word that nobody has used."""

from __future__ import annotations

from expunge.training.text_to_image.probing import Group, Probed, ProbeJob
from expunge.training.text_to_image.retuning import by_tuning
from expunge.training.text_to_image.tuning import Tuning
from expunge.training.text_to_image.words import MARK

_WORD = "zwx"


class Relearning:
    """The whole denoiser is trained on the attacker's works under a new word, and asked for that word (Ruiz et al. 2023,
    arXiv 2208.12242, without their prior term; against erased models Liu and Zhang 2025, arXiv 2505.16174).

    Needs the weights, and works of the artist. Shows how near the style lies: weights that only hide it get there in fewer
    steps than weights that never held it. Several plans of different steps make the curve.
    Settings: steps (10) of Adam, lr (1e-3, per step: for about a million weights; Stable Diffusion takes 1e-6 to 1e-5),
    batch (8 pictures). Cost: steps x seeds x batch pictures, forward and backward through all weights, and a copy of the
    denoiser.
    Fails: with enough steps any model learns any style, so only the excess over controls at equal steps says anything;
    where steps or lr are too small nobody gets anywhere, and the original shows that the attack is blind.
    """

    name = "relearning"
    group: Group = "recovery"
    needs = frozenset({"works"})

    def __init__(self, *, steps: int = 10, lr: float = 1e-3, batch: int = 8) -> None:
        self.tuning = Tuning(steps=steps, lr=lr, batch=batch)

    def run(self, job: ProbeJob) -> Probed:
        """Tune a copy a seed, then draw n pictures of the objects by the new word."""
        job.require_works()

        def prompt(name: str, _number: int) -> str:
            return job.wording.open_(name).replace(MARK, _WORD)

        captions = [prompt(name, 0) for name in job.works.objects]
        return by_tuning(job, job.works, captions, prompt, self.tuning)
