"""Sentences with room for a word that is a vector: how a learned token goes through the text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.core.errors import InputError
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.text_encoders import TextEncoders

MARK = "*"


@dataclass(frozen=True, kw_only=True, eq=False)
class Slotted:
    """`tokens` (M, E L) of sentences whose places from `at` (M,) on are left to vectors, in each of E encoders."""

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
        """(V, d) the encoders' own word vectors; of two, side by side."""
        return self.model.text.table

    def encode(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """(B, rows, d) embeddings of the sentences in `rows` (B,) with vectors (B, d) or (B, k, d) in their open places;
        gradients reach the vectors."""
        several = vectors if vectors.ndim == 3 else vectors[:, None]
        return spoken(self.model.text, self.tokens[rows], self.at[rows], several)


def spoken(text: TextEncoders, tokens: Tensor, at: Tensor, vectors: Tensor) -> Tensor:
    """(B, rows, d) embeddings of sentences (B, E L) whose words from place `at` (B,) on are vectors (B, k, d), not tokens;
    gradients reach the vectors.

    Of two encoders each takes its own part of a vector in its own sentence, and the pooled vector is that of the sentence with
    the vectors in it.
    """
    places = at[:, None] + torch.arange(vectors.shape[1])
    with ExitStack() as hooks:
        for net, own in zip(text.networks, torch.split(vectors, list(text.widths), dim=-1), strict=True):
            table: nn.Module = net.get_input_embeddings()
            hooks.callback(table.register_forward_hook(_putting(own, places[..., None].expand_as(own))).remove)
        return text.embed(tokens)


def _putting(vectors: Tensor, places: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook that puts vectors in these places of what a table gives."""
    return lambda _module, _inputs, found: found.scatter(1, places, vectors)


def _opened(model: TextToImage, sentence: str, room: int) -> tuple[Tensor, int]:
    """Tokens of the sentence with any token in the open places, and where these begin."""
    before, found, after = sentence.partition(MARK)
    if not found or MARK in after:
        raise InputError("a sentence with one open place", expected=f"one {MARK!r}", got=sentence[:80])
    halves = [model.tokens([part.strip()])[0].view(-1, model.length) for part in (before, after)]
    ends = [int(reads.eos_token_id) for reads in model.text.tokenizers]
    made = [_joined(head, tail, room, end) for head, tail, end in zip(*halves, ends, strict=True)]
    if len({at for _, at in made}) > 1:
        raise InputError("the two tokenizers part the sentence differently", got=sentence[:80])
    return torch.cat([tokens for tokens, _ in made]), made[0][1]


def _joined(head: Tensor, tail: Tensor, room: int, end: int) -> tuple[Tensor, int]:
    """One encoder's tokens (L,) of two halves with `room` between them, and where that begins."""
    length = len(head)
    ends = [int((part == end).nonzero()[0]) for part in (head, tail)]
    words = torch.cat([head[: ends[0]], head[:1].expand(room), tail[1 : ends[1]]])[: length - 1]
    filled = torch.cat([words, tail[ends[1] :], tail[-1:].expand(length)])[:length]
    return filled, min(ends[0], length - 1 - room)
