"""Adversarial tokens: words of the vocabulary, found by gradients, that draw what the name no longer does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError
from expunge.training.rng import below, draws
from expunge.training.text_to_image.learning import Budget, Conditioning, by_vectors, learned, losses_of
from expunge.training.text_to_image.probing import Group, Probed, ProbeJob
from expunge.training.text_to_image.words import Slotted

_TRIES = 8


class AdversarialTokens:
    """A prompt of `tokens` real tokens in the place of the name, learned on the attacker's works with the model frozen.

    Vectors are learned; at each step the nearest tokens of the table, by cosine, are what the model is given, and their gradient
    moves the vectors (Wen et al. 2023, PEZ, arXiv 2302.03668, algorithm 1). The loss is the denoiser's own, as in
    UnlearnDiffAtk (Zhang et al. 2024, arXiv 2310.11868). Of 8 prompts met in the second half of the search, the one with the
    least loss is drawn with.
    Needs the weights and a few works to search, and afterwards only the prompt: unlike a learned vector it can be typed into
    a service. Shows that a style is within reach of words.
    Settings: tokens (4), steps (100), rate (.1, of Adam). Cost: (steps + 11) x seeds x 8 pictures, forward and backward.
    Fails: the search is greedy and may miss a prompt that exists; a vocabulary of few thousand pieces holds few. Pieces may be
    joined otherwise when they are typed. The numbers of the tokens are among the figures.
    """

    name = "adversarial_tokens"
    group: Group = "recovery"
    needs = frozenset({"works"})

    def __init__(self, *, tokens: int = 4, steps: int = 100, rate: float = 0.1) -> None:
        if not (1 <= tokens <= 64 and 1 <= steps <= 100_000 and 0 < rate <= 10):
            raise InputError("adversarial tokens out of range", expected="tokens 1..64, steps 1..100000, rate up to 10")
        self.tokens, self.budget = tokens, Budget(steps=steps, rate=rate)

    def run(self, job: ProbeJob) -> Probed:
        """Search a prompt a seed, then draw n pictures of the objects with it."""
        job.require_works()
        slotted = Slotted.of(job.model, [job.wording.open_(name) for name in job.objects], self.tokens)
        number = {name: row for row, name in enumerate(job.objects)}
        shown = torch.tensor([number[name] for name in job.works.objects])
        table = _Vocabulary(slotted)
        met: list[Tensor] = []

        def conditioning(vectors: Tensor, rows: NDArray[np.int64]) -> Tensor:
            hard = table.nearest(vectors)
            met.append(hard)
            through = vectors + (table.rows[hard] - vectors).detach()
            mine = through[:, None].expand(-1, rows.shape[1], -1, -1).flatten(0, 1)
            return slotted.encode(shown[rows.ravel()], mine)

        def words(vectors: Tensor, objects: Sequence[str]) -> Tensor:
            rows = torch.tensor([number[name] for name in objects])
            return slotted.encode(rows, vectors.expand(len(objects), -1, -1))

        learned(job, table.rows[table.first(job, self.tokens)], conditioning, self.budget)
        prompts, losses = _best(job, table.rows, list(met), conditioning)
        figures = {"loss": losses.double().numpy()}
        figures |= {
            f"token_{place + 1}": table.numbers[prompts[:, place]].double().numpy() for place in range(self.tokens)
        }
        images = by_vectors(job, table.rows[prompts], words)
        return Probed(images=images, objects=tuple(job.asked()), figures=figures)


class _Vocabulary:
    """The tokens that stand for text: `numbers` (V,) in the tokenizer, `rows` (V, d) of the encoder's table."""

    def __init__(self, slotted: Slotted) -> None:
        special = set(slotted.model.tokenizer.all_special_ids)
        self.numbers = torch.tensor([number for number in range(len(slotted.table)) if number not in special])
        self.rows = slotted.table.detach()[self.numbers]
        self._units = F.normalize(self.rows, dim=-1)

    def nearest(self, vectors: Tensor) -> Tensor:
        """(S, k) rows of the nearest tokens by cosine."""
        return (F.normalize(vectors.detach(), dim=-1) @ self._units.T).argmax(-1)

    def first(self, job: ProbeJob, count: int) -> Tensor:
        """(S, count) rows that each seed begins with."""
        places = np.arange(count, dtype=np.int64)
        drawn = [draws(job.attack_seed(number), "tokens", 0, places)[:, 0] for number in range(job.seeds)]
        return torch.from_numpy(np.stack([below(column, len(self.numbers)) for column in drawn]))


def _best(job: ProbeJob, table: Tensor, met: list[Tensor], conditioning: Conditioning) -> tuple[Tensor, Tensor]:
    """Each seed's prompt (S, k) of least loss among some that the second half of the search met, and the losses (S,)."""
    late = sorted(set(np.linspace(len(met) // 2, len(met) - 1, _TRIES).round().astype(int).tolist()))
    losses = torch.stack([losses_of(job, table[met[at]], conditioning) for at in late])
    least, which = losses.min(0)
    prompts = torch.stack([met[late[at]][seed] for seed, at in enumerate(which.tolist())])
    return prompts, least
