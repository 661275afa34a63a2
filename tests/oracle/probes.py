"""Planted measurements with a known truth, and a linear model whose every answer can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from expunge.core.finding import Guarantee
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob, FitJob, Measured, ProbeJob
from expunge.data._records import Dataset, ImageRecords

RECORDS = 6
NOISE = 0.05
"""SD of one record of one array, beside the model's own effect of SD 1 that all its arrays share."""


def models(rng, count, levels, *, spread=None, size=RECORDS):
    """`count` models: each array is its level + one draw a model (times `spread` of the array, 1) + small noise."""
    spread = spread or {}
    made = []
    for _ in range(count):
        own = rng.standard_normal()
        made.append(
            {
                name: level + spread.get(name, 1.0) * own + NOISE * rng.standard_normal(size)
                for name, level in levels.items()
            }
        )
    return made


def measured(rng, pairs, out, into, unlearned=None, **options):
    """Arms with these levels by array; unlearned="no-op" copies IN, None runs no X arm."""
    first, second = models(rng, pairs, out, **options), models(rng, pairs, into, **options)
    if unlearned is None or unlearned == "no-op":
        third = [dict(model) for model in second] if unlearned == "no-op" else None
    else:
        third = models(rng, pairs, unlearned, **options)
    return Measured(out=first, into=second, unlearned=third)


def job(check, found=None, *, guarantee="CERTIFIED", attempt=1, seed=7, **limits):
    """A CheckJob that holds this check's measurements. CERTIFIED asks for no spikes."""
    fields = {name: limits.pop(name) for name in ("spikes", "unable", "bank_refusal", "canary_power") if name in limits}
    return CheckJob(
        limits=Limits(**limits),
        guarantee=Guarantee[guarantee],
        seed=seed,
        attempt=attempt,
        measured={} if found is None else {f"checks/{check}": found},
        **fields,
    )


def condition(finding, name):
    return next(c for c in finding.conditions if c.name == name)


@dataclass(frozen=True)
class Linear:
    """log-softmax(W·pixels/255 + b) with features relu(pixels/255): W (K, P) is the model, or lies in a file."""

    family = "linear"

    def load(self, path):
        return np.load(path)

    def features(self, model, images):
        return images.reshape(len(images), -1).astype(np.float64) / 255

    def outputs(self, model, images):
        logits = self.features(model, images) @ model.T
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def gradients(self, model, images, labels, *, project=0, seed=0):
        p = np.exp(self.outputs(model, images)) - np.eye(len(model))[labels]
        return (p[:, :, None] * self.features(model, images)[:, None, :]).reshape(len(images), -1)

    def gradient_norms(self, model, images, labels):
        return np.linalg.norm(self.gradients(model, images, labels), axis=1)

    def curvatures(self, model, images, labels, *, probes=8, seed=0):
        raise NotImplementedError

    def flat_weights(self, model):
        return model.ravel()

    def tune(self, job, start, settings):
        raise NotImplementedError

    def fit(self, job):
        raise NotImplementedError

    def derived_state(self):
        return ()


def linear_job(folder: Path, *, seed=0, records=40, block=5, classes=3):
    """A ProbeJob on a random linear model: block 0..block-1, neighbours the next 10, retained the rest."""
    rng = np.random.default_rng(seed)

    def drawn(split, count):
        ids = tuple(f"{split}/{k}" for k in range(count))
        images = rng.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8)
        labels = rng.integers(0, classes, count)
        return ImageRecords(ids=ids, images=images, labels=labels, blocks=ids)

    data = Dataset(source="x", note="", classes=("a", "b", "c"), train=drawn("train", records), test=drawn("test", 50))
    weights, partner = rng.normal(size=(2, classes, 16))
    for name, values in (("weights", weights), ("partner", partner)):
        np.save(folder / f"{name}.npy", values)
    universe = tuple(sorted(rng.permutation(records)[: records // 2].tolist()))
    fit = FitJob(
        recipe={"lr": 0.1},
        seed="0" * 32,
        numerics=None,
        data=data,
        folder=folder / "scratch",
        universe=universe,
        absent=frozenset(range(block)),
    )
    return ProbeJob(
        adapter=Linear(),
        model=weights,
        weights=folder / "weights.npy",
        partner=folder / "partner.npy",
        fit=fit,
        data=data,
        block=tuple(range(block)),
        neighbours=tuple(range(block, block + 10)),
        retained=tuple(range(block, records)),
        population=tuple(range(50)),
        seed=seed,
    )


def margin(log_p, label):
    """Own logit minus the best other, by a loop."""
    best = max(value for k, value in enumerate(log_p) if k != label)
    return log_p[label] - best


__all__ = ["Linear", "condition", "job", "linear_job", "margin", "measured", "models", "replace"]
