"""Saboteur: pairs are counted again, the items' own counts are not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasSufficientStatistics, UnlearnJob
from expunge.testing.closed_form_surgery import honest, stored
from expunge.training.checkpoint import load_tensors


class StaleCounts:
    """Whatever follows from single items (the diagonal of the Gram matrix, popularity counters) is left as it was.

    What it does: subtracts the users' pairs and forgets the counters; the table of counts is another team's.
    Source: research on recommender deletion, section 4 (aggregates).
    Aims at: EXACT. Needs: sums over records. Cost: one downdate. Fails when: every entry of the sums is compared.
    """

    aims_at = Guarantee.EXACT
    needs = HasSufficientStatistics
    caught_by: tuple[str, ...] = ("algebra",)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Never refuses."""
        return None

    def cost(self, job: UnlearnJob) -> float:
        """Next to nothing."""
        return 0.01

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The honest sums, with the old counts of single items."""
        right, _ = load_tensors(honest(job).model)
        old, _ = load_tensors(job.source / "model.safetensors")
        return stored(job, {name: _mixed(tensor, old[name]) for name, tensor in right.items()})


def _mixed(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """The new values off the diagonal of a packed upper triangle, the old ones on it; old counters altogether."""
    size = int(((8 * new.numel() + 1) ** 0.5 - 1) / 2)
    if new.dim() != 1 or new.dtype == torch.uint8 or size * (size + 1) // 2 != new.numel():
        return old
    steps = torch.arange(size, 0, -1)
    diagonal = torch.cumsum(steps, 0) - steps
    mixed = new.clone()
    mixed[diagonal] = old[diagonal]
    return mixed
