"""Fine-tune on the retained records: the approximate method everybody starts with, and a known weak one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expunge.core.codec import decode
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasGradients, UnlearnJob


class Finetune:
    """Continue training on the retained records only, and hope that the rest fades.

    What it does: `epochs` more epochs from the original weights at rate `lr`, forgotten slots empty.
    Source: the fine-tuning baseline of Golatkar et al. 2020 (arXiv 1911.04933) and of most benchmarks.
    Aims at: EMPIRICAL. Needs: HasGradients. Cost: epochs / recipe epochs.
    Fails when: almost always on memorised records: see benchmarks/demo/result.json. It is here as the seam for
    approximate methods and as a saboteur that the checks must catch.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = HasGradients

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """epochs >= 1 over the retained records, at peak learning rate `lr`."""

        epochs: int = 2
        lr: float = 0.02

        def __post_init__(self) -> None:
            if self.epochs < 1 or not 0 < self.lr <= 10:
                raise InputError("finetune settings out of range", expected="epochs >= 1, 0 < lr <= 10")

    def refuses(self, job: UnlearnJob) -> str | None:
        """Sharded models have no single set of weights to continue from."""
        return "the original is sharded" if int(job.job.recipe.get("shards", 1)) > 1 else None

    def cost(self, job: UnlearnJob) -> float:
        """Epochs over the recipe's epochs."""
        return self._config(job).epochs / int(job.job.recipe["epochs"])

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """Tune a copy; the original file is only read."""
        config = self._config(job)
        target = replace(job.job, folder=job.target, absent=job.job.absent | job.forget, seed=job.seed)
        settings = {"epochs": config.epochs, "lr": config.lr}
        result: FitResult = job.adapter.tune(target, job.source / "model.safetensors", settings)
        return result

    def _config(self, job: UnlearnJob) -> Finetune.Config:
        return decode(Finetune.Config, {key: _number(value) for key, value in job.params.items()}, what="finetune")


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text
