"""The attacks on the logit-scaled confidence of a record: LiRA in its forms, BaVarIA, IAM and quantile regression."""

import dataclasses
import math

import numpy as np
import pytest

from expunge.attacks.bavaria import Bavaria
from expunge.attacks.iam import Iam
from expunge.attacks.lira import Lira
from expunge.attacks.lira_offline import LiraOffline
from expunge.attacks.lira_own import LiraOwn
from expunge.attacks.lira_t import LiraT
from expunge.attacks.quantile import Quantile
from expunge.attacks.rmia import Rmia
from expunge.core.errors import CheckBroken
from expunge.core.protocols import Attack, AttackJob
from oracle import attacks as twins
from oracle import naive
from oracle.banks import log_sigmoid

TWINS = {
    Lira: naive.lira,
    LiraOwn: lambda job: naive.lira(job, "own"),
    LiraOffline: twins.lira_offline,
    LiraT: twins.lira_t,
    Bavaria: twins.bavaria,
    Iam: twins.iam,
    Quantile: twins.quantile,
}
FORMS = list(TWINS)
ONLINE = [Lira, LiraOwn, LiraT, Bavaria, Iam]
LINEAR = [Lira, LiraOffline, Quantile]
TOLERANCE = {Iam: 2e-4, Quantile: 1e-5, Bavaria: 1e-5}


def attack_job(seed=0, *, models=9, records=6, targets=3, population=40, gap=2.0):
    """Targets that are half members of everything, references with unequal counts of IN per record."""
    return job_and_truth(seed, models=models, records=records, targets=targets, population=population, gap=gap)[0]


def job_and_truth(seed=0, *, models=9, records=6, targets=3, population=40, gap=2.0):
    rng = np.random.default_rng(seed)
    member = rng.random((models, records)) < 0.5
    member[:2], member[2:4] = True, False
    level = rng.normal(0, 2, records)

    def models_of(mask):
        return log_sigmoid(level + gap * mask + rng.standard_normal(mask.shape))

    trained, unseen = rng.random((targets, records)) < 0.5, rng.normal(0, 2, population)
    job = AttackJob(
        target=models_of(trained),
        reference=models_of(member),
        member=member,
        target_population=log_sigmoid(unseen + rng.standard_normal((targets, population))),
        reference_population=log_sigmoid(unseen + rng.standard_normal((models, population))),
    )
    return job, trained


def one_record(target, inside, outside, records=1):
    """Every record has these φ of IN and OUT references and of targets; the population is noise."""
    phi = np.r_[inside, outside].astype(float)
    shape = (len(phi), records)
    return dataclasses.replace(
        attack_job(models=len(phi), targets=len(target), records=records),
        target=log_sigmoid(np.repeat(np.array(target, float)[:, None], records, 1)),
        reference=log_sigmoid(np.broadcast_to(phi[:, None], shape)),
        member=np.broadcast_to((np.arange(len(phi)) < len(inside))[:, None], shape),
    )


