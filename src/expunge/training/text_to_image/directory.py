"""A text-to-image model as a directory in the layout of diffusers: looked at before any of it is loaded, never executed.

A directory may come from anybody. Only JSON, text and safetensors are read; code, pickles and links are refused, and so is
a model whose text does not enter through cross-attention, by its name, because edits would leave it untouched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.merkle import leaf_hash, root_of

INDEX = "model_index.json"
READABLE = frozenset({".json", ".txt", ".safetensors", ".md", ".model"})
_LARGEST_JSON = 64 << 20
_JOINT = "a joint transformer (MMDiT), whose text does not enter through cross-attention"
_TOKENIZERS = frozenset({"CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"})
_PARTS: Mapping[str, frozenset[str]] = {
    "unet": frozenset({"UNet2DConditionModel"}),
    "text_encoder": frozenset({"CLIPTextModel"}),
    "tokenizer": _TOKENIZERS,
    "vae": frozenset({"AutoencoderKL"}),
    "text_encoder_2": frozenset({"CLIPTextModelWithProjection"}),
    "tokenizer_2": _TOKENIZERS,
}
"""The classes that a part may be of; everything else in an index is a setting or is not used."""
_NEEDED = ("unet", "text_encoder", "tokenizer", "scheduler")
_DRAWS = ("vae", "text_encoder_2", "tokenizer_2")
"""Needed where the index names one: without it, latents would be taken for pictures, or half a prompt for a prompt."""
_OTHER_NOISE = ("FlowMatch", "EDM")
"""Schedulers of models that are trained under another noise: DDIM would read their settings, and draw nothing by them."""
PREDICTIONS = frozenset({"epsilon", "v_prediction", "sample"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What lies in a directory. `parts`: name -> class, of those that are there; `files`: path -> hex SHA-256."""

    path: Path
    parts: Mapping[str, str]
    files: Mapping[str, str]
    prediction: str

    @property
    def digest(self) -> str:
        """`sha256:` of the Merkle root over all files, sorted by path: any change of weights or settings changes it."""
        leaves = [leaf_hash(f"{name}|{digest}".encode()) for name, digest in sorted(self.files.items())]
        return "sha256:" + root_of(leaves).hex()

    @property
    def unet(self) -> Path:
        """The denoiser's weights, one file."""
        return _only_weights(self.path / "unet")

    def differs_from(self, other: Directory) -> tuple[str, ...]:
        """Files that are not byte for byte the same, or are in one of the two only, sorted."""
        names = set(self.files) | set(other.files)
        return tuple(sorted(name for name in names if self.files.get(name) != other.files.get(name)))


def read_directory(path: Path) -> Directory:
    """Look at a directory and take the digest of every file.

    Raises InputError on code, pickles, links, other architectures and missing parts, all problems at once where they can
    be told apart; IntegrityError on settings that do not parse.
    """
    if not path.is_dir():
        raise InputError("no model directory", expected=f"a folder with {INDEX}", got=str(path))
    _refuse_foreign(path)
    index = settings_in(path / INDEX)
    parts = {name: _class_of(name, value) for name, value in index.items() if _is_part(value)}
    _refuse_joint(parts)
    needed = (*_NEEDED, *(name for name in _DRAWS if name in parts))
    missing = [name for name in needed if name not in parts or not (path / name).is_dir()]
    if missing:
        raise InputError(f"parts are missing: {', '.join(missing)}", expected=", ".join(needed))
    _refuse_other_noise(parts.get("scheduler", ""))
    odd = [f"{name}: {kind}" for name, kind in parts.items() if name in _PARTS and kind not in _PARTS[name]]
    if odd:
        raise InputError(f"parts of classes that are not known: {'; '.join(odd)}")
    return Directory(
        path=path,
        parts={name: kind for name, kind in parts.items() if (path / name).is_dir()},
        files={str(file.relative_to(path)): _sha256(file) for file in sorted(path.rglob("*")) if file.is_file()},
        prediction=_prediction(settings_in(path / "scheduler" / "scheduler_config.json")),
    )


def _refuse_foreign(path: Path) -> None:
    """Everything is looked at by its name before anything is opened."""
    problems = []
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.is_symlink():
            problems.append(f"{name} is a link")
        elif not file.is_dir() and not file.is_file():
            problems.append(f"{name} is no plain file")
        elif file.is_file() and file.suffix.lower() not in READABLE and file.name not in (".gitattributes", "LICENSE"):
            kind = "code" if file.suffix == ".py" else f"{file.suffix or 'no suffix'}"
            problems.append(f"{name} ({kind})")
    if problems:
        raise InputError(
            f"the model directory holds what must not be read: {', '.join(problems[:8])}",
            expected="JSON, text and safetensors only: pickles and code can run",
            hint="convert weights to safetensors, and leave custom pipelines out",
            code="foreign-files",
        )


def _is_part(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)


def _class_of(name: str, value: list[str]) -> str:
    library, kind = value
    if library not in ("diffusers", "transformers", "stable_diffusion"):
        raise InputError(
            f"{name} is of a library that would run as code", expected="diffusers or transformers", got=library[:80]
        )
    return kind


def _refuse_joint(parts: Mapping[str, str]) -> None:
    if "transformer" in parts or "Transformer" in parts.get("unet", ""):
        kind = parts.get("transformer", parts.get("unet"))
        raise InputError(
            f"{kind} is {_JOINT}: an edit would leave it untouched",
            expected="a UNet with attn2 (Stable Diffusion 1.x, 2.x, XL)",
            code="no-cross-attention",
        )


def _refuse_other_noise(kind: str) -> None:
    if kind.startswith(_OTHER_NOISE):
        raise InputError(
            f"{kind} is of another kind of noise", expected="a scheduler over cumulative alphas", code="other-noise"
        )


def _prediction(settings: Mapping[str, Any]) -> str:
    found = settings.get("prediction_type", "epsilon")
    if found not in PREDICTIONS:
        raise InputError("unknown prediction type", expected=", ".join(sorted(PREDICTIONS)), got=str(found)[:80])
    return str(found)


def settings_in(file: Path) -> dict[str, Any]:
    """A JSON object of a directory. Raises InputError where it is missing, IntegrityError where it is none or beyond 64 MiB."""
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise IntegrityError(f"{file.name} is too large for settings")
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{file.name} is missing", got=str(file)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{file.name} is not JSON", got=str(error)[:120]) from error
    if not isinstance(found, dict):
        raise IntegrityError(f"{file.name} holds no settings", expected="a JSON object")
    return found


def _only_weights(folder: Path) -> Path:
    """The one safetensors file of a part; a part in several has an index, and is edited shard by shard."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise InputError(
            f"{folder.name} has {len(files)} weights files", expected="one", hint="leave one variant in the folder"
        )
    return files[0]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
