"""A user's vision model as a folder: looked at before it is loaded, never executed, and complete or refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.core.codec import digest_of
from expunge.core.errors import InputError, IntegrityError
from expunge.training.judging.judge import JudgeMissing, Pixels
from expunge.training.text_to_image.directory import READABLE
from expunge.training.text_to_image.libraries import library, quiet

KINDS: Mapping[str, str] = {
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "dinov2": "Dinov2Model",
}
"""`model_type` of a folder, and the class it is read with."""
_CLIP = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}
_ROWS = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """A network in evaluation mode and how a picture enters it; `digest` is over every file of the folder."""

    network: Any
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    @torch.no_grad()
    def of(self, pictures: Pixels) -> NDArray[np.float64]:
        """(N, D) embeddings of (N, S, S, 3), resized to the network's side."""
        found = [np.zeros((0, 1))] if not len(pictures) else []
        for start in range(0, len(pictures), _ROWS):
            output = self.network(pixel_values=self._entered(pictures[start : start + _ROWS]))
            embeds = getattr(output, "image_embeds", None)
            found.append((output.pooler_output if embeds is None else embeds).double().numpy())
        return np.concatenate(found)

    def _entered(self, pictures: Pixels) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
        pixels = F.interpolate(pixels, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(values)[None, :, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std


def open_embedding(folder: Path | None) -> Embedding:
    """Load a folder with config.json and safetensors. Raises JudgeMissing without one, InputError on code, pickles, links
    and unknown kinds, IntegrityError where weights are missing: the library would fill them with random numbers."""
    if folder is None or not folder.is_dir():
        raise JudgeMissing(
            "the embedding judge has no weights",
            expected="a folder with a vision model: config.json and safetensors",
            got="nothing" if folder is None else str(folder),
            hint="give one, or judge by the other families",
        )
    _refuse_foreign(folder)
    config = _json(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind not in KINDS or "auto_map" in config:
        got = "a model with code of its own" if "auto_map" in config else kind[:80]
        raise InputError("not a vision model that can be read", expected=", ".join(KINDS), got=got)
    network = _network(folder, kind)
    steps = _json(folder / "preprocessor_config.json") if (folder / "preprocessor_config.json").exists() else {}
    mean, std = (tuple(float(value) for value in steps.get(name, _CLIP[name])) for name in ("image_mean", "image_std"))
    return Embedding(network=network, size=int(network.config.image_size), mean=mean, std=std, digest=_digest(folder))


def _network(folder: Path, kind: str) -> Any:
    with quiet():
        try:
            network, report = getattr(library("transformers"), KINDS[kind]).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise IntegrityError("the vision model cannot be loaded", got=str(error)[:200]) from error
    gone = sorted(report["missing_keys"]) + sorted(map(str, report.get("mismatched_keys", ())))
    if gone:
        raise IntegrityError(
            "weights are missing from the vision model", expected="all of them", got=", ".join(gone[:5])
        )
    return network.float().eval()


def _refuse_foreign(folder: Path) -> None:
    foreign = [
        file.name
        for file in sorted(folder.rglob("*"))
        if file.is_symlink() or (file.is_file() and file.suffix not in READABLE)
    ]
    if foreign:
        expected = "JSON, text and safetensors only: pickles and code can run"
        raise InputError(f"the folder holds what must not be read: {', '.join(foreign[:8])}", expected=expected)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file.name} is not there or no JSON", got=str(error)[:120]) from error
    if not isinstance(found, dict):
        raise InputError(f"{file.name} holds no settings", expected="a JSON object")
    return found


def _digest(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    rows = {}
    for file in files:
        with file.open("rb") as stream:
            rows[str(file.relative_to(folder))] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digest_of(rows)
