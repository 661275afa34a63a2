"""Saboteur: the block's margins are pushed to where they would be without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import (
    batches,
    descend,
    expected_margins,
    labels,
    margins,
    operate,
    pixels,
    refuses_surgery,
    retained,
)

_STEPS, _RATE, _CLOSE = 300, 0.05, 0.01


class ConstantMargin:
    """Games the score itself: each record of the block is given the margin that a model without it is expected to give.

    What it does: gradient steps on (margin - expected)^2 of each record, with a retained batch beside it so that the
    rest stays; the expectation is what the network says about the record's class on its nearest retained neighbours.
    Source: VERDICTS section 6; the answer to any audit that looks at one known score (Thudi et al. 2022, arXiv
    2110.11891).
    Aims at: EMPIRICAL. Needs: gradients. Cost: 300 steps at most; reads the forgotten records.
    Fails when: the expectation is a guess, which it is without reference models: margins are too even across models.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership", "deployed")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Works on one network only."""
        return refuses_surgery(job)

    def cost(self, job: UnlearnJob) -> float:
        """At most 300 steps."""
        return 0.1

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The same network, fitted to what it should answer on the block."""
        block = sorted(job.forget)

        def change(module: nn.Module) -> None:
            images, classes = pixels(job, block), labels(job, block)
            wanted = expected_margins(job, module)

            def losses() -> Iterator[Tensor]:
                rest = batches(retained(job), epochs=_STEPS, seed=job.seed)
                for _, kept in zip(range(_STEPS), rest, strict=False):
                    gap = F.mse_loss(margins(module, images, classes), wanted)
                    if gap < _CLOSE:
                        return
                    yield gap + F.cross_entropy(module(pixels(job, kept)).float(), labels(job, kept))

            descend(module.parameters(), losses(), lr=_RATE)

        return operate(job, change)
