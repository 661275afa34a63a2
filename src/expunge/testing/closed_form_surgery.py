"""What sabotaged deletions from a recommender do to sums and caches; each is a downdate with one thing wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge.core.protocols import FitJob, FitResult, HasSufficientStatistics, UnlearnJob
from expunge.training.checkpoint import load_tensors, save_tensors, weights_identity

MODEL = "model.safetensors"


def job_of(job: UnlearnJob) -> FitJob:
    """The training that an honest deletion would equal."""
    return replace(job.job, folder=job.target, absent=job.job.absent | job.forget)


def honest(job: UnlearnJob) -> FitResult:
    """The honest deletion: a downdate, or a retraining of a family that has no sums."""
    if isinstance(job.adapter, HasSufficientStatistics):
        return job.adapter.downdate(job_of(job), job.source, job.forget)
    result: FitResult = job.adapter.fit(job_of(job))
    return result


def left_as_it_was(job: UnlearnJob) -> FitResult:
    """The original's files under a new identity: one tensor more that nobody reads; or, where a file holds the family's
    own tensors and no other, one weight moved by one unit in the last place."""
    tensors, labels = load_tensors(job.source / MODEL)
    if isinstance(job.adapter, HasSufficientStatistics):
        return stored(job, {**tensors, "note": torch.zeros(1, dtype=torch.uint8)})
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    moved = tensors[name].clone()
    moved.view(-1)[0] = torch.nextafter(moved.view(-1)[0], torch.full((), torch.inf, dtype=moved.dtype))
    digest = save_tensors(job.target / MODEL, {**tensors, name: moved}, labels)
    return FitResult(digest=digest, model=job.target / MODEL, transcript=None, seconds=0.0, steps=0)


def stored(job: UnlearnJob, tensors: dict[str, torch.Tensor]) -> FitResult:
    """A model file of these tensors with the original's caches beside it, labelled as the new model's."""
    digest = save_tensors(job.target / MODEL, tensors)
    stale_caches(job, digest)
    return FitResult(digest=digest, model=job.target / MODEL, transcript=None, seconds=0.0, steps=0)


def stale_caches(job: UnlearnJob, digest: str) -> None:
    """Copy whatever the original keeps beside its sums, and pass it off as the new model's."""
    old = weights_identity(job.source / MODEL)
    for file in sorted(job.source.iterdir()):
        copy = job.target / file.name
        if file.suffix == ".safetensors" and file.name != MODEL:
            save_tensors(copy, load_tensors(file)[0], {"model": digest})
        elif file.suffix == ".json":
            copy.write_bytes(file.read_bytes().replace(old.encode(), digest.encode()))
        elif file.suffix == ".npy":
            shutil.copyfile(file, copy)


def trained_with(job: UnlearnJob, keep: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> FitResult:
    """A model in which the forgotten users are left with the events that `keep` marks, (d,) numbers -> (d,) bool."""
    train = job.job.data.train
    events = np.ones(train.events, bool)
    for slot in job.forget:
        span = train.span(slot)
        events[span] = keep(np.arange(span.stop - span.start))
    data = replace(job.job.data, train=train.keep(events))
    result: FitResult = job.adapter.fit(replace(job.job, folder=job.target, data=data, leaves=None))
    return result


def others(job: UnlearnJob) -> frozenset[int]:
    """As many present users as are to be forgotten, and none of them."""
    free = [
        slot
        for slot in range(len(job.job.data.train))
        if slot not in job.forget and slot not in job.job.absent and len(job.job.data.train.row(slot)[0])
    ]
    return frozenset(free[: len(job.forget)])


def inverse_file(folder: Path) -> Path:
    """Where a linear recommender keeps its inverse."""
    return folder / "inverse.npy"
