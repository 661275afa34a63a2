"""Where the text enters: keys and values of the cross-attention of a loaded model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.core.errors import InputError
from expunge.training.concepts.files import KEYS_AND_VALUES
from expunge.training.concepts.uce import Edit
from expunge.training.text_to_image.erasing import copy_of, finished
from expunge.training.text_to_image.sampler import TextToImage


def keys_and_values(unet: nn.Module, width: int) -> dict[str, nn.Parameter]:
    """name -> (out, width) of `attn2.to_k` and `to_v`; raises InputError where there are none or they are of another width."""
    found = {name: weight for name, weight in unet.named_parameters() if KEYS_AND_VALUES.search(name)}
    if not found:
        raise InputError("the model holds no keys and values to edit", code="no-cross-attention")
    odd = [f"{name}: {tuple(weight.shape)}" for name, weight in found.items() if weight.shape[1] != width]
    if odd:
        raise InputError("keys and values of another width", expected=str(width), got=odd[0])
    return found


@torch.no_grad()
def multiplied(model: TextToImage, factor: NDArray[np.float64]) -> TextToImage:
    """A copy whose keys and values W are W R, computed in double precision."""
    unet, right = copy_of(model), torch.from_numpy(factor)
    for weight in keys_and_values(unet, len(factor)).values():
        weight.copy_((weight.double() @ right).to(weight.dtype))
    return finished(model, unet)


def foretold(model: TextToImage, edit: Edit, kept: NDArray[np.float64] | None) -> dict[str, float]:
    """What an edit says of itself before anything is drawn; kept: rows (n, d) that should stay where they are.

    Of Stable Diffusion XL also how many numbers of a prompt it does not reach: the pooled vector goes past keys and values.
    """
    figures = {"condition": edit.condition, "distance_of_r_from_identity": edit.distance}
    if kept is not None:
        shifts = edit.shift(kept)
        figures |= {"largest_shift_of_the_preserved": float(shifts.max()), "mean_shift": float(shifts.mean())}
    return figures | ({"pooled_numbers_not_reached": float(model.text.pooled)} if model.text.pooled else {})
