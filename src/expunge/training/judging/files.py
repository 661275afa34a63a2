"""What ships with a judge: weights as safetensors and how they were made. The digest is checked when they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.core.codec import decode, digest_of, encode, loads
from expunge.core.errors import IntegrityError
from expunge.training.checkpoint import load_tensors, save_tensors, weights_identity
from expunge.training.judging.judge import JudgeMissing

WEIGHTS = Path(__file__).parents[2] / "judges" / "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How a judge was made. recipe: its settings as plain values; data_digest: of the pictures it learned from; seconds are
    wall time, cpu_seconds of this process; held_out: its calibration, as plain values; weights: identity of the tensors."""

    judge: str
    command: str
    recipe: Mapping[str, Any]
    recipe_digest: str
    styles: tuple[str, ...]
    objects: tuple[str, ...]
    data: str
    data_digest: str
    pictures: int
    seconds: int
    cpu_seconds: int
    hardware: Mapping[str, Any]
    weights: str
    held_out: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """`sha256:` over what can change an answer: weights, settings and names; not when or where they were made."""
        return digest_of([self.judge, self.weights, self.recipe_digest, list(self.styles), list(self.objects)])


def write_judge(folder: Path, made: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Made:
    """Weights as they are given, and the manifest; both are replaced whole."""
    name = str(made["judge"])
    weights = save_tensors(folder / f"{name}.safetensors", tensors)
    found = decode(Made, encode({**made, "weights": weights}), what=f"{name}.json")
    text = json.dumps(encode(found), indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return found


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In half precision, which is all that is shipped. Raises IntegrityError where a number does not fit."""
    found = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values()):
        raise IntegrityError("the weights are not finite in half precision")
    return found


def read_judge(folder: Path, name: str) -> tuple[Made, dict[str, Tensor]]:
    """Manifest and tensors in single precision. Raises JudgeMissing where either is not there, IntegrityError where the
    weights are not those of the manifest."""
    weights, manifest = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not weights.is_file() or not manifest.is_file():
        raise JudgeMissing(f"the weights of judge {name} are not there", expected=f"{weights.name}, {manifest.name}")
    made = decode(Made, loads(manifest.read_bytes(), what=manifest.name), what=manifest.name)
    found = weights_identity(weights)
    if found != made.weights:
        raise IntegrityError(f"{weights.name} is not the file that was measured", expected=made.weights, got=found)
    tensors, _ = load_tensors(weights)
    return made, {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


class Shipped:
    """Base of the judges whose weights ship with expunge, or lie in another folder: read when first needed, once."""

    name: str

    def __init__(self, *, weights: Path | None = None) -> None:
        self.folder = WEIGHTS if weights is None else weights

    @cached_property
    def read(self) -> tuple[Made, dict[str, Tensor]]:
        """Manifest and tensors."""
        return read_judge(self.folder, self.name)

    @property
    def made(self) -> Made:
        """How it was made and what it was measured to see."""
        return self.read[0]

    @property
    def styles(self) -> tuple[str, ...]:
        """18 styles and "none of these"."""
        return self.made.styles

    @property
    def digest(self) -> str:
        """Of weights, settings and names."""
        return self.made.digest
