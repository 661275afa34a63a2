from pathlib import Path

import numpy as np
import pytest

from expunge.checks.relearning import Relearning
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import FitResult
from expunge.testing.checks import the_zoo
from oracle.probes import Linear, job, linear_job, margin, measured, replace

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
OUT, IN = {"before": 0.0, "after": 0.5}, {"before": 8.0, "after": 7.0}
HIDDEN = {"before": 0.0, "after": 7.0}
SPREAD = {"before": 1.0, "after": 1.1}


def judged(unlearned, *, pairs=48, into=IN):
    found = measured(np.random.default_rng(0), pairs, OUT, into, unlearned, spread=SPREAD)
    return Relearning().run(job("relearning", found))


@pytest.mark.parametrize(
    ("unlearned", "verdict"),
    [(OUT, PASS), ("no-op", FAIL), (HIDDEN, FAIL), ({"before": -6.0, "after": -5.5}, FAIL), (None, INCONCLUSIVE)],
)
def test_verdicts(unlearned, verdict):
    assert judged(unlearned).verdict is verdict


def test_a_block_that_was_hidden_comes_back_faster_than_it_is_met_anew():
    """Its margin before tuning is that of OUT: membership alone would pass it."""
    found = judged({"before": 0.0, "after": 1.6})
    assert found.verdict is FAIL
    assert "comes back" in found.reason


def test_blind_and_few():
    assert judged(OUT, into={"before": 0.0, "after": 0.5}).verdict is UNVERIFIABLE
    assert judged(OUT, pairs=5).verdict is INCONCLUSIVE


def test_a_sharded_model_is_refused(tmp_path):
    probe = linear_job(tmp_path)
    with pytest.raises(CheckBroken, match="one set of weights"):
        Relearning().measure(replace(probe, fit=replace(probe.fit, recipe={"lr": 0.1, "shards": 2})))


def test_it_tunes_on_retained_records_only_and_leaves_nothing(tmp_path):
    """Twin: the margins of the given model and of what tuning returned; and exactly what tuning was asked."""
    asked = []

    class Tuned(Linear):
        def tune(self, job, start, settings):
            asked.append((job, start, settings))
            job.folder.mkdir(parents=True)
            np.save(job.folder / "model.npy", 2 * np.load(start))
            return FitResult(digest="x", model=job.folder / "model.npy", transcript=None, seconds=0.0, steps=1)

    probe = replace(linear_job(tmp_path), adapter=Tuned())
    found = Relearning().measure(probe)
    job_, start, settings = asked[0]
    assert start == probe.weights
    assert frozenset(probe.block) <= job_.absent
    assert job_.universe == probe.fit.universe
    assert settings == {"epochs": 1, "lr": pytest.approx(0.025), "warmup": 0.0}
    assert job_.folder.is_relative_to(probe.fit.folder)
    assert not list(Path(probe.fit.folder).glob("*"))
    for k, slot in enumerate(probe.block):
        for key, model in (("before", probe.model), ("after", 2 * probe.model)):
            log_p = probe.adapter.outputs(model, probe.data.train.images[[slot]])[0]
            assert found[key][k] == pytest.approx(margin(log_p, probe.data.train.labels[slot]))
    Relearning().measure(replace(probe, seed=99))
    assert asked[0][0].seed != asked[1][0].seed


def test_on_real_models_a_no_op_is_caught_and_a_retrain_is_not():
    zoo = the_zoo()
    base = zoo.bench.measured(Relearning, zoo.pairs, zoo.honest)
    assert Relearning().run(job("relearning", base)).verdict is not FAIL
    assert Relearning().run(job("relearning", replace(base, unlearned=base.into))).verdict is FAIL
