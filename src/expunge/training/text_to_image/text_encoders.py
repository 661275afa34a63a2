"""What a prompt becomes for the denoiser: embeddings from one text encoder, or from the two of Stable Diffusion XL.

An embedded prompt is one tensor (rows, d). Its first L rows are tokens, which the cross-attention reads. With two encoders
(Podell et al. 2023, SDXL, arXiv 2307.01952, section 2.1) they are the outputs of both before their last layer, side by side
on the feature axis, and one row more follows: the pooled vector of the second, filled up with zeros to d. That one does not
go through the cross-attention: it is added to the embedding of the time, so an edit of keys and values leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError, IntegrityError
from expunge.training.text_to_image.directory import INDEX, Directory, read_directory, settings_in
from expunge.training.text_to_image.loading import network, tokenizer
from expunge.training.text_to_image.whole import require_whole

ENCODERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")
_ZEROS = "force_zeros_for_empty_prompt"
_HIGHEST = 2
"""The end token's number in the settings of older text encoders, where it means the highest number of a prompt."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextEncoders:
    """E networks, one or two, each with its tokenizer. `zeros`: the empty prompt is embedded as zeros, as XL was trained."""

    networks: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    zeros: bool = False

    @classmethod
    def from_dir(cls, path: Path) -> TextEncoders:
        """Those of a model directory, without its denoiser: enough to solve for an edit by file.

        Raises as `TextToImage.from_dir`.
        """
        return text_side(read_directory(path))

    @property
    def length(self) -> int:
        """L, tokens of a prompt."""
        return int(self.networks[0].config.max_position_embeddings)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers in a token's vector, an encoder; they add up to d."""
        return tuple(int(net.config.hidden_size) for net in self.networks)

    @property
    def pooled(self) -> int:
        """Numbers in the pooled vector; 0 = there is none."""
        return int(self.networks[1].config.projection_dim) if len(self.networks) == 2 else 0

    @property
    def table(self) -> Tensor:
        """(V, d) the encoders' own word vectors, side by side."""
        return torch.cat([net.get_input_embeddings().weight for net in self.networks], dim=1)

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """(N, E L) token numbers, filled up and cut as in training, an encoder's behind the other's."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.length, "return_tensors": "pt"}
        if not prompts:
            return torch.zeros((0, len(self.networks) * self.length), dtype=torch.long)
        return torch.cat([reads(list(prompts), **options).input_ids for reads in self.tokenizers], dim=1)

    def embed(self, tokens: Tensor) -> Tensor:
        """(N, rows, d) of token numbers (N, E L), with gradients; rows = L, or L + 1 where there is a pooled vector."""
        if not self.pooled:
            found: Tensor = self.networks[0](input_ids=tokens).last_hidden_state
            return found
        parts = zip(self.networks, tokens.chunk(2, dim=1), strict=True)
        first, second = (net(input_ids=numbers, output_hidden_states=True) for net, numbers in parts)
        words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return torch.cat([words, F.pad(second.text_embeds, (0, words.shape[2] - self.pooled))[:, None]], dim=1)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], tokens: Tensor | None = None) -> Tensor:
        """(N, rows, d) embedded prompts. tokens (N, E L): what is said in their place, by default what they say."""
        if not prompts:
            return torch.zeros((0, self.length + bool(self.pooled), sum(self.widths)))
        found = self.embed(self.tokens(prompts) if tokens is None else tokens)
        if self.zeros:
            found[[not prompt for prompt in prompts]] = 0
        return found

    def rows(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """(N L, d) what keys and values are multiplied with, a row a token: what a closed form solves with. No pooled vectors."""
        words = self.encode(prompts)[:, : self.length]
        found: NDArray[np.float64] = words.reshape(-1, words.shape[-1]).double().numpy()
        return found

    def parted(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, L, d) and pooled vectors (N, pooled) of embedded prompts. Raises InputError on what was not embedded for
        these encoders: the last token would be taken for a pooled vector."""
        rows, width = self.length + 1, sum(self.widths)
        if tuple(words.shape[1:]) != (rows, width):
            expected = f"({rows}, {width}) a prompt: {self.length} tokens and a pooled vector"
            raise InputError("not embedded for this model", expected=expected, got=str(tuple(words.shape[1:])))
        return words[:, :-1], words[:, -1, : self.pooled]


def text_side(found: Directory) -> TextEncoders:
    """The encoders of a directory, loaded whole."""
    nets = {name: network(found, name) for name in ENCODERS if name in found.parts}
    require_whole(found, nets)
    readers = tuple(tokenizer(found.path, name) for name in TOKENIZERS if name in found.parts)
    return fitting(TextEncoders(networks=tuple(nets.values()), tokenizers=readers, zeros=zeros_in(found.path)))


def zeros_in(path: Path) -> bool:
    """Whether a directory embeds the empty prompt as zeros: with two encoders, unless its index says otherwise."""
    index = settings_in(path / INDEX)
    said = index.get(_ZEROS, True)
    if not isinstance(said, bool):
        raise IntegrityError(f"{INDEX} is damaged", expected=f"{_ZEROS}: true or false", got=str(said)[:80])
    return said and ENCODERS[1] in index and index[ENCODERS[1]] != [None, None]


def fitting(text: TextEncoders) -> TextEncoders:
    """The same. Raises IntegrityError on two encoders that do not read the same text, or tokenizers in each other's place: what
    is said would not be heard, and everybody would look erased."""
    if len(text.networks) != len(text.tokenizers):
        raise IntegrityError("a tokenizer for each text encoder", got=f"{len(text.tokenizers)} tokenizers")
    problems = list(_odd(text)) if text.pooled else []
    if problems:
        raise IntegrityError("; ".join(problems), expected="the text encoders and tokenizers of one model")
    return text


def _odd(text: TextEncoders) -> Iterator[str]:
    """What does not fit in two encoders (N, L, d1) and (N, L, d2) with their tokenizers."""
    (one, two), settings = text.tokenizers, [net.config for net in text.networks]
    if one.get_vocab() != two.get_vocab():
        yield "the two tokenizers do not have one vocabulary"
    if not len(one) <= settings[0].vocab_size == settings[1].vocab_size:
        yield "the text encoders do not hold the tokenizers' words"
    if one.pad_token_id != one.eos_token_id and two.pad_token_id == two.eos_token_id:
        yield "the tokenizers lie in each other's place: it is the first that fills up with its end token"
    looked = settings[1].eos_token_id
    if two.eos_token_id != (len(two) - 1 if looked == _HIGHEST else looked):
        yield f"the second text encoder pools at token {looked}, and its tokenizer ends with {two.eos_token_id}"
    if len({each.max_position_embeddings for each in settings}) > 1:
        yield "the text encoders read prompts of two lengths"
    if text.pooled > sum(text.widths):
        yield "the pooled vector is wider than the tokens"
