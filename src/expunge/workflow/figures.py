"""Numbers for the report's figures: how strong the attacks are on this bank, over all records and never one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.codec import encode
from expunge.core.protocols import AttackJob
from expunge.farm.bank import Sketches
from expunge.farm.probing import output_attacks
from expunge.stats.roc import auc, histogram, roc, tpr_at_fpr
from expunge.workflow.train import open_bank

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

TARGETS = 4
POINTS = 40


def figure_data(workspace: Workspace) -> Mapping[str, Any]:
    """Per attack: ROC on a fixed grid, AUC, TPR at 1 % FPR, and score histograms with at least 20 records a bin.

    Of the attacks that the policy names, those that need outputs alone: the sketches have nothing else. The first two
    pairs' models are attacked with all other pairs as references. Empty without a bank of four pairs.
    """
    bank = open_bank(workspace)
    if bank is None or 2 * bank.spec.pairs < 2 * TARGETS:
        return {}
    sketches = bank.sketches()
    present: NDArray[np.bool_] = np.asarray(sketches.inside.any(0))
    inside = sketches.inside[:TARGETS][:, present]
    figures = {}
    for name in output_attacks(workspace.policy.attacks):
        scores = np.asarray(registry.load("attacks", name)().score(_job(sketches, present)).values)
        figures[name] = _figure(scores[inside], scores[~inside])
    return figures


def _job(sketches: Sketches, present: NDArray[np.bool_]) -> AttackJob:
    """Erased records are left out: nobody's model may be asked about them any more."""
    return AttackJob(
        target=sketches.train[:TARGETS, present],
        reference=sketches.train[TARGETS:, present],
        member=sketches.inside[TARGETS:, present],
        target_population=sketches.test[:TARGETS],
        reference_population=sketches.test[TARGETS:],
    )


def _figure(members: NDArray[np.float64], others: NDArray[np.float64]) -> Mapping[str, Any]:
    curve = roc(members, others)
    grid = np.linspace(0, 1, POINTS + 1)
    area, at_one = auc(members, others), tpr_at_fpr(members, others, 0.01)
    return encode(  # type: ignore[no-any-return]
        {
            "fpr": [float(x) for x in grid],
            "tpr": [float(np.interp(x, curve.fpr, curve.tpr)) for x in grid],
            "auc": area.estimate,
            "auc_low": area.low,
            "auc_high": area.high,
            "tpr_at_1_percent_fpr": at_one.estimate,
            "members": _bins(members),
            "nonmembers": _bins(others),
        }
    )


def _bins(scores: NDArray[np.float64]) -> Mapping[str, Any] | None:
    bins = histogram(scores)
    return None if bins is None else {"edges": bins.edges.tolist(), "counts": bins.counts.tolist(), "n": bins.n}
