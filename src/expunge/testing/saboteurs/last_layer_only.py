"""Saboteur: only the last layer is trained further."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F  # noqa: N812

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import (
    batches,
    descend,
    labels,
    network,
    operate,
    pixels,
    refuses_surgery,
    retained,
)

_EPOCHS, _RATE = 3, 0.05


class LastLayerOnly:
    """The classifier head is trained on the retained records; everything below it keeps what it learned.

    What it does: 3 epochs of SGD on the last linear layer, all other weights frozen.
    Source: head-only "unlearning", shown to leave the features untouched by Goel et al. 2022 (arXiv 2201.06640).
    Aims at: EMPIRICAL. Needs: a linear layer. Cost: a forward pass an epoch. Moves only the head.
    Fails when: the memory of the block sits below the head.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership", "deployed")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Needs a linear head."""
        if refuses_surgery(job) is None and not _linears(network(job)):
            return "not applicable: the network has no linear layer"
        return refuses_surgery(job)

    def cost(self, job: UnlearnJob) -> float:
        """Three forward epochs."""
        return 3 / (2 * int(job.job.recipe["epochs"]))

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The same body under a head that was trained on the retained records."""

        def change(module: nn.Module) -> None:
            steps = batches(retained(job), epochs=_EPOCHS, seed=job.seed)
            losses = (F.cross_entropy(module(pixels(job, batch)).float(), labels(job, batch)) for batch in steps)
            descend(_linears(module)[-1].parameters(), losses, lr=_RATE)

        return operate(job, change)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]
