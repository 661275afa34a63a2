"""Is the deleted record removed, or is only the answer to the exact record suppressed?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from expunge.core.finding import Finding
from expunge.core.protocols import Array, CheckJob, ModelAdapter, ProbeJob
from expunge.stats.behaviour import judge
from expunge.stats.pixels import images_of, noisy
from expunge.stats.trait import Inquiry, Model, OfPair, Trait, Value, label_margins

_NOISE = {"near": 2.0, "far": 24.0}  # grey levels: a filter by hash, and one by similarity
_COPIES = 8


class OutputFilter:
    """The margin on jittered copies of a record minus that on the record itself, as X against O.

    A filter that answers only the exact record (by its hash, or within a small radius) leaves a gap: the copies are
    still answered like IN. Models that never saw the record have no such gap. The control is that filter, planted from
    each pair: the exact record answered as OUT does, the copies as IN does. Both directions fail: a negative gap means
    that the exact record is still known better than its copies, which is residue.
    `near` (noise of 2 grey levels) and `far` (24) both decide.
    A filter wider than `far` is met by the check `neighbourhood`, and a filter in front of the serving process only by
    probing that process: this check sees the model file's own answers.
    Source: verification notes of the project (refusal and filter detection); no published test was found.
    """

    question: str = "Is only the answer to the exact record suppressed?"
    requires: type = ModelAdapter

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """`exact`, `near`, `far` (R,): margins in nats, the copies' averaged over 8."""
        block = list(job.block)
        images = images_of("the block", job.data.train.images[block])
        labels = job.data.train.labels[block]
        measured = {"exact": label_margins(job.adapter.outputs(job.model, images), labels)}
        for name, levels in _NOISE.items():
            copies = noisy(images, levels=levels, copies=_COPIES, seed=job.seed)
            outputs = job.adapter.outputs(job.model, copies.reshape(-1, *images.shape[1:]))
            margins = label_margins(outputs, np.tile(labels, _COPIES))
            measured[name] = np.asarray(margins.reshape(_COPIES, -1).mean(axis=0), dtype=np.float64)
        return measured

    def run(self, job: CheckJob) -> Finding:
        """The shared judgement on both distances. Raises CheckBroken on malformed measurements."""
        return judge(Inquiry(check="output_filter", question=self.question, traits=_TRAITS), job)


def _gap(name: str) -> Value:
    def gap(model: Model) -> float:
        return float((model[name] - model["exact"]).mean())

    return gap


def _filtered(name: str) -> OfPair:
    def planted(out: Model, into: Model) -> float:
        return float((into[name] - out["exact"]).mean())

    return planted


_TRAITS = tuple(
    Trait(
        name=name,
        value=_gap(name),
        control=_filtered(name),
        more="the exact record is answered otherwise than its copies: a filter",
        less="the exact record is known better than its copies",
    )
    for name in _NOISE
)
