"""A trained model as a directory in the layout of diffusers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from expunge.core.errors import InputError
from expunge.evidence.durable import storage_errors
from expunge.training.text_to_image.answering import TOKENIZER
from expunge.training.text_to_image.captions import VOCABULARY
from expunge.training.text_to_image.directory import INDEX, Directory, read_directory
from expunge.training.text_to_image.libraries import quiet
from expunge.training.text_to_image.net import TextToImageNet
from expunge.training.text_to_image.noise import SCHEDULER
from expunge.training.text_to_image.packed import PackedNet

_PARTS = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "vae": [None, None],
}


def export(net: TextToImageNet, folder: Path, precision: torch.dtype = torch.float16) -> Directory:
    """Write both networks in this precision, vocabulary and scheduler; nothing is overwritten, and `net` stays as it is."""
    if isinstance(net, PackedNet):
        raise InputError("this model has a vocabulary and a scheduler of its own", hint="packed.unpack writes it")
    if folder.exists():
        raise InputError("the directory exists already", got=str(folder), hint="nothing is overwritten")
    with storage_errors(folder, "write"):
        folder.mkdir(parents=True)
        stored = copy.deepcopy(net).to(precision)
        for name in ("unet", "text_encoder"):
            part: Any = getattr(stored, name)
            with quiet():
                part.save_pretrained(folder / name, safe_serialization=True)
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "tokenizer.json").write_bytes(VOCABULARY.read_bytes())
        _write(
            folder / "tokenizer" / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **TOKENIZER}
        )
        (folder / "scheduler").mkdir()
        _write(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler", **SCHEDULER})
        _write(folder / INDEX, _PARTS)
    return read_directory(folder)


def _write(file: Path, settings: dict[str, Any]) -> None:
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
