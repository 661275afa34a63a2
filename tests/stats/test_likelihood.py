"""The floor the attacks stand on: spans that change nothing, bounded memory, densities by scipy."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from attacks.test_lira import attack_job
from expunge.core import registry
from expunge.core.errors import CheckBroken
from expunge.core.protocols import AttackJob
from expunge.stats import likelihood
from expunge.stats.likelihood import Side, logit_scaled, normal_log_density, pooled_variance, spans, student_log_density

ATTACKS = registry.names("attacks")


@pytest.mark.parametrize("name", ATTACKS)
def test_a_span_of_one_record_gives_the_same_scores(name, monkeypatch):
    job = attack_job()
    whole = registry.load("attacks", name)().score(job).values
    monkeypatch.setattr(likelihood, "_CELLS", 1)
    assert registry.load("attacks", name)().score(job).values == pytest.approx(whole, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", ATTACKS)
def test_memory_stays_below_the_references_own_size(name, tmp_path):
    """100,000 records by 64 models, float32 in a memory map: 25.6 MB that are never copied whole."""
    rng, records, models = np.random.default_rng(0), 100_000, 64
    reference = np.memmap(tmp_path / "reference", np.float32, "w+", shape=(models, records))
    reference[:] = -rng.random((models, 1)) - rng.random(records)
    member = np.broadcast_to((np.arange(models) % 2 == 0)[:, None], (models, records))
    few = np.asarray(-0.5 - rng.random((models, 100)), np.float32)
    job = AttackJob(
        target=reference[:1], reference=reference, member=member, target_population=few[:1], reference_population=few
    )
    attack = registry.load("attacks", name)()
    tracemalloc.start()
    values = attack.score(job).values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(values).all()
    assert peak < reference.nbytes


@pytest.mark.parametrize(("columns", "rows"), [(0, 5), (1, 1), (10**6, 64), (7, 10**9)])
def test_spans_cover_every_column_once(columns, rows):
    found = list(spans(columns, rows))
    assert [i for span in found for i in (span.start, span.stop)] == sorted(
        i for span in found for i in (span.start, span.stop)
    )
    assert sum(span.stop - span.start for span in found) == columns
    assert all((span.stop - span.start) * rows <= max(2**18, rows) for span in found)


def test_logit_scaling_is_exact_near_both_ends():
    log_p = np.array([[-1e-3, -0.5, -20.0, -49.0]])
    exact = [float(np.log(np.exp(np.longdouble(x)) / -np.expm1(np.longdouble(x)))) for x in log_p[0]]
    assert logit_scaled("x", log_p, (1, 4))[0] == pytest.approx(exact, rel=1e-12)
    clipped = logit_scaled("x", np.array([[0.0, -1e-6, -50.0, -1e4]]), (1, 4))[0]
    assert clipped[0] == clipped[1] == pytest.approx(13.8155, abs=1e-3)
    assert clipped[2] == clipped[3] == pytest.approx(-50)


def test_densities_are_those_of_scipy():
    x, mean, variance = np.array([-3.0, 0.2, 9.0]), np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.0, 4.0])
    freedom = np.array([1.0, 3.0, 40.0])
    student = stats.t.logpdf(x, freedom, mean, np.sqrt(variance))
    assert student_log_density(x, mean, variance, freedom) == pytest.approx(student)
    normal = stats.norm.logpdf(x, mean, np.sqrt(variance)) + 0.5 * np.log(2 * np.pi)
    assert normal_log_density(x, mean, variance) == pytest.approx(normal)


def test_pooled_variance_counts_what_every_mean_cost():
    rng = np.random.default_rng(0)
    groups = [rng.normal(0, 2, n) for n in (2, 5, 9)]
    sides = [
        Side(count=np.array([float(g.size)]), mean=np.array([g.mean()]), square=np.array([((g - g.mean()) ** 2).sum()]))
        for g in groups
    ]
    wanted = sum(((g - g.mean()) ** 2).sum() for g in groups) / (16 - 3)
    assert pooled_variance(*sides) == pytest.approx(wanted)
    assert pooled_variance(Side(count=np.ones(3), mean=np.zeros(3), square=np.zeros(3))) == 1e-6


def test_a_bad_value_in_the_last_span_is_found(monkeypatch):
    monkeypatch.setattr(likelihood, "_CELLS", 9)
    job = attack_job()
    reference = job.reference.copy()
    reference[-1, -1] = np.nan
    for name in ATTACKS:
        with pytest.raises(CheckBroken, match="NaN"):
            registry.load("attacks", name)().score(dataclasses.replace(job, reference=reference))
