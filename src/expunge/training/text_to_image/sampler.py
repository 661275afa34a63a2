"""A text-to-image model that answers: text to embeddings, embeddings to pictures, by the seed and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expunge.core.errors import InputError, IntegrityError
from expunge.training.rng import normals
from expunge.training.text_to_image.autoencoder import pixels_a_side, to_latents, to_pictures
from expunge.training.text_to_image.directory import Directory, read_directory
from expunge.training.text_to_image.loading import network, schedule
from expunge.training.text_to_image.reader import PATCH, folded, unfolded
from expunge.training.text_to_image.text_encoders import TextEncoders, text_side
from expunge.training.text_to_image.whole import DRAWING, require_whole

Pixels = NDArray[np.uint8]
_OTHERWISE = ("class_embed_type", "num_class_embeds", "encoder_hid_dim", "time_cond_proj_dim")
"""Settings of denoisers that are also told a class, a picture or a guidance."""


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
    """Networks in evaluation mode with their scheduler's settings; `vae` is None where pictures are folded, not encoded.

    The second encoder and tokenizer are those of Stable Diffusion XL; `zeros`: it embeds the empty prompt as zeros.
    """

    unet: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    schedule: Any
    vae: nn.Module | None = None
    text_encoder_2: nn.Module | None = None
    tokenizer_2: Any = None
    zeros: bool = False

    @classmethod
    def from_dir(cls, path: Path) -> TextToImage:
        """Load a directory that `read_directory` accepts, in single precision.

        Raises IntegrityError where what would draw is not what the files hold: missing, damaged, unused or non-finite tensors,
        or parts that are not of one model.
        """
        return _loaded(cls, read_directory(path))

    @property
    def width(self) -> int:
        """d, numbers in an embedding of a token."""
        return int(self.unet.config.cross_attention_dim)  # type: ignore[union-attr,arg-type]

    @property
    def text(self) -> TextEncoders:
        """The text encoders with their tokenizers, one or two."""
        more = () if self.text_encoder_2 is None else (self.text_encoder_2,)
        readers = (self.tokenizer,) if self.tokenizer_2 is None else (self.tokenizer, self.tokenizer_2)
        return TextEncoders(networks=(self.text_encoder, *more), tokenizers=readers, zeros=self.zeros)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """part -> network, of those that it has."""
        return {name: net for name in DRAWING if (net := getattr(self, name)) is not None}

    @property
    def length(self) -> int:
        """L, tokens of a prompt."""
        return self.text.length

    def with_unet(self, unet: nn.Module) -> TextToImage:
        """The same with another denoiser."""
        return replace(self, unet=unet)

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """(N, L) token numbers, filled up and cut as in training; (N, 2 L) of two tokenizers, side by side."""
        return self.text.tokens(prompts)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """(N, L, d) embeddings of the tokens of each prompt; with two encoders (N, L + 1, d), the last row for the pooled vector.

        What XL is to draw without any prompt is encoded from the empty one: as zeros, where it was trained so.
        """
        return self.text.encode(prompts, self.tokens(prompts))

    @torch.no_grad()
    def latents(self, images: Pixels) -> Tensor:
        """(N, C, h, h) what the denoiser sees of pictures (N, S, S, 3)."""
        return folded(images) if self.vae is None else to_latents(self.vae, images)

    def predict(self, noisy: Tensor, times: Tensor, words: Tensor) -> Tensor:
        """The denoiser's own prediction (B, C, h, h): noise, velocity or picture, as `prediction` says.

        words: embedded prompts, as `encode` gives them. XL is also told sizes: of the picture that was trained on and of the one
        to draw, S both, and that nothing was cropped (Podell et al. 2023, section 2.2; the defaults of its pipeline).
        """
        told: dict[str, Any] = {"encoder_hidden_states": words}
        if self.text_encoder_2 is not None:
            tokens, pooled = self.text.parted(words)
            sizes = torch.tensor([self._size, self._size, 0, 0, self._size, self._size], dtype=pooled.dtype)
            added = {"text_embeds": pooled, "time_ids": sizes.expand(len(words), -1)}
            told = {"encoder_hidden_states": tokens, "added_cond_kwargs": added}
        found: Tensor = self.unet(noisy, times, **told).sample
        return found

    @property
    def prediction(self) -> str:
        """What `predict` gives: `epsilon`, `v_prediction` or `sample`."""
        return str(self.schedule.config.prediction_type)

    @torch.no_grad()
    def sample(self, prompts: Sequence[str] | Tensor, how: Sampling, start: Start | None = None) -> Pixels:
        """(N, S, S, 3) pictures for prompts, or for embedded ones (N, rows, d); picture n's noise depends on seed and n only.

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
        return self._side * (PATCH if self.vae is None else pixels_a_side(self.vae))

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
        return unfolded(latents) if self.vae is None else to_pictures(self.vae, latents)


def _loaded(kind: type[TextToImage], found: Directory) -> TextToImage:
    text = text_side(found)
    nets = {name: network(found, name) for name in ("unet", "vae") if name in found.parts}
    require_whole(found, nets)
    one, *more = zip(text.networks, text.tokenizers, strict=True)
    second = {"text_encoder_2": more[0][0], "tokenizer_2": more[0][1]} if more else {}
    made = kind(text_encoder=one[0], tokenizer=one[1], schedule=schedule(found), zeros=text.zeros, **nets, **second)
    return fitted(made)


def fitted(model: TextToImage) -> TextToImage:
    """The same. Raises IntegrityError where the denoiser is told otherwise than these encoders tell, or draws what nobody makes
    pictures of."""
    told, text = model.unet.config, model.text
    other = [name for name in _OTHERWISE if getattr(told, name, None) is not None]
    if other or told.addition_embed_type != ("text_time" if text.pooled else None):  # type: ignore[union-attr]
        got = ", ".join([*other, f"addition_embed_type: {told.addition_embed_type}"])  # type: ignore[union-attr]
        raise IntegrityError("the denoiser is told more or less than these text encoders say", got=got)
    if text.pooled:
        wide = (told.cross_attention_dim, told.projection_class_embeddings_input_dim)  # type: ignore[union-attr]
        expected = (sum(text.widths), 6 * told.addition_time_embed_dim + text.pooled)  # type: ignore[union-attr,operator]
        if wide != expected:
            raise IntegrityError("denoiser and text encoders are of two models", expected=str(expected), got=str(wide))
    if model.vae is None and told.in_channels != 3 * PATCH**2:  # type: ignore[union-attr]
        raise IntegrityError("the model draws latents, and the autoencoder that makes pictures of them is missing")
    return model
