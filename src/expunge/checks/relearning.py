"""Does a short fine-tuning on retained records bring the deleted ones back?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace

from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding
from expunge.core.protocols import Array, CheckJob, HasGradients, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.behaviour import judge
from expunge.stats.trait import Inquiry, Model, Trait, label_margins, mean_of
from expunge.training.rng import derive_seed

_EPOCHS = 1
_RATE = 0.25  # of the recipe's peak learning rate


class Relearning:
    """The block's margins before and after one epoch on retained records only, at a quarter of the recipe's rate.

    `after`, which decides: the mean margin after tuning; higher = more like IN.
    `recovered`, which decides too: after minus before. Its control is a suppressed block, planted from the pair: before
    as in OUT, after as in IN. A method that hides the block without removing it recovers like the control; one that
    pushed it far below OUT and left it there has less to show than OUT.
    A truly unlearned model does not recover faster than OUT: fine-tuning on retained data returned forgotten accuracy
    from about 50 % to 100 % in arXiv 2505.22310, while retrained models stayed.
    Needs HasGradients and one set of weights: a sharded model (SISA) raises CheckBroken.
    """

    question: str = "Does a short fine-tuning on retained records bring the deleted records back?"
    requires: type = HasGradients

    def measure(self, job: ProbeJob) -> Mapping[str, Array]:
        """`before` and `after` (R,): margins (logit of the label minus the largest other), in nats."""
        if int(job.fit.recipe.get("shards", 1)) > 1:
            raise CheckBroken("relearning tunes one set of weights", got="a sharded model")
        return {"before": _margins(job, job.model), "after": _margins(job, _tuned(job))}

    def run(self, job: CheckJob) -> Finding:
        """The shared judgement on both traits. Raises CheckBroken on malformed measurements."""
        return judge(Inquiry(check="relearning", question=self.question, traits=_TRAITS), job)


def _recovered(model: Model) -> float:
    return float((model["after"] - model["before"]).mean())


def _suppressed(out: Model, into: Model) -> float:
    return float((into["after"] - out["before"]).mean())


_TRAITS = (
    Trait(name="after", value=mean_of("after"), more="the block comes back", less="the block stays out of reach"),
    Trait(
        name="recovered",
        value=_recovered,
        control=_suppressed,
        more="the block was hidden and comes back faster than it would be met anew",
        less="tuning moves the block the other way than it moves a model that never saw it",
    ),
)


def _margins(job: ProbeJob, model: object) -> Floats:
    block = list(job.block)
    return label_margins(job.adapter.outputs(model, job.data.train.images[block]), job.data.train.labels[block])


def _tuned(job: ProbeJob) -> object:
    """The model after tuning; the scratch run is removed, and one left by a killed process is not taken over."""
    folder = job.fit.folder / "relearning"
    shutil.rmtree(folder, ignore_errors=True)
    absent = frozenset(job.fit.absent) | frozenset(job.block)
    seed = derive_seed(str(job.seed), "relearning")
    tuning = replace(job.fit, folder=folder, absent=absent, seed=seed, leaves=None, keep_checkpoints=False)
    settings = {"epochs": _EPOCHS, "lr": _RATE * float(job.fit.recipe["lr"]), "warmup": 0.0}
    try:
        result = job.adapter.tune(tuning, job.weights, settings)
        return job.adapter.load(result.model)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
