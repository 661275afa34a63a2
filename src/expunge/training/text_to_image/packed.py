"""A model directory from elsewhere as one file: the weights of every part that draws, and the settings beside them as bytes.

A workspace names a model by the digest of its tensors. Here that digest covers all that can change a picture: weights,
configurations, vocabulary and scheduler. An edited copy carries the same settings, byte for byte.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from expunge.core.codec import canonical, loads
from expunge.core.errors import InputError, IntegrityError
from expunge.training.checkpoint import load_tensors
from expunge.training.text_to_image.directory import READABLE, Directory, read_directory
from expunge.training.text_to_image.libraries import library, quiet
from expunge.training.text_to_image.loading import CLASSES
from expunge.training.text_to_image.net import TextToImageNet
from expunge.training.text_to_image.sampler import TextToImage, fitted
from expunge.training.text_to_image.text_encoders import ENCODERS, TOKENIZERS, fitting, zeros_in
from expunge.training.text_to_image.vocabulary import tokenizer_of
from expunge.training.text_to_image.whole import DRAWING, WEIGHTS, refuse_weights_beside

SETTINGS = "settings"
"""Name of the tensor of bytes that holds every file of the directory but its weights."""
_LARGEST = 64 << 20


class PackedNet(TextToImageNet):
    """The networks of a directory from elsewhere, with its own tokenizer and scheduler; its tensors are those of the file."""

    def __init__(self, model: TextToImage, settings: Tensor) -> None:
        super().__init__(model.unet, model.text_encoder)
        for name, net in model.networks.items():
            setattr(self, name, net)
        self.register_buffer(SETTINGS, settings)
        self._own = {name: getattr(model, name) for name in ("tokenizer", "tokenizer_2", "schedule", "zeros")}

    @property
    def model(self) -> TextToImage:
        """What draws."""
        more = {name: net for name in ("vae", "text_encoder_2") if (net := getattr(self, name, None)) is not None}
        return TextToImage(unet=self.unet, text_encoder=self.text_encoder, **more, **self._own)

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """As in training. Raises InputError for two text encoders, which no token of this vocabulary reaches."""
        if hasattr(self, "text_encoder_2"):
            raise InputError("Stable Diffusion XL is asked by its own prompts", hint="model.predict", code="sdxl")
        return super().forward(noisy, times, tokens)


def packed(found: Directory) -> dict[str, Tensor]:
    """Tensors of the directory, weights in single precision.

    Raises InputError on weights that no part draws with (an adapter or a second variant left beside) and on settings beyond
    64 MiB, IntegrityError on damaged, missing or non-finite tensors: a library would fill missing ones with random numbers.
    """
    refuse_weights_beside(found)
    model = TextToImage.from_dir(found.path)
    return dict(PackedNet(model, _bytes_of(found)).state_dict())


def is_packed(file: Path) -> bool:
    """Whether a file of a workspace's store holds a directory from elsewhere. Raises IntegrityError on an unreadable one."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            return SETTINGS in opened.keys()  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{file.name} is not a readable safetensors file", got=str(error)[:200]) from error


def unpacked(file: Path) -> PackedNet:
    """The networks of a packed file. Raises IntegrityError where weights and settings are not of one model."""
    tensors, _ = load_tensors(file)
    with _laid_out(tensors) as folder:
        return PackedNet(_built(folder, tensors), tensors[SETTINGS].clone())


def unpack(file: Path, folder: Path) -> Directory:
    """A packed file as a directory again, weights in single precision; nothing is overwritten."""
    if folder.exists():
        raise InputError("the directory exists already", got=str(folder), hint="nothing is overwritten")
    tensors, _ = load_tensors(file)
    with _laid_out(tensors) as settings:
        for name, net in _built(settings, tensors).networks.items():
            part: Any = net
            with quiet():
                part.save_pretrained(folder / name, safe_serialization=True)
    _write(_files(tensors), folder)  # last, because the library writes configurations of its own
    return read_directory(folder)


def tensors_of(model: TextToImage, source: Path) -> dict[str, Tensor]:
    """What an edited copy of the model in `source` is stored as. Raises InputError where the edit left other tensors than
    before: an edit changes weights, and adds none."""
    if not is_packed(source):
        return dict(TextToImageNet(model.unet, model.text_encoder).state_dict())
    before, _ = load_tensors(source)
    after = dict(PackedNet(model, before[SETTINGS]).state_dict())
    if after.keys() != before.keys() or any(after[name].shape != before[name].shape for name in after):
        raise InputError("the edit left other tensors than there were", hint="nothing may be added to the networks")
    return after


def _bytes_of(found: Directory) -> Tensor:
    """Canonical JSON of path -> base64, as a row of bytes."""
    names = [name for name in sorted(found.files) if not name.endswith(WEIGHTS)]
    size = sum((found.path / name).stat().st_size for name in names)
    if size > _LARGEST:
        raise InputError("the settings of the model are too large", expected="64 MiB", got=f"{size} bytes")
    plain = {name: base64.b64encode((found.path / name).read_bytes()).decode() for name in names}
    return torch.from_numpy(np.frombuffer(canonical(plain), np.uint8).copy())


def _files(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """The settings again; names that climb or are of another kind are refused, whoever wrote the file."""
    plain = loads(tensors[SETTINGS].numpy().tobytes(), what=SETTINGS)
    for name in plain:
        path = PurePosixPath(name)
        good = not path.is_absolute() and ".." not in path.parts and "\\" not in name
        if not good or (
            path.suffix.lower() not in READABLE - {WEIGHTS} and path.name not in ("LICENSE", ".gitattributes")
        ):
            raise IntegrityError("the packed settings hold a file that they must not hold", got=name[:80])
    return {name: base64.b64decode(text, validate=True) for name, text in plain.items()}


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@contextmanager
def _laid_out(tensors: Mapping[str, Tensor]) -> Iterator[Path]:
    """The settings as files, for as long as libraries read them."""
    with tempfile.TemporaryDirectory(prefix="expunge-settings-") as folder:
        _write(_files(tensors), Path(folder))
        yield Path(folder)


def _built(folder: Path, tensors: Mapping[str, Tensor]) -> TextToImage:
    there = [name for name in DRAWING if any(key.startswith(f"{name}.") for key in tensors)]
    try:
        with quiet():
            nets = {name: _filled(folder, name, tensors) for name in there}
            readers = {name: tokenizer_of(folder, name) for name in TOKENIZERS[: 1 + (ENCODERS[1] in nets)]}
            schedule = library("diffusers").DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
            model = TextToImage(schedule=schedule, zeros=zeros_in(folder), **nets, **readers)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise IntegrityError("weights and settings are not of one model", got=str(error)[:200]) from error
    fitting(model.text)
    return fitted(model)


def _filled(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network of these settings with these tensors."""
    source, kind = CLASSES[name]
    state = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    config = json.loads((folder / name / "config.json").read_text(encoding="utf-8"))
    made: Any = getattr(library(source), kind)
    with torch.random.fork_rng(devices=[]):
        net: nn.Module = made.from_config(config) if source == "diffusers" else made(made.config_class(**config))
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)
