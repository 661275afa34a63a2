"""Does the model still react to what sets the deleted records apart from their retained neighbours?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding
from expunge.core.protocols import Array, CheckJob, HasWhiteBox, ProbeJob
from expunge.stats.arrays import Floats, finite
from expunge.stats.behaviour import judge
from expunge.stats.pixels import images_of, nearest, step_towards
from expunge.stats.trait import Inquiry, Role, Trait, label_margins, mean_of

_NEIGHBOURS = 5
_SHARE = 0.5  # of the way from the record to the mean of its neighbours
_CHUNK = 8  # records whose gradients are held at once


class Sensitivity:
    """Change of the margin along the record's own features, and the cosine of its gradient with the weight change.

    `slope`, which decides: u is the record's residual against the mean of its 5 nearest retained neighbours in pixel
    space (model-free, so the same for every arm). The margin (logit of the record's label minus the largest other) at
    the record minus that half-way to the mean, per unit of distance (1 = one pixel over its whole range). A model that
    memorised the record needs u to reach its label: higher = more like IN.
    `cosine`, which is only shown: of the gradient of the record's loss at the model with (its weights − those of the
    pair's IN model), negated, so that 0 = no weight was moved against the record. It cannot decide: O and IN start
    from different seeds, a retrain of the IN half from the same one, so an honest X is no draw of O's cosine
    (benchmarks/behaviour measures how far apart they are).
    Source: the feature residual is ours; the gradient side follows the influence view of Golatkar et al. 2020
    (arXiv 1911.04933).
    Blind where a record is an average of its neighbours: then there is no residual, and the check says so.
    """

    question: str = "Does the model still react to the features that set the deleted records apart?"
    requires: type = HasWhiteBox

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """`slope` (R,): margin per unit length. `cosine` (R,): in [-1, 1], 0 for a model that equals its partner."""
        block = list(job.block)
        images = images_of("the block", job.data.train.images[block])
        labels = job.data.train.labels[block]
        pool = images_of("the neighbours", job.data.train.images[list(job.neighbours)])
        rows = nearest(images, pool, min(_NEIGHBOURS, len(pool)))
        moved, lengths = step_towards(images, pool[rows].astype(np.float64).mean(axis=1), _SHARE)
        here = label_margins(job.adapter.outputs(job.model, images), labels)
        there = label_margins(job.adapter.outputs(job.model, moved), labels)
        safe = np.where(lengths > 0, lengths, 1.0)
        slope = np.where(lengths > 0, (here - there) / safe, 0.0)
        return {"slope": slope, "cosine": _cosines(job, images, labels)}

    def run(self, job: CheckJob) -> Finding:
        """The shared judgement on `slope`; `cosine` is reported. Raises CheckBroken on malformed measurements."""
        return judge(Inquiry(check="sensitivity", question=self.question, traits=_TRAITS), job)


_TRAITS = (
    Trait(
        name="slope",
        value=mean_of("slope"),
        more="the records' own features still carry their labels",
        less="the records' own features work against their labels",
    ),
    Trait(name="cosine", value=lambda model: -float(model["cosine"].mean()), role=Role.REPORTED),
)


def _cosines(job: ProbeJob, images: Array, labels: Array) -> Floats:
    """Per record; no partner, or one with the same weights, is no change: 0."""
    if job.partner is None:
        return np.zeros(len(images))
    mine = finite("weights", job.adapter.flat_weights(job.model), (None,))
    change = mine - finite("partner", job.adapter.flat_weights(job.adapter.load(job.partner)), (mine.size,))
    length = float(np.linalg.norm(change))
    values = []
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        gradients = np.asarray(job.adapter.gradients(job.model, images[part], labels[part]), np.float64)
        if gradients.ndim != 2 or gradients.shape[1] != mine.size:
            raise CheckBroken("gradients and weights differ", expected=str(mine.size), got=str(gradients.shape))
        scale = length * np.linalg.norm(gradients, axis=1)
        values.append(np.divide(gradients @ change, scale, out=np.zeros(len(gradients)), where=scale > 0))
    return np.concatenate(values)
