import numpy as np
import pytest

from expunge.checks.sensitivity import Sensitivity
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.testing.checks import the_zoo
from oracle.probes import condition, job, linear_job, margin, measured, replace

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
OUT, IN = {"slope": 0.0, "cosine": 0.1}, {"slope": 6.0, "cosine": 0.0}


def judged(unlearned, *, pairs=48, into=IN, seed=0):
    found = measured(np.random.default_rng(seed), pairs, OUT, into, unlearned)
    return Sensitivity().run(job("sensitivity", found))


@pytest.mark.parametrize(
    ("unlearned", "verdict"),
    [(OUT, PASS), ("no-op", FAIL), ({**OUT, "slope": 3.0}, FAIL), ({**OUT, "slope": -4.0}, FAIL), (None, INCONCLUSIVE)],
)
def test_verdicts(unlearned, verdict):
    assert judged(unlearned).verdict is verdict


def test_blind_and_few():
    assert judged(OUT, into=OUT).verdict is UNVERIFIABLE
    assert judged(OUT, pairs=5).verdict is INCONCLUSIVE


def test_the_cosine_is_shown_and_decides_nothing():
    found = judged({"slope": 0.0, "cosine": -40.0})
    assert found.verdict is PASS
    assert condition(found, "cosine").verdict is INCONCLUSIVE
    assert "decides nothing" in condition(found, "cosine").note


def test_slope_and_cosine_equal_their_twins(tmp_path):
    probe = linear_job(tmp_path)
    found = Sensitivity().measure(probe)
    train, adapter = probe.data.train, probe.adapter
    change = (probe.model - np.load(probe.partner)).ravel()
    for k, slot in enumerate(probe.block):
        image, label = train.images[slot].astype(float), train.labels[slot]
        near = sorted(probe.neighbours, key=lambda s: np.linalg.norm(image - train.images[s]))[:5]
        half = np.rint((image + np.mean([train.images[s].astype(float) for s in near], axis=0)) / 2).astype(np.uint8)
        here, there = (margin(adapter.outputs(probe.model, i[None])[0], label) for i in (train.images[slot], half))
        assert found["slope"][k] == pytest.approx((here - there) / (np.linalg.norm(half - image) / 255))
        gradient = adapter.gradients(probe.model, train.images[[slot]], train.labels[[slot]])[0]
        expected = gradient @ change / np.linalg.norm(gradient) / np.linalg.norm(change)
        assert found["cosine"][k] == pytest.approx(expected)


def test_a_model_that_is_its_partner_has_moved_nowhere(tmp_path):
    probe = linear_job(tmp_path)
    for partner in (None, probe.weights):
        assert not Sensitivity().measure(replace(probe, partner=partner))["cosine"].any()


def test_a_record_that_is_the_mean_of_its_neighbours_has_no_slope(tmp_path):
    probe = linear_job(tmp_path)
    probe.data.train.images[:] = 7
    assert not Sensitivity().measure(probe)["slope"].any()


def test_too_few_neighbours_and_foreign_gradients_break_it(tmp_path):
    probe = linear_job(tmp_path)
    with pytest.raises(CheckBroken):
        Sensitivity().measure(replace(probe, neighbours=()))

    class Other(type(probe.adapter)):
        def gradients(self, *a, **k):
            return super().gradients(*a, **k)[:, 1:]

    with pytest.raises(CheckBroken, match="gradients and weights"):
        Sensitivity().measure(replace(probe, adapter=Other()))


def test_on_real_models_a_no_op_is_caught_and_a_retrain_is_not():
    zoo = the_zoo()
    base = zoo.bench.measured(Sensitivity, zoo.pairs, zoo.honest)
    assert Sensitivity().run(job("sensitivity", base)).verdict is not FAIL
    assert Sensitivity().run(job("sensitivity", replace(base, unlearned=base.into))).verdict is FAIL
