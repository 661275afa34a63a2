"""Which weights a loss depends on most."""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.core.errors import InputError
from expunge.training.text_to_image.erasing import copy_of
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.tuning import Loss


def salient(model: TextToImage, loss: Loss, share: float, steps: int) -> dict[str, Tensor]:
    """name -> 1 where |gradient of the loss, summed over `steps` draws| is among the largest `share` of all weights, else 0.

    Fan et al. 2024 (arXiv 2310.12508), the saliency map; ties at the limit are all taken.
    """
    if not (0 < share <= 1 and 1 <= steps <= 10_000):
        raise InputError("share or steps out of range", expected="share in 0..1, steps 1..10000")
    unet = copy_of(model)
    student = model.with_unet(unet.eval())
    for step in range(steps):
        loss(student, step).backward()  # type: ignore[no-untyped-call]
    sizes = {name: weight.grad.abs() for name, weight in unet.named_parameters() if weight.grad is not None}
    flat = torch.cat([size.flatten() for size in sizes.values()])
    limit = flat.kthvalue(len(flat) - max(1, round(share * len(flat))) + 1).values
    return {name: (size >= limit).to(size.dtype) for name, size in sizes.items()}
