import dataclasses

import numpy as np
import pytest

from expunge.attacks.lira import Lira
from expunge.core.errors import CheckBroken
from expunge.core.protocols import Attack, AttackJob
from oracle import naive
from oracle.banks import log_sigmoid


def attack_job(seed=0, *, models=9, records=6, targets=3, population=40, gap=2.0):
    """Targets that are half members of everything, references with unequal counts of IN per record."""
    rng = np.random.default_rng(seed)
    member = rng.random((models, records)) < 0.5
    member[:2], member[2:4] = True, False
    level = rng.normal(0, 2, records)

    def models_of(mask):
        return log_sigmoid(level + gap * mask + rng.standard_normal(mask.shape))

    return AttackJob(
        target=models_of(rng.random((targets, records)) < 0.5),
        reference=models_of(member),
        member=member,
        target_population=log_sigmoid(rng.normal(1, 2, (targets, population))),
        reference_population=log_sigmoid(rng.normal(1, 2, (models, population))),
    )


@pytest.mark.parametrize("variance", ["pooled", "own"])
def test_lira_is_its_definition(variance):
    job = attack_job()
    found = Lira(variance=variance).score(job)
    assert isinstance(Lira(), Attack)
    assert found.values == pytest.approx(naive.lira(job, variance))
    assert found.unit == "nats"


def test_members_score_higher():
    rng = np.random.default_rng(1)
    job = attack_job(models=40, records=50)
    member = np.repeat([[True], [False]], 50, axis=1)
    level = rng.normal(0, 2, 50)
    reference = log_sigmoid(level + 3 * job.member + rng.standard_normal(job.member.shape))
    target = log_sigmoid(level + 3 * member + rng.standard_normal(member.shape))
    job = dataclasses.replace(job, target=target, reference=reference, target_population=job.target_population[:2])
    scores = Lira().score(job).values
    assert (scores[0] > scores[1]).mean() > 0.9


def test_the_score_is_linear_in_the_logit_when_the_variance_is_shared():
    job = attack_job(targets=1)
    logits = np.array([[-2.0], [0.0], [2.0]]) + np.zeros((1, 6))
    target_population = np.repeat(job.target_population, 3, axis=0)
    values = (
        Lira().score(dataclasses.replace(job, target=log_sigmoid(logits), target_population=target_population)).values
    )
    assert values[1] - values[0] == pytest.approx(values[2] - values[1])


def test_probabilities_at_the_edges_stay_finite():
    job = attack_job(targets=2)
    target = np.array([[0.0] * 6, [-1e4] * 6])
    values = Lira().score(dataclasses.replace(job, target=target)).values
    assert np.isfinite(values).all()


@pytest.mark.parametrize("variance", ["pooled", "own"])
def test_a_record_on_which_all_references_agree_informs_nobody(variance):
    job = dataclasses.replace(attack_job(), reference=np.full((9, 6), -1e-9), target=np.full((3, 6), -1e-9))
    assert np.abs(Lira(variance=variance).score(job).values).max() < 1e-9


def test_float32_input_changes_nothing_but_rounding():
    job = attack_job()
    small = dataclasses.replace(job, target=job.target.astype(np.float32), reference=job.reference.astype(np.float32))
    assert Lira().score(small).values == pytest.approx(Lira().score(job).values, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member": np.ones((9, 6), bool)}, "too few OUT"),
        ({"member": np.zeros((9, 6), bool)}, "too few IN"),
        ({"member": np.zeros((9, 5), bool)}, "shape"),
        ({"member": np.full((9, 6), 0.5)}, "mask"),
        ({"reference": np.full((9, 6), np.nan)}, "NaN"),
        ({"reference": np.full((9, 6), 2.0)}, "above 0"),
        ({"reference": np.empty((0, 6)), "member": np.empty((0, 6), bool)}, "too few"),
        ({"target": np.full((3, 5), -0.5)}, "shape"),
    ],
)
def test_degenerate_references_break_the_check(change, message):
    with pytest.raises(CheckBroken, match=message):
        Lira().score(dataclasses.replace(attack_job(), **change))
