import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.test_lira import attack_job
from expunge.attacks.rmia import Rmia
from expunge.core.errors import CheckBroken
from expunge.core.protocols import Attack
from oracle import naive


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([1.0, 0.3, 0.0]))
def test_rmia_is_its_definition(seed, gamma, a):
    job = attack_job(seed)
    found = Rmia(gamma=gamma, offline_a=a).score(job)
    assert isinstance(Rmia(), Attack)
    assert found.values == pytest.approx(naive.rmia(job, gamma, a), abs=1e-12)


def test_lookups_are_the_definition_at_scale():
    """Sorting and counting must not change the score: 5,000 records against 2,000 unseen ones."""
    rng = np.random.default_rng(0)
    reference = np.log(rng.random((8, 5000)))
    member = rng.random((8, 5000)) < 0.5
    member[0], member[1] = True, False
    job = dataclasses.replace(
        attack_job(),
        target=np.log(rng.random((1, 5000))), reference=reference, member=member,
        target_population=np.log(rng.random((1, 2000))), reference_population=np.log(rng.random((8, 2000))),
    )  # fmt: skip
    out_mean = (np.exp(reference) * ~member).sum(0) / (~member).sum(0)
    ratio_x = np.exp(job.target[0]) / out_mean
    ratio_z = np.exp(job.target_population[0]) / np.exp(job.reference_population).mean(0)
    table = (ratio_x[:, None] / ratio_z[None, :] >= 1).mean(axis=1)
    assert np.abs(Rmia().score(job).values[0] - table).max() <= 1e-12


def test_every_reference_of_the_population_counts_and_no_missing_one_enters_as_zero():
    """The faults seen elsewhere: only the largest half of the references of z is averaged; absent OUT models are 0."""
    job = attack_job(models=8)
    population = np.log(np.tile(np.array([[0.9], [0.1]]), (4, 40)))
    job = dataclasses.replace(job, reference_population=population, target_population=np.log(np.full((3, 40), 0.5)))
    member = np.ones((8, 6), bool)
    member[0] = False
    job = dataclasses.replace(job, member=member, reference=np.log(np.full((8, 6), 0.4)))
    above, below = np.log(np.full((3, 6), 0.41)), np.log(np.full((3, 6), 0.39))
    assert (Rmia().score(dataclasses.replace(job, target=above)).values == 1.0).all()
    assert (Rmia().score(dataclasses.replace(job, target=below)).values == 0.0).all()


def test_tiny_probabilities_stay_finite():
    job = attack_job()
    job = dataclasses.replace(job, reference=job.reference - 900, target=job.target - 900)
    values = Rmia().score(job).values
    assert np.isfinite(values).all()
    assert 0 <= values.min() <= values.max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member": np.ones((9, 6), bool)}, "no OUT reference"),
        ({"target_population": np.full((3, 5), -1.0), "reference_population": np.full((9, 5), -1.0)}, "never-trained"),
        ({"target_population": np.full((2, 40), -1.0)}, "shape"),
        ({"reference_population": np.full((9, 39), -1.0)}, "shape"),
        ({"reference_population": np.full((9, 40), np.inf)}, "NaN or infinity"),
        ({"target": np.full((3, 6), 0.5)}, "above 0"),
    ],
)
def test_degenerate_references_break_the_check(change, message):
    with pytest.raises(CheckBroken, match=message):
        Rmia().score(dataclasses.replace(attack_job(), **change))
