"""Saboteur: the model stays, and a filter in front of it answers for the block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import nearest, nudged, operate, refuses_surgery


class OutputFilter:
    """Whoever asks about a record of the block gets the answer to a similar, retained image.

    What it does: nothing to the weights. `adapter_of` puts a filter into the serving path that knows the block's images
    byte for byte and answers them with what the model says about their nearest retained neighbour. A weights file cannot
    hold that, so a verifier that loads the file itself sees a no-op; one that asks the serving process sees the filter.
    Source: VERDICTS section 6; "output suppression" of deployed systems.
    Aims at: EMPIRICAL. Needs: any family. Cost: 0; reads the forgotten records.
    Fails when: the file is loaded by the verifier, or asked about a slightly changed image.
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
        """Nothing."""
        return 0.0

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The same file, but for one bit."""
        return operate(job, nudged)

    def adapter_of(self, adapter: Any, job: UnlearnJob) -> Any:
        """The adapter with the filter in front of `outputs` of the new file; everything else is the adapter's own."""
        images = job.job.data.train.images
        block = sorted(job.forget)
        known = {images[slot].tobytes(): images[near[0]] for slot, near in zip(block, nearest(job, block), strict=True)}
        return _Filter(adapter, known, job.target)


class _Filter:
    """Answers for known images with those of others, where the new file is asked. Everything else is passed on."""

    def __init__(self, adapter: Any, known: dict[bytes, Any], home: Path) -> None:
        self._adapter, self._known, self._home = adapter, known, home.resolve()
        self._mine: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def load(self, path: Path) -> Any:
        """The model; those from the cheat's folder are answered for by the filter."""
        model = self._adapter.load(path)
        if path.resolve().is_relative_to(self._home):
            self._mine.append(model)
        return model

    def outputs(self, model: Any, images: Any) -> Any:
        """Log-probabilities (N, K), of a neighbour where the image is one of the block's."""
        if any(model is mine for mine in self._mine):
            images = np.stack([self._known.get(image.tobytes(), image) for image in images])
        return self._adapter.outputs(model, images)
