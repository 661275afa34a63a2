"""Safetensors checkpoints of weights, buffers, optimiser and cursor; published atomically, checked when read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from expunge.core.errors import IntegrityError, StorageError
from expunge.evidence.tensors import TensorManifest

Tensors = Mapping[str, Tensor]


def save_tensors(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> str:
    """Write atomically; returns the weights identity (`sha256:` Merkle root over the tensors)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata=dict(metadata or {}))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        digest = TensorManifest.of_file(temporary).root
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path.name}", got=str(error)[:200], hint="free space or permissions"
        ) from error
    return digest


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; IntegrityError on a truncated or foreign file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise IntegrityError(f"{path.name} is not a readable safetensors file", got=str(error)[:200]) from error


def labels_of(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; no tensor is read. IntegrityError as above."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise IntegrityError(f"{path.name} is not a readable safetensors file", got=str(error)[:200]) from error


def weights_identity(path: Path) -> str:
    """`sha256:` Merkle root over the tensors of a file, whatever its metadata."""
    return TensorManifest.of_file(path).root


def checkpoint_name(epoch: int) -> str:
    """File name of the state at the start of an epoch."""
    return f"epoch-{epoch:04d}.safetensors"


def pack(module: torch.nn.Module, state: Tensors, average: Tensors) -> dict[str, Tensor]:
    """Everything a continued training needs, in one flat dictionary; `state` is the optimiser's, by group and name."""
    weights = {f"weights.{name}": tensor for name, tensor in module.state_dict().items()}
    return weights | dict(state) | {f"average.{name}": tensor for name, tensor in average.items()}


def unpack(tensors: Tensors, group: str) -> dict[str, Tensor]:
    """The tensors of one group (`weights`, `average`, or one of the optimiser's)."""
    return {name.removeprefix(f"{group}."): tensor for name, tensor in tensors.items() if name.startswith(f"{group}.")}
