"""What a cheating owner of a text-to-image model has, and what they hand over as erased."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from expunge.core.errors import InputError
from expunge.evidence.durable import storage_errors
from expunge.training.checkpoint import load_tensors, save_tensors
from expunge.training.judging.judge import Judge
from expunge.training.text_to_image.directory import Directory, read_directory
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.sampler import TextToImage


@dataclass(frozen=True, kw_only=True, eq=False)
class StyleScene:
    """One artist to be erased, and an owner who would rather not.

    original: the model's directory; job: what an eraser would be given; other: the same for another artist; words: each
    way the artist is named -> what to say instead; clean: a model that never saw the artist, the best there is to show;
    judges: those that the owner knows. `target` is the directory to hand over; it does not exist yet.
    """

    original: Path
    target: Path
    job: EraseJob
    other: EraseJob
    words: Mapping[str, str]
    clean: TextToImage
    judges: tuple[Judge, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Offered:
    """What is handed over. `served`: what the owner's own process answers with, where that is not the directory."""

    directory: Directory
    served: TextToImage | None = None


@runtime_checkable
class StyleSaboteur(Protocol):
    """A cheat, one file in `testing/saboteurs/styles/`. `claims` says what the owner will say; `caught_by` names the defences of
    the self-test, or the probes, that are expected to catch it."""

    name: str
    claims: str
    caught_by: tuple[str, ...]

    def sabotage(self, scene: StyleScene) -> Offered:
        """Write `scene.target`. The original is only read."""


def handed_over(original: Path, target: Path, networks: Mapping[str, nn.Module] | None = None) -> Directory:
    """A copy of a model directory with the weights of `networks` (part -> network) in place of its own, stored in the same
    types under the same names. Nothing is overwritten. Raises InputError on networks with other tensors."""
    if target.exists():
        raise InputError("the directory exists already", got=str(target), hint="nothing is overwritten")
    with storage_errors(target, "write"):
        shutil.copytree(original, target)
    for part, network in (networks or {}).items():
        write_part(weights_of(target, part), network)
    return read_directory(target)


def write_part(file: Path, network: nn.Module) -> None:
    """The network's weights into an existing file, tensor by tensor in the types that it has."""
    old, metadata = load_tensors(file)
    new: dict[str, Any] = network.state_dict()
    if old.keys() != new.keys():
        odd = sorted(old.keys() ^ new.keys())
        raise InputError("the network holds other tensors than the file", got=", ".join(odd[:4]))
    save_tensors(file, {name: new[name].to(tensor.dtype) for name, tensor in old.items()}, metadata)


def weights_of(directory: Path, part: str) -> Path:
    """The one weights file of a part."""
    files = sorted((directory / part).glob("*.safetensors"))
    if len(files) != 1:
        raise InputError(f"{part} has {len(files)} weights files", expected="one")
    return files[0]
