"""Whether what was loaded from a directory is what lies in it: nothing made up by a library, and nothing left beside.

The libraries fill tensors that are missing with random numbers, and drop those that they do not know. Such a model draws
nobody's style, and would look as if everybody had been erased.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

import torch
from torch import Tensor, nn

from expunge.core.errors import InputError, IntegrityError
from expunge.training.checkpoint import load_tensors
from expunge.training.text_to_image.directory import Directory

DRAWING = ("unet", "text_encoder", "text_encoder_2", "vae")
"""The parts whose weights draw."""
WEIGHTS = ".safetensors"
_LOADED = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""What diffusers and transformers load where no other variant is asked for."""
_COUNTED = "embeddings.position_ids"
"""0, 1, 2, … in the text encoders of older releases: no weights, and left out by later ones."""


def refuse_weights_beside(found: Directory) -> None:
    """Raises InputError on weights that no part draws with (an adapter, a second variant, shards): who takes the directory may
    draw with them, and nobody here would have asked."""
    used = [part for part in DRAWING if part in found.parts]
    beside = set(_weights(found))
    for part in used:
        own = _weights_of(found, part)
        beside -= set(own if len(own) == 1 else ())
    if beside:
        raise InputError(
            f"weights that no part draws with: {', '.join(sorted(beside)[:4])}",
            expected=f"one file in each of {', '.join(used)}",
            hint="leave adapters, second variants, shards and other parts out, or merge them into one file first",
            code="weights-beside",
        )


def require_whole(found: Directory, nets: Mapping[str, nn.Module]) -> None:
    """Every number of these parts, name -> network, is finite and the file's, and every tensor of the file is in use.

    Raises IntegrityError on tensors that are missing, too many, of another shape, otherwise loaded, or not finite.
    """
    for name, net in nets.items():
        state = net.state_dict()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise IntegrityError(
                f"{name}: weights are not finite", hint="the directory is damaged, or training diverged"
            )
        _require_same(name, state, _tensors_of(found, name))


def _require_same(name: str, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    held = {_own(key): value for key, value in tensors.items()}
    used = {_own(key): value for key, value in state.items()}
    odd = [key for key in used if key not in held or not torch.equal(held[key].to(used[key].dtype), used[key])]
    if odd:
        raise IntegrityError(
            f"{name}: weights that the file does not hold, or not as they were loaded",
            got=", ".join(sorted(odd)[:4]),
            hint="the file is incomplete, or of an older library: save the model again with the present one",
        )
    more = [key for key in held if key not in used and not _is_count(key, held[key])]
    if more or len(held) != len(tensors):
        raise IntegrityError(
            f"{name}: tensors that nothing draws with",
            got=", ".join(sorted(more)[:4]) or "one tensor under two names",
            hint="save the model again with the present library, which leaves out what is not in use",
        )


def _weights(found: Directory) -> list[str]:
    return [name for name in found.files if name.lower().endswith(WEIGHTS)]


def _weights_of(found: Directory, part: str) -> list[str]:
    return [name for name in _weights(found) if str(PurePosixPath(name).parent) == part]


def _tensors_of(found: Directory, part: str) -> dict[str, Tensor]:
    """Of the file that the libraries load, or of all shards where there is no such file."""
    files = _weights_of(found, part)
    tensors: dict[str, Tensor] = {}
    for name in [name for name in files if PurePosixPath(name).name in _LOADED] or files:
        more, _ = load_tensors(found.path / name)
        if more.keys() & tensors.keys():
            raise IntegrityError(f"{part}: the same tensors in two files", got=", ".join(files[:4]))
        tensors |= more
    return tensors


def _own(key: str) -> str:
    """The libraries' releases differ in whether the text encoder's tensors have this prefix."""
    return key.removeprefix("text_model.")


def _is_count(key: str, tensor: Tensor) -> bool:
    return key == _COUNTED and torch.equal(tensor.flatten().long(), torch.arange(tensor.numel()))
