import numpy as np
import pytest

from expunge.checks.retained_harm import RetainedHarm
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import Measured
from oracle.probes import job, linear_job, margin, replace

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE


def arm(rng, count, trained, untrained=0.5, counts=(100.0, 100.0), sd=0.01):
    return [
        {
            "trained": np.array([trained + sd * rng.standard_normal()]),
            "untrained": np.array([untrained + sd * rng.standard_normal()]),
            "counts": np.array(counts),
        }
        for _ in range(count)
    ]


def judged(unlearned, *, pairs=48, exposed=0.6, untrained=0.5, counts=(100.0, 100.0)):
    rng = np.random.default_rng(0)
    out, into = (arm(rng, pairs, exposed, untrained, counts) for _ in range(2))
    if unlearned == "no-op":
        x = [dict(model) for model in into]
    else:
        x = None if unlearned is None else arm(rng, pairs, unlearned, untrained, counts)
    return RetainedHarm().run(job("retained_harm", Measured(out=out, into=into, unlearned=x)))


@pytest.mark.parametrize(
    ("unlearned", "verdict"),
    [(0.6, PASS), ("no-op", PASS), (0.66, FAIL), (0.9, FAIL), (0.5, FAIL), (None, INCONCLUSIVE)],
)
def test_verdicts(unlearned, verdict):
    """A no-op does no harm; more exposure and damage both fail."""
    assert judged(unlearned).verdict is verdict


def test_reasons_tell_exposure_from_damage():
    assert "more exposed" in judged(0.7).reason
    assert "damaged" in judged(0.5).reason


def test_less_exposed_than_the_original_is_no_fault():
    """Memorising the block exposes others too; an honest retrain is less exposed than IN and equals OUT."""
    rng = np.random.default_rng(1)
    found = Measured(out=arm(rng, 48, 0.58), into=arm(rng, 48, 0.62), unlearned=arm(rng, 48, 0.58))
    assert RetainedHarm().run(job("retained_harm", found)).verdict is PASS


def test_blind_and_few():
    """Training on a record exposes nothing here: then harm has no unit."""
    assert judged(0.5, exposed=0.5).verdict is UNVERIFIABLE
    assert judged(0.6, pairs=5).verdict is INCONCLUSIVE


def test_bank_models_without_both_sides_break_it():
    with pytest.raises(CheckBroken, match="too few records on a side"):
        judged(0.6, counts=(100.0, 3.0))


def test_areas_equal_their_twin(tmp_path):
    probe = linear_job(tmp_path, records=60)
    found = RetainedHarm().measure(probe)
    owned = set(probe.fit.universe) - set(probe.fit.absent)
    train, test = probe.data.train, probe.data.test

    def margins(records, rows):
        return [margin(probe.adapter.outputs(probe.model, records.images[[r]])[0], records.labels[r]) for r in rows]

    unseen = margins(test, probe.population)
    for key, inside in (("trained", True), ("untrained", False)):
        mine = margins(train, [slot for slot in probe.retained if (slot in owned) is inside])
        wins = [(a > b) + (a == b) / 2 for a in mine for b in unseen]
        assert found[key][0] == pytest.approx(np.mean(wins))
    assert found["counts"].sum() == len(probe.retained)


def test_no_score_of_a_retained_record_leaves_the_probe(tmp_path):
    found = RetainedHarm().measure(linear_job(tmp_path, records=60))
    assert {name: array.size for name, array in found.items()} == {"trained": 1, "untrained": 1, "counts": 2}


def test_a_full_size_model_has_no_untrained_side_and_a_tiny_sample_is_refused(tmp_path):
    probe = linear_job(tmp_path, records=60)
    whole = replace(probe, fit=replace(probe.fit, universe=None))
    assert RetainedHarm().measure(whole)["untrained"][0] == 0.5
    with pytest.raises(CheckBroken, match="too few retained"):
        RetainedHarm().measure(replace(probe, retained=probe.retained[:8]))
