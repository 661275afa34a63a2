"""bf16 where the CPU computes in it, fp32 where it would only be emulated: there it is many times slower than fp32."""

from __future__ import annotations

import torch

from expunge.training.recipe import Recipe


def suited(recipe: Recipe, capability: str | None = None) -> tuple[Recipe, str]:
    """The recipe for a new workspace on this machine, and what was changed about it (empty if nothing was).

    Precision is part of the recipe and changes every bit of the weights, so it is settled once, before anything is
    trained, and never later. `capability` is torch's name of the CPU's instruction set; by default this machine's.
    """
    found = torch.backends.cpu.get_cpu_capability() if capability is None else capability
    if recipe.precision != "bf16" or recipe.device != "cpu" or found.startswith("AVX512"):
        return recipe, ""
    return recipe.model_copy(update={"precision": "fp32"}), f"precision fp32: this CPU ({found}) would emulate bf16"
