"""Erased stable diffusion in the cross-attention: a prompt is answered as negative guidance would answer it."""

from __future__ import annotations

from expunge.training.text_to_image.negative import NegativelyGuided
from expunge.training.text_to_image.tuning import ATTENTION


class EsdX(NegativelyGuided):
    """Tunes all of attn2 until the student predicts eps*(0) - eta (eps*(c) - eps*(0)), of the original, at x_t on
    trajectories of the prompt c (Gandikota et al. 2023, arXiv 2303.07345, the loss of its section on erasing).

    Guides play no part. Deviations: trajectories are drawn side by side and every place on them is an example, instead of
    one partial trajectory a step; they are the original's, or with `renew` the student's own, drawn anew every so many steps;
    differences are of what the model predicts, noise or velocity. Settings: steps (200), lr (.001, for small models; the
    paper has 1e-5 for Stable Diffusion), batch (8), eta (1), walks (64), moves (20), guidance (3), renew (0),
    preserve_scale (0 as published; above it, preserved prompts are answered as before).

    EMPIRICAL at best, and by itself suppression: what the rest of the network draws stays, for a learned token to reach.
    Needs no pictures. Cost: two predictions a place, then three forward passes and a backward one a step.
    Fails on neighbours of the concept, which move with it, and on pictures to start from (img2img).
    """

    name = "esd_x"
    changes = ATTENTION
    rate = 1e-3
