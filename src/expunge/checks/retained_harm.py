"""Did the deletion expose, or damage, the people whose records stay?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding
from expunge.core.protocols import Array, CheckJob, ModelAdapter, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.behaviour import judge
from expunge.stats.roc import auc
from expunge.stats.trait import Inquiry, Model, Role, Trait, label_margins

_LEAST = 10  # records on a side, below which an area under the curve is noise


class RetainedHarm:
    """Exposure of retained records: AUC of their margins against unseen records, one number a model.

    The unit is what training on a record exposes: a control adds to O (or I) the difference between the AUC of the
    sample's records that this model trained on and of those that it did not.
    `against_in`, which decides: X is not more exposed than the IN model it was made from (non-inferiority; both
    trained on the same retained records, which is why it sees small changes). Less exposed is no fault here: an honest
    retrain is, because memorising the block costs a model (benchmarks/behaviour).
    `against_out`, which can only fail: X against models that never saw the block, both ways; below them is damage.
    Only the two areas leave `measure`: a query-only audit cannot catch insufficient unlearning without leaking the
    membership of retained data (arXiv 2606.14518), so no retained record's score may. Unlearning raises the risk of
    retained records according to arXiv 2605.01129.
    """

    question: str = "Are the retained records as exposed as they would be without this deletion?"
    requires: type = ModelAdapter

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """`trained`, `untrained` (1,): AUC against the population of the sample's records that this model did, and did
        not, train on (.5 where it trained on all). `counts` (2,): how many they are."""
        owned = _owned(job)
        inside = [slot for slot in job.retained if slot in owned]
        outside = [slot for slot in job.retained if slot not in owned]
        if len(inside) < _LEAST:
            raise CheckBroken("too few retained records of this model", expected=f"{_LEAST}", got=str(len(inside)))
        test, rows = job.data.test, list(job.population)
        unseen = label_margins(job.adapter.outputs(job.model, test.images[rows]), test.labels[rows])
        return {
            "trained": np.array([_exposure(job, inside, unseen)]),
            "untrained": np.array([_exposure(job, outside, unseen)]),
            "counts": np.array([len(inside), len(outside)], np.float64),
        }

    def run(self, job: CheckJob) -> Finding:
        """The shared judgement against O and against I. Raises CheckBroken on malformed measurements."""
        return judge(Inquiry(check="retained_harm", question=self.question, traits=_TRAITS), job)


def _owned(job: ProbeJob) -> frozenset[int]:
    universe = range(len(job.data.train)) if job.fit.universe is None else job.fit.universe
    return frozenset(universe) - frozenset(job.fit.absent)


def _exposure(job: ProbeJob, slots: list[int], unseen: Floats) -> float:
    if not slots:
        return 0.5
    train = job.data.train
    area = auc(label_margins(job.adapter.outputs(job.model, train.images[slots]), train.labels[slots]), unseen).estimate
    return 0.5 if area is None else area


def _value(model: Model) -> float:
    return float(model["trained"][0])


def _exposed(model: Model) -> float:
    """The same model with its retained records exposed once more."""
    if model["counts"].min() < _LEAST:
        raise CheckBroken("a bank model has too few records on a side", got=str(model["counts"].astype(int).tolist()))
    return 2 * float(model["trained"][0]) - float(model["untrained"][0])


_MORE = "retained records are more exposed"
_TRAITS = (
    Trait(
        name="against_in",
        value=_value,
        base=lambda _, into: _value(into),
        control=lambda _, into: _exposed(into),
        more=_MORE,
        harmless_below=True,
    ),
    Trait(
        name="against_out",
        value=_value,
        control=lambda out, _: _exposed(out),
        role=Role.CAN_FAIL,
        more=_MORE,
        less="retained records were damaged",
    ),
)
