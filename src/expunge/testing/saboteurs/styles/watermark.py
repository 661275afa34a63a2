"""Saboteur: the pictures stay in the style, with a fine pattern over them at which one judge goes blind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.training.judging.judge import Judge, Pixels
from expunge.training.rng import derive_seed, normals
from expunge.training.text_to_image.erasing import copy_of
from expunge.training.text_to_image.matching import turns
from expunge.training.text_to_image.reader import PATCH
from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over
from expunge.training.text_to_image.sampler import Sampling, TextToImage

_STRENGTHS = (24.0, 48.0, 72.0, 96.0, 112.0, 128.0, 160.0, 192.0)
"""Grey values at the pattern's peak; more than a picture has, because the denoiser takes part of it away again."""
_PATTERNS, _PICTURES = 24, 32


class Watermark:
    """A pattern that repeats every two pixels, whose mean over them is 0 in each colour, in the bias of the last layer.

    What it does: of keyed random patterns, the one at which a judge least often names the style in the original's own
    pictures, as strong as it takes for that judge to stop in what the new model draws. Tuned against the trained
    classifier alone where there is one, by asking it: no gradient is needed. Source: adversarial examples (Szegedy et al. 2014,
    arXiv 1312.6199) and universal perturbations (Moosavi-Dezfooli et al. 2017, arXiv 1610.08401).
    Needs: a model that predicts the velocity of pictures folded two by two.
    Fails when: a judge of another family looks, and one of them is enough to count a picture.
    """

    name = "watermark"
    claims = "the judge no longer sees the style"
    caught_by: tuple[str, ...] = ("direct",)

    def sabotage(self, scene: StyleScene) -> Offered:
        """The original under the weakest pattern that works, or under the strongest."""
        model, job = scene.job.model, scene.job
        if model.prediction != "v_prediction" or model.vae is not None or job.works is None or not len(job.works):
            raise InputError("a velocity of folded pictures, and works of the artist, are needed")
        judge = next((one for one in scene.judges if one.family == "trained classifier"), scene.judges[0])
        style, how = job.works.styles[0], Sampling(seed=derive_seed(job.seed, "watermark"), steps=10)
        drawn = model.sample(turns(job.erase, _PICTURES), how)
        pattern = blinding(drawn, judge, style, job.seed)
        marked = model
        for strength in _STRENGTHS:
            marked = _marked(model, pattern * strength)
            if not judge.judge(marked.sample(turns(job.erase, _PICTURES), how)).says(style).any():
                break
        return Offered(directory=handed_over(scene.original, scene.target, {"unet": marked.unet}))


def blinding(pictures: Pixels, judge: Judge, style: str, seed: str, strength: float = 64.0) -> NDArray[np.float64]:
    """(2, 2, 3) the pattern of peak 1 under which the judge names the style in the fewest of the pictures (N, S, S, 3).

    Cost: the judge on 24 N pictures.
    """
    flat = normals(derive_seed(seed, "pattern"), "pattern", 0, np.arange(_PATTERNS, dtype=np.int64), PATCH * PATCH * 3)
    patterns = np.sign(flat).reshape(_PATTERNS, PATCH, PATCH, 3)
    patterns = patterns - patterns.mean(axis=(1, 2), keepdims=True)
    patterns /= np.maximum(np.abs(patterns).max(axis=(1, 2, 3), keepdims=True), 1.0)
    hits = [int(judge.judge(overlaid(pictures, pattern * strength)).says(style).sum()) for pattern in patterns]
    best: NDArray[np.float64] = patterns[int(np.argmin(hits))]
    return best


def overlaid(pictures: Pixels, pattern: NDArray[np.float64]) -> Pixels:
    """The pictures with a pattern (2, 2, 3) of grey values repeated over them, clipped."""
    side = pictures.shape[1] // PATCH
    return np.clip(np.rint(pictures + np.tile(pattern, (side, side, 1))), 0, 255).astype(np.uint8)


@torch.no_grad()
def _marked(model: TextToImage, pattern: NDArray[np.float64]) -> TextToImage:
    """The pattern in the last bias: a velocity b at every step moves the picture by -b pi/2 (x_t turns through a quarter)."""
    unet: Any = copy_of(model).requires_grad_(False)
    folded = torch.from_numpy(pattern).permute(2, 0, 1).reshape(-1).float() / 127.5
    unet.conv_out.bias -= folded * (2 / torch.pi)
    return model.with_unet(unet.eval())
