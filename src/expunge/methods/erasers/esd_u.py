"""Erased stable diffusion outside the cross-attention: what is drawn is unlearned, not what is listened to."""

from __future__ import annotations

from expunge.training.text_to_image.negative import NegativelyGuided
from expunge.training.text_to_image.tuning import ATTENTION


class EsdU(NegativelyGuided):
    """Tunes everything but attn2 until the student predicts eps*(0) - eta (eps*(c) - eps*(0)), of the original, at x_t on
    trajectories of the prompt c (Gandikota et al. 2023, arXiv 2303.07345, the loss of its section on erasing).

    Guides play no part. Deviations: trajectories are drawn side by side and every place on them is an example, instead of
    one partial trajectory a step; they are the original's, or with `renew` the student's own, drawn anew every so many steps;
    differences are of what the model predicts, noise or velocity. Settings: steps (200), lr (.0003, for small models; the
    paper has 1e-5 for Stable Diffusion), batch (8), eta (1), walks (64), moves (20), guidance (3), renew (0),
    preserve_scale (0 as published; above it, preserved prompts are answered as before).

    EMPIRICAL at best. The paper advises it for what has no name of its own, and `esd_x` for artists.
    Needs no pictures. Cost: two predictions a place, then three forward passes and a backward one a step.
    Fails on everything that shares the concept's shapes and colours, more widely than `esd_x`.
    """

    name = "esd_u"
    changes = rf"\A(?!.*{ATTENTION})"
    rate = 3e-4
