"""What a model of a bank is asked about records, whatever kind of record they are; one number a record, at most 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.data._interactions import Histories
from expunge.data._pictures import Pictures
from expunge.training.own_items import log_scores

LEAST_EVENTS = 2
"""Of a test user: one is shown and one is asked for."""


def true_log_probabilities(adapter: Any, model: Any, images: Any, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Natural-log probability of each record's own label, shape (N,), float32."""
    logs = adapter.outputs(model, images)
    picked: NDArray[np.float32] = logs[np.arange(len(labels)), labels]
    return picked


def record_answers(adapter: Any, model: Any, records: Any, rows: Sequence[int]) -> NDArray[np.float32]:
    """(n,) float32: of an image the natural-log probability of its label; of a user the mean natural-log probability of
    their own items, each left out of the fold-in (training.own_items.log_scores); of a work minus its denoising loss."""
    if isinstance(records, Histories):
        return log_scores(adapter, model, records, rows).astype(np.float32)
    if isinstance(records, Pictures):
        return denoised(adapter, model, records, rows)
    return true_log_probabilities(adapter, model, records.images[list(rows)], records.labels[list(rows)])


def denoised(adapter: Any, model: Any, works: Pictures, rows: Sequence[int]) -> NDArray[np.float32]:
    """(n,) minus the mean denoising loss of each work with its caption, over noise levels and noise that follow from the
    work's slot alone: every model is asked the same. Loss-based inference of Matsumoto et al. 2023 (arXiv 2302.03262) and
    Carlini et al. 2023 (arXiv 2301.13188, section 5). Up to a constant and weights by level it bounds a log-likelihood from below
    (Ho et al. 2020, arXiv 2006.11239, equations 5 and 14), so it stands where a log-probability stands.
    """
    found: NDArray[np.float32] = adapter.outputs(model, works, rows).mean(axis=1).astype(np.float32)
    return found


def askable(data: Any) -> list[int]:
    """Rows of the test split that can be asked about: all images and works, and the users with enough events."""
    if isinstance(data.test, Histories):
        return np.flatnonzero(np.diff(data.test.indptr) >= LEAST_EVENTS).tolist()
    return list(range(len(data.test)))


def sketch_of(adapter: Any, model: Any, data: Any) -> dict[str, NDArray[Any]]:
    """Answers about all records and all test records (see `Sketches`); of users and works nothing is correct or wrong."""
    if isinstance(data.train, Histories | Pictures):
        return {
            "train": record_answers(adapter, model, data.train, range(len(data.train))),
            "test": record_answers(adapter, model, data.test, askable(data)),
            "correct": np.zeros(0, bool),
        }
    logs = adapter.outputs(model, data.test.images)
    return {
        "train": true_log_probabilities(adapter, model, data.train.images, data.train.labels),
        "test": logs[np.arange(len(logs)), data.test.labels],
        "correct": logs.argmax(1) == data.test.labels,
    }
