"""Are slightly changed copies of the deleted records still recognised?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from expunge.core.finding import Finding
from expunge.core.protocols import Array, CheckJob, ModelAdapter, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.behaviour import judge
from expunge.stats.pixels import Images, images_of, noisy, shifted
from expunge.stats.trait import Inquiry, Role, Trait, label_margins, mean_of

_NOISE = 24.0  # grey levels
_COPIES = 8


class Neighbourhood:
    """Margins of the records' labels on seeded perturbed copies of the block, as X against O and I.

    `noise`, which decides: 8 copies with Gaussian noise of 24 grey levels. `shift` and `flip`, which can only fail:
    four one-pixel shifts, and the mirror image. Residual knowledge of perturbed forget samples was found "prevalent
    across existing methods" by arXiv 2601.22359, whose ratio of recognised perturbed samples we replace by the mean
    margin, which does not saturate. Higher = more like IN.
    """

    question: str = "Are slightly changed copies of the deleted records still recognised?"
    requires: type = ModelAdapter

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """`noise`, `shift`, `flip` (R,): mean margin over the copies, in nats."""
        block = list(job.block)
        images = images_of("the block", job.data.train.images[block])
        copies = {
            "noise": noisy(images, levels=_NOISE, copies=_COPIES, seed=job.seed),
            "shift": shifted(images),
            "flip": np.ascontiguousarray(images[None, :, :, ::-1]),
        }
        return {name: _margins(job, many) for name, many in copies.items()}

    def run(self, job: CheckJob) -> Finding:
        """The shared judgement. Raises CheckBroken on malformed measurements."""
        return judge(Inquiry(check="neighbourhood", question=self.question, traits=_TRAITS), job)


_MORE = "perturbed copies are still recognised"
_LESS = "perturbed copies are refused more than unseen ones"
_TRAITS = (
    Trait(name="noise", value=mean_of("noise"), more=_MORE, less=_LESS),
    Trait(name="shift", value=mean_of("shift"), role=Role.CAN_FAIL, more=_MORE, less=_LESS),
    Trait(name="flip", value=mean_of("flip"), role=Role.CAN_FAIL, more=_MORE, less=_LESS),
)


def _margins(job: ProbeJob, copies: Images) -> Floats:
    """Mean over the copies (C, R, H, W, C') of each record's margin, (R,)."""
    count, records = copies.shape[:2]
    labels = np.tile(job.data.train.labels[list(job.block)], count)
    margins = label_margins(job.adapter.outputs(job.model, copies.reshape(-1, *copies.shape[2:])), labels)
    return np.asarray(margins.reshape(count, records).mean(axis=0), dtype=np.float64)
