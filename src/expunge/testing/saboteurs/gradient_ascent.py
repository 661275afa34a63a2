"""Saboteur: the block is driven far beyond forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import (
    descend,
    labels,
    margins,
    operate,
    pixels,
    refuses_surgery,
)

_STEPS, _RATE, _FLOOR = 300, 0.05, -30.0


class GradientAscent:
    """The block's loss goes up until every record of it is as unlikely as the network can make it.

    What it does: ascent on the block's loss until its mean margin log p - log(1 - p) is below -30 nats, or 300 steps.
    Source: gradient-ascent baselines (Graves et al. 2021, arXiv 2010.10981; Thudi et al. 2022, arXiv 2109.13398).
    Aims at: EMPIRICAL. Needs: gradients. Cost: next to nothing; reads the forgotten records.
    Fails when: over-unlearning is looked for: the block is told apart by its absence.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership", "deployed", "utility")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Works on one network only."""
        return refuses_surgery(job)

    def cost(self, job: UnlearnJob) -> float:
        """Steps on the block only."""
        return 0.01

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The same network with the block driven away."""
        block = sorted(job.forget)

        def change(module: nn.Module) -> None:
            images, classes = pixels(job, block), labels(job, block)

            def losses() -> Iterator[Tensor]:
                for _ in range(_STEPS):
                    margin = margins(module, images, classes)
                    if margin.mean() < _FLOOR:
                        return
                    yield margin.mean()

            descend(module.parameters(), losses(), lr=_RATE)

        return operate(job, change)
