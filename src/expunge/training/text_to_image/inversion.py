"""Searching for embeddings that bring a concept back: a name is left open, and vectors are learned in its place."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.training.text_to_image.conversion import asked_of, noised_by, steps_of
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.tuning import Tuning, noise_like, picked
from expunge.training.text_to_image.words import spoken


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """`words` (rows, d): embedded, as `encode` gives them; the loss of the first and of the last tenth of the search."""

    words: Tensor
    first_loss: float
    final_loss: float


def named_at(model: TextToImage, prompt: str, other: str) -> slice:
    """The tokens in which a prompt differs from another, between their common beginning and their common end.

    Where nothing of the prompt is left, all its words are open.
    """
    ends = int(model.tokenizer.eos_token_id)
    mine, theirs = (_said(row[: model.length].tolist(), ends) for row in model.tokens([prompt, other]))
    shorter = min(len(mine), len(theirs))
    start = next((at for at in range(shorter) if mine[at] != theirs[at]), shorter)
    same = next((at for at in range(shorter - start) if mine[-1 - at] != theirs[-1 - at]), shorter - start)
    return slice(start + 1, len(mine) - same + 1) if start < len(mine) - same else slice(1, max(2, len(mine) + 1))


def _said(tokens: list[int], ends: int) -> list[int]:
    """The words' own tokens, without begin and end."""
    inner = tokens[1:]
    return inner[: inner.index(ends)] if ends in inner else inner


def brought_back(model: TextToImage, prompt: tuple[str, str], clean: Tensor, how: Tuning, seed: str) -> Found:
    """Vectors in place of the name in which `prompt` differs from its guide, learned until pictures (N, C, h, h) of the
    concept are denoised best (textual inversion, Gal et al. 2022, arXiv 2208.01618, equation 2, several tokens).

    They start at the name's own embeddings: what is nearest is found first.
    """
    text = replace(model.text, networks=copy.deepcopy(model.text.networks))  # the search hooks into them
    tokens, name = model.tokens([prompt[0]]), named_at(model, *prompt)
    at = torch.tensor([name.start])
    vectors = text.table[tokens[:, name]].detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([vectors], lr=how.lr, foreach=False)
    losses = []
    for step in range(how.steps):
        optimiser.zero_grad(set_to_none=True)
        rows, times = picked(seed, step, how.batch, len(clean), steps_of(model))
        noise = noise_like(clean[rows], seed, step)
        words = spoken(text, tokens, at, vectors).expand(how.batch, -1, -1)
        found = model.predict(noised_by(model, clean[rows], noise, times), times, words)
        value = F.mse_loss(found, asked_of(model, clean[rows], noise, times))
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(value.detach()))
    part = max(1, len(losses) // 10)
    with torch.no_grad():
        words = spoken(text, tokens, at, vectors)[0]
    return Found(words=words, first_loss=sum(losses[:part]) / part, final_loss=sum(losses[-part:]) / part)
