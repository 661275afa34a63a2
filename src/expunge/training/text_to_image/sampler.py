"""A text-to-image model that answers: text to embeddings, embeddings to pictures, by the seed and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expunge.core.errors import InputError, IntegrityError
from expunge.training.rng import normals
from expunge.training.text_to_image.directory import Directory, read_directory
from expunge.training.text_to_image.libraries import library, quiet
from expunge.training.text_to_image.reader import PATCH, folded, unfolded
from expunge.training.text_to_image.vocabulary import tokenizer_of
from expunge.training.text_to_image.whole import DRAWING, require_whole

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How pictures are drawn: `seed`, DDIM `steps` (Song et al. 2021, eta 0), classifier-free `guidance` (1 = none)."""

    seed: str
    steps: int = 20
    guidance: float = 3.0
    batch: int = 64

    def __post_init__(self) -> None:
        if not (1 <= self.steps <= 1000 and 0 <= self.guidance <= 50 and 1 <= self.batch <= 4096):
            raise InputError("sampling out of range", expected="steps 1..1000, guidance 0..50, batch 1..4096")


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """What drawing starts from: `images` (N, S, S, 3) noised by `strength` of the schedule (img2img, Meng et al. 2022); keep:
    (S, S) bool, pixels of them that stay (inpainting, Lugmayr et al. 2022, without resampling)."""

    images: Pixels
    strength: float = 1.0
    keep: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise InputError("strength out of range", expected="above 0, up to 1", got=str(self.strength))


@dataclass(frozen=True, kw_only=True, eq=False)
class TextToImage:
    """Networks in evaluation mode with their scheduler's settings; `vae` is None where pictures are folded, not encoded."""

    unet: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    schedule: Any
    vae: nn.Module | None = None

    @classmethod
    def from_dir(cls, path: Path) -> TextToImage:
        """Load a directory that `read_directory` accepts, in single precision. SDXL is edited by file, not sampled here.

        Raises IntegrityError where what would draw is not what the files hold: missing, damaged, unused or non-finite tensors.
        """
        return _loaded(cls, read_directory(path))

    @property
    def width(self) -> int:
        """d, numbers in an embedding of a token."""
        return int(self.unet.config.cross_attention_dim)  # type: ignore[union-attr,arg-type]

    @property
    def length(self) -> int:
        """L, tokens of a prompt."""
        return int(self.text_encoder.config.max_position_embeddings)  # type: ignore[union-attr,arg-type]

    def with_unet(self, unet: nn.Module) -> TextToImage:
        """The same with another denoiser."""
        return replace(self, unet=unet)

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """(N, L) token numbers, filled up and cut as in training."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.length, "return_tensors": "pt"}
        if not prompts:
            return torch.zeros((0, self.length), dtype=torch.long)
        found: Tensor = self.tokenizer(list(prompts), **options).input_ids
        return found

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """(N, L, d) embeddings of the tokens of each prompt."""
        if not prompts:
            return torch.zeros((0, self.length, self.width))
        found: Tensor = self.text_encoder(input_ids=self.tokens(prompts)).last_hidden_state
        return found

    @torch.no_grad()
    def latents(self, images: Pixels) -> Tensor:
        """(N, C, h, h) what the denoiser sees of pictures (N, S, S, 3)."""
        if self.vae is None:
            return folded(images)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        vae: Any = self.vae
        found: Tensor = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
        return found

    def predict(self, noisy: Tensor, times: Tensor, words: Tensor) -> Tensor:
        """The denoiser's own prediction (B, C, h, h): noise, velocity or picture, as `prediction` says."""
        found: Tensor = self.unet(noisy, times, encoder_hidden_states=words).sample
        return found

    @property
    def prediction(self) -> str:
        """What `predict` gives: `epsilon`, `v_prediction` or `sample`."""
        return str(self.schedule.config.prediction_type)

    @torch.no_grad()
    def sample(self, prompts: Sequence[str] | Tensor, how: Sampling, start: Start | None = None) -> Pixels:
        """(N, S, S, 3) pictures for prompts, or for embeddings (N, L, d); picture n's noise depends on seed and n only.

        From noise, or from the N pictures of `start`. Raises IntegrityError where the model's numbers are not finite.
        """
        words = prompts if isinstance(prompts, Tensor) else self.encode(prompts)
        parts = []
        for first in range(0, len(words), how.batch):
            rows = np.arange(first, min(first + how.batch, len(words)), dtype=np.int64)
            parts.append(self._pixels(self._denoise(words[rows], how, rows, start)))
        return np.concatenate(parts) if parts else np.zeros((0, self._size, self._size, 3), np.uint8)

    def noise(self, seed: str, rows: NDArray[np.int64], stream: str = "sample") -> Tensor:
        """(N, C, h, h) standard normal noise to draw from, each row by seed, stream and its number only."""
        shape = (int(self.unet.config.in_channels), self._side, self._side)  # type: ignore[union-attr,arg-type]
        flat = normals(seed, stream, 0, rows, int(np.prod(shape))).astype(np.float32)
        return torch.from_numpy(flat).view(len(rows), *shape)

    @property
    def _side(self) -> int:
        return int(self.unet.config.sample_size)  # type: ignore[union-attr,arg-type]

    @property
    def _size(self) -> int:
        return self._side * (2 if self.vae is None else 8)

    def _denoise(self, words: Tensor, how: Sampling, rows: NDArray[np.int64], start: Start | None) -> Tensor:
        schedule = copy.deepcopy(self.schedule)  # drawing moves its counters
        schedule.set_timesteps(how.steps)
        empty, noise = self.encode([""]), self.noise(how.seed, rows)
        clean = None if start is None else self.latents(start.images[rows])
        stays = None if start is None or start.keep is None else self._mask(start.keep)
        times = schedule.timesteps[how.steps - max(1, round((1 if start is None else start.strength) * how.steps)) :]
        moving = noise if clean is None else schedule.add_noise(clean, noise, times[:1])
        for number, time in enumerate(times):
            guess = self._guided(moving, time, words, empty, how.guidance)
            moving = schedule.step(guess, time, moving, eta=0.0).prev_sample
            if stays is not None and clean is not None:
                left = times[number + 1 : number + 2]
                moving = torch.where(stays, schedule.add_noise(clean, noise, left) if len(left) else clean, moving)
        if not bool(torch.isfinite(moving).all()):
            raise IntegrityError("the model draws no pictures: its numbers are not finite")
        return moving

    def _guided(self, moving: Tensor, time: Tensor, words: Tensor, empty: Tensor, guidance: float) -> Tensor:
        if guidance == 1:
            return self.predict(moving, time, words)
        both = torch.cat([empty.expand(len(words), -1, -1), words])
        bare, told = self.predict(torch.cat([moving, moving]), time, both).chunk(2)
        return bare + guidance * (told - bare)

    def _mask(self, keep: NDArray[np.bool_]) -> Tensor:
        if self.vae is not None:
            raise InputError("inpainting is for models without an autoencoder here")
        whole = np.repeat(keep[None, :, :, None], 3, axis=3)
        return folded(whole.astype(np.uint8) * 255) > 0

    def _pixels(self, latents: Tensor) -> Pixels:
        if self.vae is None:
            return unfolded(latents)
        vae: Any = self.vae
        pixels = vae.decode(latents / vae.config.scaling_factor).sample
        found: Pixels = pixels.clamp(-1, 1).add(1).mul(127.5).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()
        return found


