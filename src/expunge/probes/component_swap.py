"""Component swap: the candidate's denoiser with every other part of the model as it was before."""

from __future__ import annotations

from dataclasses import replace

from expunge.core.errors import CheckBroken
from expunge.training.text_to_image.probing import Group, Probed, ProbeJob, by_prompts


class ComponentSwap:
    """Direct prompts through the stock text encoders, tokenizers, autoencoder and schedule, drawn by the candidate's denoiser.

    Needs the weights and the stock parts, which anyone may have kept or download. An edit of the text encoder alone, a
    prompt filter or a spoilt autoencoder is undone by it, and by nothing else that is as cheap; what it brings back was
    never out of the denoiser. Judged as prompts are, by the gate of `direct`, since it takes no skill.
    Settings: none. Cost: sampling.
    Fails: says nothing of a denoiser that was trained anew with an encoder of its own: with the stock one it draws noise.
    """

    name = "component_swap"
    group: Group = "prompt"
    needs = frozenset({"stock"})

    def run(self, job: ProbeJob) -> Probed:
        """n pictures a seed."""
        stock = job.stock
        if stock is None:
            raise CheckBroken("a swap needs the stock model's parts")
        mine, theirs = ((one.text.widths, one.text.pooled, one.vae is None) for one in (job.model, stock))
        if mine != theirs:
            raise CheckBroken(
                "the stock model's parts do not fit this denoiser",
                expected=f"one architecture: {mine}",
                got=str(theirs),
            )
        return by_prompts(replace(job, model=stock.with_unet(job.model.unet)), job.wording.direct)