@pytest.mark.parametrize("attack", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_attack_is_its_definition(attack, seed):
    job = attack_job(seed, records=2, targets=1) if attack is Bavaria else attack_job(seed)
    found = attack().score(job)
    assert isinstance(attack(), Attack)
    assert found.values == pytest.approx(TWINS[attack](job), abs=TOLERANCE.get(attack, 1e-7), rel=1e-6)


@pytest.mark.parametrize(
    ("attack", "score"),
    [
        (Lira, 1.0),  # means 2 and 0, variance 2: (2 − 0)·(2 − 1)/2
        (LiraOwn, 1.0),
        (LiraOffline, math.sqrt(2)),
        (LiraT, math.log(7 / 3)),  # t with 1 degree of freedom and scale² 2·(1 + 1/2)
        (Bavaria, 3 * math.log(1 + 4 / 15)),  # 5 degrees of freedom, scale² (4·2 + 2)/5·(1 + 1/2)
    ],
)
def test_known_score_of_a_target_at_the_mean_of_in(attack, score):
    values = attack().score(one_record([2.0], inside=[1, 3], outside=[-1, 1])).values
    assert values == pytest.approx(np.array([[score]]))


def test_iam_runs_from_generalising_to_fitting():
    values = Iam().score(one_record([-40, 0, 5, 13], inside=[9, 11], outside=[-1, 1])).values[:, 0]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[-1] > 0.98
    assert (np.diff(values) > 0).all()
    assert values[2] == pytest.approx(0.25, abs=0.05)  # half way: Σα up to ½ is a quarter of Σα
    nothing = Iam().score(one_record([0.0], inside=[-1, 1], outside=[-1, 1])).values
    assert nothing == pytest.approx(np.array([[0.5]]))


def test_quantile_finds_the_threshold_that_made_the_population():
    """The target answers 2 logits above the references' mean plus half their SD; nine of ten, two below that."""
    rng = np.random.default_rng(0)
    job = attack_job(population=400, targets=1)
    reference = rng.normal(0, 2, 400) + rng.uniform(0.2, 2, 400) * rng.standard_normal((9, 400))
    above = 2 + reference.mean(0) + 0.5 * reference.std(0, ddof=1)
    target = np.where(np.arange(400) % 10 == 0, above, above - rng.uniform(0.5, 4, 400))
    job = dataclasses.replace(
        job, reference_population=log_sigmoid(reference), target_population=log_sigmoid(target[None])
    )
    refs = twins.groups(job)
    wanted = [
        [x - 2 - np.mean(refs[r][1]) - 0.5 * np.std(refs[r][1], ddof=1) for r, x in enumerate(row)]
        for row in twins.phi_table(job.target)
    ]
    assert Quantile(level=0.95).score(job).values == pytest.approx(np.array(wanted), abs=0.05)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_quantile_fit_loses_no_more_than_the_linear_programme(level):
    from expunge.attacks.quantile import _fit

    rng = np.random.default_rng(2)
    features = np.stack([np.ones(300), rng.normal(0, 2, 300), rng.gamma(2, 1, 300)], 1)
    values = features @ [1, 0.8, -0.3] + features[:, 2] * rng.standard_t(3, 300)
    best = twins.pinball(values - features @ twins.quantile_fit(features, values, level), level)
    mine = twins.pinball(values - features @ _fit(features, values, level), level)
    assert best - 1e-9 <= mine <= best * (1 + 1e-9)


@pytest.mark.parametrize("attack", FORMS)
def test_members_score_higher(attack):
    job, trained = job_and_truth(1, models=40, records=200, gap=3.0)
    assert auc(attack().score(job).values, trained) > 0.93


@pytest.mark.parametrize("attack", [*FORMS, Rmia])
def test_without_membership_the_scores_say_nothing(attack):
    """Negative control: 8 targets, 500 records, no gap. Scores are independent: the AUC is .5 within 4 SE."""
    job, trained = job_and_truth(3, models=12, records=500, targets=8, gap=0.0)
    sizes = trained.sum(), (~trained).sum()
    band = 4 * math.sqrt((sizes[0] + sizes[1] + 1) / (12 * sizes[0] * sizes[1]))
    assert abs(auc(attack().score(job).values, trained) - 0.5) < band


def auc(values, trained):
    inside, outside = values[trained], values[~trained]
    ranks = np.argsort(np.argsort(np.r_[inside, outside])) + 1
    return (ranks[: inside.size].sum() - inside.size * (inside.size + 1) / 2) / (inside.size * outside.size)


def moved(attack, shift):
    """Scores of a target at φ = `shift` on records of unequal spread."""
    job = attack_job(targets=1)
    return attack().score(dataclasses.replace(job, target=log_sigmoid(np.full((1, 6), float(shift))))).values[0]


@pytest.mark.parametrize("attack", LINEAR)
def test_the_score_is_linear_in_the_logit_where_its_card_says_so(attack):
    assert moved(attack, 0) - moved(attack, -3) == pytest.approx(moved(attack, 6) - moved(attack, 3))


@pytest.mark.parametrize("attack", [LiraT, Bavaria, Iam])
def test_the_score_saturates_where_its_card_says_so(attack):
    """20 logits further down, `lira` falls by more than 20 nats; these hardly move."""
    job = one_record([-20, -40], inside=[2, 4, 3, 2], outside=[-1, 1, 0, -2])
    assert np.ptp(Lira().score(job).values) > 20
    assert np.ptp(attack().score(job).values) < 1


def test_with_a_strong_prior_bavaria_has_one_variance_a_side_and_with_none_it_is_lira_t():
    job = attack_job()
    assert Bavaria(prior_observations=1e-9).score(job).values == pytest.approx(LiraT().score(job).values, abs=1e-5)
    job = one_record([0.5, 2.0], inside=[1, 3, 2], outside=[-1, 1, 0], records=4)
    inside, outside = (np.array([0.5, 2.0]) - 2) ** 2, np.array([0.5, 2.0]) ** 2
    gaussian = (outside - inside) / (2 * (1 + 1 / 3))
    found = Bavaria(prior_observations=1e8).score(job).values[:, 0]
    assert found == pytest.approx(gaussian, abs=1e-4)


@pytest.mark.parametrize("attack", FORMS)
def test_probabilities_at_the_edges_stay_finite(attack):
    job = attack_job(targets=2)
    target = np.array([[0.0] * 6, [-1e4] * 6])
    assert np.isfinite(attack().score(dataclasses.replace(job, target=target)).values).all()


@pytest.mark.parametrize("attack", [Lira, LiraOwn, LiraT, Bavaria, LiraOffline])
def test_a_record_on_which_everybody_agrees_informs_nobody(attack):
    job = attack_job(models=8)
    member = np.broadcast_to((np.arange(8) % 2 == 0)[:, None], (8, 6))
    job = dataclasses.replace(job, reference=np.full((8, 6), -1e-9), target=np.full((3, 6), -1e-9), member=member)
    assert np.abs(attack().score(job).values).max() < 1e-9


@pytest.mark.parametrize("attack", [*FORMS, Rmia])
def test_constant_input_is_finite(attack):
    job = attack_job()
    flat = {name: np.full(np.shape(getattr(job, name)), -0.5) for name in ("target", "reference")}
    flat |= {f"{name}_population": np.full(np.shape(getattr(job, f"{name}_population")), -0.5) for name in flat}
    values = attack().score(dataclasses.replace(job, **flat)).values
    assert np.isfinite(values).all()
    assert np.ptp(values) < 2.5  # unequal counts of references are all that tells records apart


@pytest.mark.parametrize("attack", FORMS)
def test_float32_input_changes_nothing_but_rounding(attack):
    job = attack_job()
    small = {f.name: np.asarray(getattr(job, f.name)) for f in dataclasses.fields(job)}
    small = {name: array.astype(np.float32) if array.dtype == float else array for name, array in small.items()}
    found = attack().score(AttackJob(**small)).values
    assert found == pytest.approx(attack().score(job).values, rel=1e-3, abs=1e-3)


BAD = [
    ({"member": np.ones((9, 6), bool)}, "too few OUT"),
    ({"member": np.zeros((9, 5), bool)}, "shape"),
    ({"member": np.zeros(6, bool)}, "shape"),
    ({"member": np.full((9, 6), 0.5)}, "mask"),
    ({"reference": np.full((9, 6), np.nan)}, "NaN"),
    ({"reference": np.full((9, 6), 2.0)}, "above 0"),
    ({"reference": np.empty((0, 6)), "member": np.empty((0, 6), bool)}, "too few"),
    ({"reference": [[-1.0], [-1.0, -2.0]]}, "not a table"),
    ({"target": np.full((3, 5), -0.5)}, "shape"),
    ({"target": np.full((3, 6), np.inf)}, "NaN or infinity"),
    ({"target": np.empty((3, 0)), "reference": np.empty((9, 0)), "member": np.empty((9, 0), bool)}, "no record"),
]


@pytest.mark.parametrize("attack", FORMS)
@pytest.mark.parametrize(("change", "message"), BAD)
def test_degenerate_references_break_the_check(attack, change, message):
    with pytest.raises(CheckBroken, match=message):
        attack().score(dataclasses.replace(attack_job(), **change))


@pytest.mark.parametrize("attack", ONLINE)
def test_an_online_attack_needs_models_that_saw_the_record(attack):
    with pytest.raises(CheckBroken, match="too few IN"):
        attack().score(dataclasses.replace(attack_job(), member=np.zeros((9, 6), bool)))


def test_an_offline_attack_does_not():
    job = dataclasses.replace(attack_job(), member=np.zeros((9, 6), bool))
    for attack in (LiraOffline, Quantile):
        assert np.isfinite(attack().score(job).values).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_population": np.full((3, 5), -1.0), "reference_population": np.full((9, 5), -1.0)}, "too few unseen"),
        ({"target_population": np.full((2, 40), -1.0)}, "shape"),
        ({"reference_population": np.full((9, 39), -1.0)}, "shape"),
        ({"reference_population": np.full((8, 40), -1.0)}, "shape"),
        ({"reference_population": np.full((9, 40), np.inf)}, "NaN or infinity"),
        ({"target_population": np.full((3, 40), 0.5)}, "above 0"),
    ],
)
def test_quantile_needs_a_population(change, message):
    with pytest.raises(CheckBroken, match=message):
        Quantile().score(dataclasses.replace(attack_job(), **change))
