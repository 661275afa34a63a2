import numpy as np
import pytest

from expunge.checks.neighbours import Neighbours
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import Measured
from oracle.probes import condition, job, linear_job, margin, replace

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE


def arm(rng, count, support, own=10.0, counts=(40.0, 40.0)):
    return [
        {
            "support": support + rng.standard_normal(2),
            "own": np.array([own, 4.0]) + rng.standard_normal(2),
            "counts": np.array(counts),
        }
        for _ in range(count)
    ]


def judged(unlearned, *, pairs=48, gap=6.0, own=10.0, counts=(40.0, 40.0)):
    rng = np.random.default_rng(0)
    out, into = arm(rng, pairs, 0.0, counts=counts), arm(rng, pairs, gap, counts=counts)
    if unlearned == "no-op":
        x = [dict(model) for model in into]
    else:
        x = None if unlearned is None else arm(rng, pairs, unlearned, own, counts)
    return Neighbours().run(job("neighbours", Measured(out=out, into=into, unlearned=x)))


@pytest.mark.parametrize(
    ("unlearned", "verdict"), [(0.0, PASS), ("no-op", FAIL), (3.0, FAIL), (-4.0, FAIL), (None, INCONCLUSIVE)]
)
def test_verdicts(unlearned, verdict):
    assert judged(unlearned).verdict is verdict


def test_damage_to_neighbours_fails_although_no_support_remains():
    found = judged(0.0, own=4.0)
    assert found.verdict is FAIL
    assert "lost their own labels" in found.reason
    assert condition(found, "support").verdict is PASS
    assert judged(0.0, own=16.0).verdict is FAIL


def test_blind_and_few():
    assert judged(0.0, gap=0.0).verdict is UNVERIFIABLE
    assert judged(0.0, pairs=5).verdict is INCONCLUSIVE


def test_halves_that_hold_every_neighbour_break_it():
    with pytest.raises(CheckBroken, match="every neighbour"):
        judged(0.0, counts=(80.0, 0.0))


def test_means_equal_their_twin(tmp_path):
    probe = linear_job(tmp_path)
    found = Neighbours().measure(probe)
    owned = set(probe.fit.universe) - set(probe.fit.absent)
    train = probe.data.train
    sides = {True: [], False: []}
    for slot in probe.neighbours:
        image = train.images[slot].astype(float)
        closest = min(probe.block, key=lambda s: np.linalg.norm(image - train.images[s]))
        log_p = probe.adapter.outputs(probe.model, train.images[[slot]])[0]
        sides[slot in owned].append((margin(log_p, train.labels[closest]), margin(log_p, train.labels[slot])))
    for k, inside in enumerate((True, False)):
        support, own = np.mean(sides[inside], axis=0)
        assert found["support"][k] == pytest.approx(support)
        assert found["own"][k] == pytest.approx(own)
        assert found["counts"][k] == len(sides[inside])


def test_a_model_that_trained_on_no_neighbour_is_not_asked(tmp_path):
    probe = linear_job(tmp_path)
    with pytest.raises(CheckBroken, match="none of the block's neighbours"):
        Neighbours().measure(replace(probe, fit=replace(probe.fit, universe=tuple(probe.block))))
    whole = Neighbours().measure(replace(probe, fit=replace(probe.fit, universe=None)))
    assert whole["counts"].tolist() == [10, 0]
