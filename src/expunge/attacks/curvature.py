"""White-box attack: around members the loss is flatter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob, HasWhiteBox, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import as_measured, gaussian_ratio, on_both

_LEAST_TRACE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Curvature:
    """Log-likelihood ratio of IN against OUT of minus the log curvature of the loss at the record.

    Ravikumar et al. 2024 (arXiv 2407.02747): input loss curvature, the trace of the loss's Hessian in the input, is
    lower on records that were trained on. Deviations: the trace is Hutchinson's mean of vᵀHv with exact Hessian-vector
    products (the paper's black-box form takes zeroth-order differences); on its logarithm, the Gaussian ratio of LiRA
    (Carlini et al. 2022, arXiv 2112.03570, eq. 4) with one variance pooled over all records, as in the paper's
    likelihood-ratio variant, so that the score is linear in the signal.

    `measure` gives −ln |trace| at test time; a pixel's unit is 64 grey levels; 8 Rademacher probes, shared by all records
    and models of one seed, so that their noise cancels in part between arms. Magnitudes below 10⁻¹² count as that. With
    ReLU units and softmax the trace is never negative; with others its sign is dropped. Unit of the score: nats. A record
    on which IN and OUT references agree scores 0. Needs an adapter with HasWhiteBox, 2 IN and 2 OUT references a
    record; otherwise CheckBroken, as on NaN and infinity. Cost: 8 double backward passes a record and model.
    """

    requires = HasWhiteBox

    def measure(self, job: ProbeJob) -> Mapping[str, Floats]:
        """`block` (R,) and `population` (Z,): −ln of the curvature; higher = more likely a member."""

        def signal(images: Floats, labels: Floats) -> Floats:
            traces = np.asarray(job.adapter.curvatures(job.model, images, labels, seed=job.seed), np.float64)
            return np.asarray(-np.log(np.maximum(np.abs(traces), _LEAST_TRACE)), dtype=np.float64)

        return on_both(job, signal)

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        values = gaussian_ratio("curvature", job, as_measured)
        return MembershipScores(attack="curvature", values=values, unit="nats")
