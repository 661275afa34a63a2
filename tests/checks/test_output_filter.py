import numpy as np
import pytest

from expunge.checks.neighbourhood import Neighbourhood
from expunge.checks.output_filter import OutputFilter
from expunge.core.finding import Verdict
from expunge.stats.pixels import noisy
from expunge.testing.checks import the_zoo
from oracle.probes import condition, job, linear_job, margin, measured, replace

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
OUT, IN = {"exact": 0.0, "near": 0.0, "far": 0.0}, {"exact": 8.0, "near": 7.9, "far": 7.0}
SPREAD = {"near": 1.1, "far": 1.4}
BEHIND_A_FILTER = {"exact": 0.0, "near": 7.9, "far": 7.0}


def judged(unlearned, *, pairs=48, out=OUT, into=IN):
    found = measured(np.random.default_rng(1), pairs, out, into, unlearned, spread=SPREAD)
    return OutputFilter().run(job("output_filter", found))


@pytest.mark.parametrize(
    ("unlearned", "verdict"),
    [
        (OUT, PASS),
        (BEHIND_A_FILTER, FAIL),
        ({"exact": 0.0, "near": 0.5, "far": 0.2}, FAIL),  # one record in sixteen is filtered
        ({"exact": 8.0, "near": 2.0, "far": 0.0}, FAIL),  # the exact record is known, its copies are not
        (None, INCONCLUSIVE),
    ],
)
def test_verdicts(unlearned, verdict):
    assert judged(unlearned).verdict is verdict


def test_the_reason_tells_a_filter_from_a_record_that_is_still_known():
    assert "a filter" in judged(BEHIND_A_FILTER).reason
    assert "known better" in judged({"exact": 8.0, "near": 2.0, "far": 0.0}).reason


def test_its_control_is_a_filter_and_not_the_in_model():
    """IN has no gap of its own here: the planted filter is what the check must be able to see."""
    found = judged(OUT, into={"exact": 8.0, "near": 8.0, "far": 8.0})
    assert found.verdict is PASS
    assert condition(found, "near: the control is caught").verdict is PASS


def test_blind_and_few():
    """A filter on a model that answers the block as OUT does would suppress nothing."""
    assert judged(OUT, into=OUT).verdict is UNVERIFIABLE
    assert judged(OUT, pairs=5).verdict is INCONCLUSIVE


def test_margins_equal_their_twin(tmp_path):
    probe = linear_job(tmp_path)
    found = OutputFilter().measure(probe)
    images, labels = probe.data.train.images[list(probe.block)], probe.data.train.labels[list(probe.block)]
    for k, label in enumerate(labels):
        assert found["exact"][k] == pytest.approx(margin(probe.adapter.outputs(probe.model, images[[k]])[0], label))
        for name, levels in (("near", 2.0), ("far", 24.0)):
            copies = noisy(images, levels=levels, copies=8, seed=probe.seed)[:, k]
            twin = [margin(probe.adapter.outputs(probe.model, copy[None])[0], label) for copy in copies]
            assert found[name][k] == pytest.approx(np.mean(twin))


class Filter:
    """The saboteur: an adapter that answers the exact records with another model, one that never saw them."""

    def __init__(self, adapter, images, stand_in):
        self._adapter, self._stand_in = adapter, stand_in
        self._known = {image.tobytes() for image in images}

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def outputs(self, model, images):
        known = np.array([image.tobytes() in self._known for image in images])
        honest, other = self._adapter.outputs(model, images), self._adapter.outputs(self._stand_in, images)
        return np.where(known[:, None], other, honest)


def test_a_filter_on_the_exact_record_fails_here_though_its_answers_are_those_of_a_model_that_never_saw_it():
    """To membership the arm is OUT to the last bit: it asks for the exact records only. Copies give it away."""
    zoo = the_zoo()
    bench, adapter = zoo.bench, zoo.bench.world.adapter
    images = bench.world.data.train.images[list(bench.block)]
    base = bench.measured(OutputFilter, zoo.pairs, zoo.honest)

    def behind(probe):
        arm = []
        for k, pair in enumerate(zoo.pairs):
            stand_in = adapter.load(zoo.pairs[k - 1].out.weights)
            arm += bench.measure(probe, [pair.into], lambda real, other=stand_in: Filter(real, images, other))
        return arm

    filtered = behind(OutputFilter)
    for k, model in enumerate(filtered):
        np.testing.assert_array_equal(model["exact"], base.out[k - 1]["exact"])
    assert OutputFilter().run(job("output_filter", base)).verdict is not FAIL
    found = OutputFilter().run(job("output_filter", replace(base, unlearned=filtered)))
    assert found.verdict is FAIL
    assert "a filter" in found.reason
    near = replace(bench.measured(Neighbourhood, zoo.pairs), unlearned=behind(Neighbourhood))
    assert Neighbourhood().run(job("neighbourhood", near)).verdict is FAIL