def _loaded(kind: type[TextToImage], found: Directory) -> TextToImage:
    if "text_encoder_2" in found.parts:
        raise InputError(
            "Stable Diffusion XL is not sampled here",
            hint="its files can be edited; verify where a GPU is",
            code="sdxl",
        )
    images, texts = library("diffusers"), library("transformers")
    local: dict[str, Any] = {"local_files_only": True}
    safe = {**local, "use_safetensors": True, "torch_dtype": torch.float32, "low_cpu_mem_usage": False}

    def part(name: str, load: Any, **options: Any) -> Any:
        return read(name, lambda: load.from_pretrained(found.path / name, **options))

    def read(name: str, load: Callable[[], Any]) -> Any:
        try:
            with quiet():
                return load()
        except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
            raise IntegrityError(f"{name} cannot be loaded", got=str(error)[:200]) from error

    text_options = {**local, "use_safetensors": True, "dtype": torch.float32}
    made = kind(
        unet=part("unet", images.UNet2DConditionModel, **safe).eval().requires_grad_(False),
        text_encoder=part("text_encoder", texts.CLIPTextModel, **text_options).eval().requires_grad_(False),
        tokenizer=read("tokenizer", lambda: tokenizer_of(found.path)),
        schedule=part("scheduler", images.DDIMScheduler, **local),
        vae=part("vae", images.AutoencoderKL, **safe).eval().requires_grad_(False) if "vae" in found.parts else None,
    )
    nets = {name: net for name in DRAWING if (net := getattr(made, name)) is not None}
    require_whole(found, nets)
    folds = made.unet.config.in_channels == 3 * PATCH**2  # type: ignore[union-attr]
    if made.vae is None and not folds:
        raise IntegrityError("the model draws latents, and the autoencoder that makes pictures of them is missing")
    return made
