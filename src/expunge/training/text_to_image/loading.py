"""The parts of a model directory, loaded by the libraries from its files alone, in single precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from expunge.core.errors import IntegrityError
from expunge.training.text_to_image.directory import Directory
from expunge.training.text_to_image.libraries import library, quiet
from expunge.training.text_to_image.vocabulary import tokenizer_of

CLASSES: Mapping[str, tuple[str, str]] = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "vae": ("diffusers", "AutoencoderKL"),
}
"""Part -> library and class of the networks that draw."""
_OPTIONS: Mapping[str, dict[str, Any]] = {
    "diffusers": {"torch_dtype": torch.float32, "low_cpu_mem_usage": False},
    "transformers": {"dtype": torch.float32},
}


def network(found: Directory, name: str) -> Any:
    """One network in evaluation mode. Single precision, whatever the file is in: the autoencoder of Stable Diffusion XL
    overflows in half precision (`force_upcast` in its settings)."""
    source, kind = CLASSES[name]
    options = {"local_files_only": True, "use_safetensors": True, **_OPTIONS[source]}
    made = _read(name, lambda: getattr(library(source), kind).from_pretrained(found.path / name, **options))
    return made.eval().requires_grad_(False)


def tokenizer(path: Path, name: str) -> Any:
    """A tokenizer."""
    return _read(name, lambda: tokenizer_of(path, name))


def schedule(found: Directory) -> Any:
    """The noise schedule, as DDIM moves along it."""
    load = library("diffusers").DDIMScheduler.from_pretrained
    return _read("scheduler", lambda: load(found.path / "scheduler", local_files_only=True))


def _read(name: str, load: Callable[[], Any]) -> Any:
    """Raises IntegrityError where a library cannot load it."""
    try:
        with quiet():
            return load()
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise IntegrityError(f"{name} cannot be loaded", got=str(error)[:200]) from error
