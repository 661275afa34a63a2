"""Do the model's features still encode the deleted records, whatever its last layer answers?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding
from expunge.core.protocols import Array, CheckJob, HasWhiteBox, ProbeJob
from expunge.stats.arrays import Floats, finite
from expunge.stats.behaviour import judge
from expunge.stats.roc import auc
from expunge.stats.trait import Inquiry, Role, Trait, label_margins, mean_of

_RIDGE = 0.1  # of the number of records, on standardised features


class Representation:
    """Linear probes on the activations before the last layer, fitted on records that no model trained on.

    `label`, which decides: a ridge probe learns the classes from the features of the population and is asked for the
    block's labels; the mean margin of its scores. The model's own last layer is not used, so output-only and
    last-layer-only "unlearning" keeps what is seen here. Higher = more like IN.
    `separable`, which can only fail: how well a leave-one-out ridge probe tells the block from the population (AUC),
    which needs no label. Higher = more like IN (a memorised record is moved out of its surroundings).
    Source: arXiv 2605.27569 (outputs forget while representations keep structured residue); instead of its distances
    between models we probe, because distances such as CKA move without any change of function (arXiv 2210.16156).
    """

    question: str = "Do the model's features still encode the deleted records?"
    requires: type = HasWhiteBox

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """`label` (R,): probe margins, about -2 to 2. `separable` (1,): AUC in [0, 1]."""
        block, unseen = list(job.block), list(job.population)
        train, test = job.data.train, job.data.test
        mine = finite("features", job.adapter.features(job.model, train.images[block]), (len(block), None))
        others = finite("features", job.adapter.features(job.model, test.images[unseen]), (len(unseen), mine.shape[1]))
        centre, scale = others.mean(axis=0), others.std(axis=0)
        scale = np.where(scale > 1e-6 * max(1.0, float(scale.max())), scale, np.inf)  # a dead unit says nothing
        z, x = (others - centre) / scale, (mine - centre) / scale
        scores = _probe(z, test.labels[unseen], len(job.data.classes), x)
        return {"label": label_margins(scores, train.labels[block]), "separable": np.array([_separability(x, z)])}

    def run(self, job: CheckJob) -> Finding:
        """The shared judgement. Raises CheckBroken on malformed measurements."""
        return judge(Inquiry(check="representation", question=self.question, traits=_TRAITS), job)


_MORE = "the features still encode the block"
_LESS = "the features were turned away from the block"
_TRAITS = (
    Trait(name="label", value=mean_of("label"), more=_MORE, less=_LESS),
    Trait(name="separable", value=mean_of("separable"), role=Role.CAN_FAIL, more=_MORE, less=_LESS),
)


def _probe(features: Floats, labels: ArrayLike, classes: int, asked: Floats) -> Floats:
    """Scores (R, K) of one-against-all ridge regressions with an unpenalised intercept; features have mean 0."""
    targets = np.eye(classes)[np.asarray(labels, np.int64)]
    if len(features) < 2 * classes:
        raise CheckBroken("too few population records for a probe", expected=f"{2 * classes}", got=str(len(features)))
    middle = targets.mean(axis=0)
    inner = features.T @ features + _RIDGE * len(features) * np.eye(features.shape[1])
    weights = np.linalg.solve(inner, features.T @ (targets - middle))
    return np.asarray(asked @ weights + middle, dtype=np.float64)


def _separability(block: Floats, population: Floats) -> float:
    """AUC of leave-one-out scores of a ridge probe, block 1 against population 0, each side with half the weight.

    The score of a record by the probe without it is (s - h·y)/(1 - h), h its leverage: no refitting is needed.
    """
    rows = np.concatenate([block, population])
    design = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    target = np.repeat([1.0, 0.0], [len(block), len(population)])
    weight = np.repeat([0.5 / len(block), 0.5 / len(population)], [len(block), len(population)])
    penalty = np.diag(np.append(np.full(rows.shape[1], _RIDGE), 1e-9))
    pulled = np.linalg.solve(design.T @ (weight[:, None] * design) + penalty, (weight[:, None] * design).T)
    fitted = design @ (pulled @ target)
    leverage = np.einsum("nf,fn->n", design, pulled)
    left_out = (fitted - leverage * target) / (1 - leverage)
    area = auc(left_out[: len(block)], left_out[len(block) :]).estimate
    return 0.5 if area is None else area
