"""Which users a training sees: the others' rows are empty, so that nobody's place moves."""

from __future__ import annotations

from expunge.core.protocols import FitJob
from expunge.data._interactions import Histories


def present_users(job: FitJob) -> Histories:
    """Histories of the users of `job`; the rows of the absent, and of those outside its universe, are empty."""
    train: Histories = job.data.train
    gone = set(job.absent)
    if job.universe is not None:
        gone |= set(range(len(train))) - set(job.universe)
    return train.without(sorted(gone))
