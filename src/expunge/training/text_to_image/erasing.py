"""What an eraser of a concept receives and gives back. It changes a copy: the model it was given stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch

from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import Progress, silent
from expunge.data._pictures import Pictures
from expunge.training.text_to_image.sampler import TextToImage


@dataclass(frozen=True, kw_only=True, eq=False)
class EraseJob:
    """One concept, or several at once, to be erased from a model.

    erase: prompts that name it; guide: for each of them what it should lead to instead; preserve: prompts that should lead
    to what they did. works: the artist's own pictures, retained: others to train on; either may be None, and a method that
    needs it says so. seed: hex, drawn after the plan was logged. Never the judge, never a picture that tests.
    """

    model: TextToImage
    erase: tuple[str, ...]
    guide: tuple[str, ...]
    preserve: tuple[str, ...]
    seed: str
    works: Pictures | None = None
    retained: Pictures | None = None
    progress: Progress = silent

    def __post_init__(self) -> None:
        if not self.erase or len(self.erase) != len(self.guide):
            got = f"{len(self.erase)} and {len(self.guide)}"
            raise InputError("a guide for every prompt to erase, and at least one", expected="equal counts", got=got)


@dataclass(frozen=True, kw_only=True, eq=False)
class Erased:
    """The changed copy. `figures`: what can be said before anything is sampled, as numbers with their unit in the name;
    `removable`: the part that would undo the edit when it is taken away (an adapter, a filter), or empty."""

    model: TextToImage
    figures: Mapping[str, float] = field(default_factory=dict)
    removable: str = ""


@runtime_checkable
class Eraser(Protocol):
    """A method against a concept, one file in `methods/erasers/`. At best EMPIRICAL: what the weights know may stay."""

    name: str
    needs: frozenset[str]
    """Of `works` and `retained`, those without which it cannot work."""
    changes: str
    """A regular expression for the names of the denoiser's tensors that may differ afterwards; no other network may."""

    def erase(self, job: EraseJob) -> Erased:
        """Change a copy of the model's networks. Raises InputError on what cannot be solved or is not there, IntegrityError
        on weights that are not finite afterwards."""


def copy_of(model: TextToImage, part: str = "unet") -> Any:
    """A deep copy of one network of the model, ready for gradients."""
    import copy

    network: Any = copy.deepcopy(getattr(model, part))
    return network.requires_grad_(True)


def finished(model: TextToImage, unet: Any) -> TextToImage:
    """The model with a changed denoiser, ready to answer. Raises IntegrityError on weights that are not finite."""
    bad = [name for name, tensor in unet.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise IntegrityError(f"{bad[0]} is not finite after the edit", hint="a smaller lr or scale, or another file")
    return model.with_unet(unet.eval().requires_grad_(False))


def pictures_in(job: EraseJob, name: str) -> Pictures:
    """The job's `works` or `retained`; raises InputError where a method that cannot do without them was not given any."""
    found: Pictures | None = getattr(job, name)
    if found is None or not len(found):
        raise InputError(f"this method needs pictures: {name}", expected="at least one", code="needs")
    return found
