"""The model that answers: the base with the asked artist's adapter, or the base alone."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from expunge.core.errors import IntegrityError
from expunge.training.checkpoint import load_tensors, weights_identity
from expunge.training.text_to_image.adapter import ADDED, with_adapter
from expunge.training.text_to_image.compartments.records import BASE, read_manifest
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.sampler import TextToImage


def composed(folder: Path, artist: str | None = None) -> TextToImage:
    """Load the base, and the adapter of `artist` over it; None = the base alone. Files stay apart: nothing is merged.

    Raises InputError `not_present` for an artist without an adapter, IntegrityError where a file is not the recorded one.
    """
    found = read_manifest(folder)
    record = None if artist is None else found.of(artist)
    if read_directory(folder / BASE).digest != found.base.digest:
        raise IntegrityError("the base is not the one that was recorded when it was trained")
    base = TextToImage.from_dir(folder / BASE)
    if record is None:
        return base
    file = folder / record.path
    if not file.is_file() or weights_identity(file) != record.weights:
        raise IntegrityError(f"{record.path} is not the adapter that was recorded when it was trained")
    unet = with_adapter(base.unet, record.how.where, record.how.rank, record.how.scale, record.seed)
    _fill(unet, file)
    return base.with_unet(unet.eval().requires_grad_(False))


def _fill(unet: torch.nn.Module, file: Path) -> None:
    tensors, _ = load_tensors(file)
    places = {name: weight for name, weight in unet.named_parameters() if re.search(ADDED, name)}
    fits = tensors.keys() == places.keys() and all(tensors[name].shape == place.shape for name, place in places.items())
    if not fits or not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise IntegrityError(f"{file.name} does not fit the base", expected="finite additions to its layers")
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])
