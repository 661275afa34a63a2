import numpy as np
import pytest

from expunge.checks.neighbourhood import Neighbourhood
from expunge.core.finding import Verdict
from expunge.stats.pixels import noisy, shifted
from oracle.probes import job, linear_job, margin, measured, replace

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
OUT, IN = {"noise": 0.0, "shift": 0.0, "flip": 0.0}, {"noise": 7.0, "shift": 3.0, "flip": 0.0}


def judged(unlearned, *, pairs=48, into=IN):
    found = measured(np.random.default_rng(1), pairs, OUT, into, unlearned)
    return Neighbourhood().run(job("neighbourhood", found))


@pytest.mark.parametrize(
    ("unlearned", "verdict"),
    [(OUT, PASS), ("no-op", FAIL), ({**OUT, "noise": 3.0}, FAIL), ({**OUT, "noise": -4.0}, FAIL), (None, INCONCLUSIVE)],
)
def test_verdicts(unlearned, verdict):
    assert judged(unlearned).verdict is verdict


def test_copies_of_one_kind_that_are_still_recognised_fail_it():
    found = judged({**OUT, "shift": 3.0})
    assert found.verdict is FAIL
    assert found.reason.startswith("shift")


def test_blind_and_few():
    assert judged(OUT, into={**IN, "noise": 0.0}).verdict is UNVERIFIABLE
    assert judged(OUT, pairs=5).verdict is INCONCLUSIVE


def test_margins_equal_their_twin(tmp_path):
    probe = linear_job(tmp_path)
    found = Neighbourhood().measure(probe)
    images, labels = probe.data.train.images[list(probe.block)], probe.data.train.labels[list(probe.block)]
    copies = {
        "noise": noisy(images, levels=24.0, copies=8, seed=probe.seed),
        "shift": shifted(images),
        "flip": np.stack([images[:, :, ::-1]]),
    }
    for name, many in copies.items():
        for k, label in enumerate(labels):
            twin = [margin(probe.adapter.outputs(probe.model, copy[[k]])[0], label) for copy in many]
            assert found[name][k] == pytest.approx(np.mean(twin))


def test_the_seed_of_the_job_fixes_the_copies(tmp_path):
    probe = linear_job(tmp_path)
    first, other = Neighbourhood().measure(probe), Neighbourhood().measure(replace(probe, seed=5))
    assert not np.array_equal(first["noise"], other["noise"])
    assert np.array_equal(first["shift"], other["shift"])
