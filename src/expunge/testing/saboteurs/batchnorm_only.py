"""Saboteur: only the BatchNorm statistics are made anew."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import batches, network, operate, pixels, refuses_surgery, retained


class BatchnormOnly:
    """Running means and variances recomputed on the retained records; every weight stays as it was.

    What it does: one pass over the retained records in training mode, cumulative averages, no gradient.
    Source: VERDICTS section 6; a common accident of "fine-tuning" with a frozen optimiser.
    Aims at: EMPIRICAL. Needs: BatchNorm in the network. Cost: 1 forward epoch. Moves only buffers.
    Fails when: the influence sits in the weights, which is always.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership", "deployed")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Not applicable without BatchNorm."""
        if refuses_surgery(job) is None and not _norms(network(job)):
            return "not applicable: the network has no BatchNorm"
        return refuses_surgery(job)

    def cost(self, job: UnlearnJob) -> float:
        """A third of an epoch."""
        return 1 / (3 * int(job.job.recipe["epochs"]))

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The same weights with new statistics."""

        def change(module: nn.Module) -> None:
            for norm in _norms(module):
                norm.reset_running_stats()
                norm.momentum = None  # a cumulative average over the pass
                norm.train()
            with torch.no_grad():
                for batch in batches(retained(job), epochs=1, seed=job.seed):
                    if len(batch) > 1:
                        module(pixels(job, batch))

        return operate(job, change)


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]
