import numpy as np
import pytest
from sklearn.linear_model import Ridge

from expunge.checks.representation import Representation
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.testing.checks import the_zoo
from oracle.probes import job, linear_job, margin, measured, replace

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
OUT, IN = {"label": 0.0, "separable": 0.0}, {"label": 6.0, "separable": 0.5}


def judged(unlearned, *, pairs=48, into=IN):
    found = measured(np.random.default_rng(0), pairs, OUT, into, unlearned)
    return Representation().run(job("representation", found))


@pytest.mark.parametrize(
    ("unlearned", "verdict"),
    [(OUT, PASS), ("no-op", FAIL), ({**OUT, "label": 2.5}, FAIL), ({**OUT, "label": -3.0}, FAIL), (None, INCONCLUSIVE)],
)
def test_verdicts(unlearned, verdict):
    assert judged(unlearned).verdict is verdict


def test_blind_and_few():
    assert judged(OUT, into={"label": 0.0, "separable": 0.0}).verdict is UNVERIFIABLE
    assert judged(OUT, pairs=5).verdict is INCONCLUSIVE


def standardised(probe):
    """Features of block and population in units of the population, by two loops over columns."""
    train, test = probe.data.train, probe.data.test
    mine = probe.adapter.features(probe.model, train.images[list(probe.block)])
    others = probe.adapter.features(probe.model, test.images)
    for column in range(mine.shape[1]):
        centre, scale = others[:, column].mean(), others[:, column].std()
        mine[:, column] = (mine[:, column] - centre) / scale
        others[:, column] = (others[:, column] - centre) / scale
    return mine, others


def test_the_label_probe_equals_scikit_learns_ridge(tmp_path):
    probe = linear_job(tmp_path)
    mine, others = standardised(probe)
    ridge = Ridge(alpha=0.1 * len(others)).fit(others, np.eye(3)[probe.data.test.labels])
    twin = [margin(row, label) for row, label in zip(ridge.predict(mine), probe.data.train.labels, strict=False)]
    np.testing.assert_allclose(Representation().measure(probe)["label"], twin, atol=1e-9)


def test_separability_equals_refitting_without_each_record(tmp_path):
    probe = linear_job(tmp_path)
    mine, others = standardised(probe)
    rows = np.concatenate([mine, others])
    target = np.repeat([1.0, 0.0], [len(mine), len(others)])
    weight = np.repeat([0.5 / len(mine), 0.5 / len(others)], [len(mine), len(others)])
    scores = []
    for left in range(len(rows)):
        rest = np.arange(len(rows)) != left
        ridge = Ridge(alpha=0.1).fit(rows[rest], target[rest], sample_weight=weight[rest])
        scores.append(ridge.predict(rows[[left]])[0])
    wins = [(a > b) + (a == b) / 2 for a in scores[: len(mine)] for b in scores[len(mine) :]]
    assert Representation().measure(probe)["separable"][0] == pytest.approx(np.mean(wins), abs=1e-3)


def test_dead_units_say_nothing_and_too_few_unseen_records_break_it(tmp_path):
    probe = linear_job(tmp_path)
    probe.data.train.images[:, 0] = 9
    probe.data.test.images[:, 0] = 9
    assert np.isfinite(Representation().measure(probe)["label"]).all()
    with pytest.raises(CheckBroken, match="too few population"):
        Representation().measure(replace(probe, population=(0, 1, 2, 3)))


def test_on_real_models_a_no_op_is_caught_and_a_retrain_is_not():
    zoo = the_zoo()
    base = zoo.bench.measured(Representation, zoo.pairs, zoo.honest)
    assert Representation().run(job("representation", base)).verdict is not FAIL
    assert Representation().run(job("representation", replace(base, unlearned=base.into))).verdict is FAIL
