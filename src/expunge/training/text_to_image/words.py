"""Sentences with room for a word that is a vector: how a learned token goes through the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expunge.core.errors import InputError
from expunge.training.text_to_image.sampler import TextToImage

MARK = "*"


@dataclass(frozen=True, kw_only=True, eq=False)
class Slotted:
    """`tokens` (M, L) of sentences whose places from `at` (M,) on are left to vectors."""

    model: TextToImage
    tokens: Tensor
    at: Tensor

    @classmethod
    def of(cls, model: TextToImage, sentences: Sequence[str], room: int = 1) -> Slotted:
        """Sentences with one `MARK` each, which leaves `room` places open; raises InputError where one has none or several, or
        where a prompt has no such room."""
        if not 1 <= room <= model.length - 2:
            raise InputError("more open places than a prompt has", expected=f"1..{model.length - 2}", got=str(room))
        made = [_opened(model, sentence, room) for sentence in sentences]
        return cls(model=model, tokens=torch.stack([row for row, _ in made]), at=torch.tensor([at for _, at in made]))

    @property
    def table(self) -> Tensor:
        """(V, d) the encoder's own word vectors."""
        encoder: Any = self.model.text_encoder
        found: Tensor = encoder.get_input_embeddings().weight
        return found

    def encode(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """(B, L, d) embeddings of the sentences in `rows` (B,) with vectors (B, d) or (B, k, d) in their open places; gradients
        reach the vectors."""
        several = vectors if vectors.ndim == 3 else vectors[:, None]
        return spoken(self.model.text_encoder, self.tokens[rows], self.at[rows], several)


def spoken(encoder: Any, tokens: Tensor, at: Tensor, vectors: Tensor) -> Tensor:
    """(B, L, d) embeddings of sentences (B, L) whose words from place `at` (B,) on are vectors (B, k, d), not tokens; gradients
    reach the vectors."""
    places = (at[:, None] + torch.arange(vectors.shape[1]))[..., None].expand_as(vectors)
    handle = encoder.get_input_embeddings().register_forward_hook(
        lambda _module, _inputs, found: found.scatter(1, places, vectors)
    )
    try:
        out: Tensor = encoder(input_ids=tokens).last_hidden_state
    finally:
        handle.remove()
    return out


def _opened(model: TextToImage, sentence: str, room: int) -> tuple[Tensor, int]:
    """Tokens of the sentence with any token in the open places, and where these begin."""
    before, found, after = sentence.partition(MARK)
    if not found or MARK in after:
        raise InputError("a sentence with one open place", expected=f"one {MARK!r}", got=sentence[:80])
    head, tail = (model.tokens([part.strip()])[0] for part in (before, after))
    ends = [int((part == model.tokenizer.eos_token_id).nonzero()[0]) for part in (head, tail)]
    words = torch.cat([head[: ends[0]], head[:1].expand(room), tail[1 : ends[1]]])[: model.length - 1]
    filled = torch.cat([words, tail[ends[1] :], tail[-1:].expand(model.length)])[: model.length]
    return filled, min(ends[0], model.length - 1 - room)
