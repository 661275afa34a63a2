"""The optimisers of the loop, and what each keeps of a parameter between steps: a replay that lost it would be another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expunge.training.recipe import AdaptiveRecipe, Recipe

STATES: Mapping[type, Mapping[str, str]] = {
    torch.optim.SGD: {"momentum_buffer": "momentum"},
    torch.optim.AdamW: {"exp_avg": "momentum", "exp_avg_sq": "square", "step": "steps"},
}
"""What torch calls it, and the group of a checkpoint that it is saved in."""

Parameters = Mapping[str, nn.Parameter]


def optimiser_of(recipe: Recipe, parameters: Parameters, device: torch.device) -> torch.optim.Optimizer:
    """SGD, or AdamW (Loshchilov and Hutter 2019) for an adaptive recipe; vectors are not decayed and have `bias_lr`."""
    decayed = [p for p in parameters.values() if p.ndim > 1]
    plain = [p for p in parameters.values() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay, "scale": 1.0},
        {"params": plain, "weight_decay": 0.0, "scale": recipe.bias_lr},
    ]
    groups = [group for group in groups if group["params"]]
    fused = device.type == "cpu"
    if isinstance(recipe, AdaptiveRecipe):
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, recipe.second_momentum), fused=fused)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)


def state_of(optimiser: torch.optim.Optimizer, parameters: Parameters) -> dict[str, Tensor]:
    """`group.parameter` -> tensor, of everything kept; parameters that never had a gradient have none."""
    return {
        f"{group}.{name}": optimiser.state[parameter][key]
        for key, group in STATES[type(optimiser)].items()
        for name, parameter in parameters.items()
        if optimiser.state.get(parameter, {}).get(key) is not None
    }


def restore_state(optimiser: torch.optim.Optimizer, parameters: Parameters, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_of` gave, in each parameter's memory layout. KeyError on a parameter that is not there."""
    for key, group in STATES[type(optimiser)].items():
        for full, tensor in tensors.items():
            if not full.startswith(f"{group}."):
                continue
            parameter = parameters[full.removeprefix(f"{group}.")]
            like = tensor.clone() if tensor.ndim != parameter.ndim else torch.empty_like(parameter).copy_(tensor)
            optimiser.state[parameter][key] = like
