"""Does influence remain in, or was damage done to, the nearest retained neighbours of the deleted records?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding
from expunge.core.protocols import Array, CheckJob, ModelAdapter, ProbeJob
from expunge.stats.behaviour import judge
from expunge.stats.pixels import images_of, nearest
from expunge.stats.trait import Inquiry, Model, Role, Trait, label_margins


class Neighbours:
    """Margins of the block's nearest retained neighbours that the model trained on, as X against O and I.

    `support`, which decides: the margin that a neighbour gives to the label of the block record nearest to it. Training
    on a record pulls its surroundings towards its label: higher = more like IN. This is leakage that no query of the
    record itself shows (arXiv 2601.06938, 2501.16663).
    `damage`, which can only fail: minus the neighbours' margin of their own labels. Its control is that of neighbours
    the OUT model did not train on: r = 1 means they look as if they had been deleted too.
    In complementary halves a neighbour is in one model of a pair only; only trained ones are averaged, so that every
    arm is asked the same.
    """

    question: str = "Do the retained neighbours of the deleted records look as if those had never been there?"
    requires: type = ModelAdapter

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """`support`, `own` (2,): mean margins, in nats, of the neighbours this model did, and did not, train on (0 where
        there are none). `counts` (2,): how many they are. Means only: neighbours are other people's records."""
        slots = np.array(job.neighbours, np.int64)
        train = job.data.train
        images = images_of("the neighbours", train.images[slots])
        block = list(job.block)
        closest = nearest(images, images_of("the block", train.images[block]), 1)[:, 0]
        outputs = job.adapter.outputs(job.model, images)
        support = label_margins(outputs, train.labels[block][closest])
        own = label_margins(outputs, train.labels[slots])
        universe = range(len(train)) if job.fit.universe is None else job.fit.universe
        inside = np.isin(slots, sorted(frozenset(universe) - frozenset(job.fit.absent)))
        if not inside.any():
            raise CheckBroken("the model trained on none of the block's neighbours", expected="a larger sample")
        sides = (inside, ~inside)
        return {
            "support": np.array([support[side].mean() if side.any() else 0.0 for side in sides]),
            "own": np.array([own[side].mean() if side.any() else 0.0 for side in sides]),
            "counts": np.array([inside.sum(), (~inside).sum()], np.float64),
        }

    def run(self, job: CheckJob) -> Finding:
        """The shared judgement. Raises CheckBroken on malformed measurements."""
        return judge(Inquiry(check="neighbours", question=self.question, traits=_TRAITS), job)


def _deleted_too(out: Model, _: Model) -> float:
    if out["counts"][1] < 1:
        raise CheckBroken("an OUT model trained on every neighbour of the block", expected="models of half the data")
    return -float(out["own"][1])


_TRAITS = (
    Trait(
        name="support",
        value=lambda model: float(model["support"][0]),
        more="neighbours still lean towards the deleted labels",
        less="neighbours were pushed away from the deleted labels",
    ),
    Trait(
        name="damage",
        value=lambda model: -float(model["own"][0]),
        control=_deleted_too,
        role=Role.CAN_FAIL,
        more="neighbours lost their own labels (unlearned too, or still displaced by the block)",
        less="neighbours are held more firmly than without the deletion",
    ),
)
