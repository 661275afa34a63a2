"""Attacks that look at the model: what they measure against twins on tiny models, what they score on planted signals."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attacks.test_lira import auc, job_and_truth
from expunge.attacks.curvature import Curvature
from expunge.attacks.gradient_norm import GradientNorm
from expunge.attacks.gradient_ratio import GradientRatio
from expunge.attacks.label_only import LabelOnly
from expunge.core.errors import CheckBroken
from expunge.core.protocols import Attack, HasWhiteBox, ModelAdapter, Probe
from expunge.testing.attacks import probe_pair
from expunge.training.batches import normalise
from oracle import attacks as twins

PROBES = [GradientNorm, GradientRatio, Curvature, LabelOnly]


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """A job on one overfitted MLP: the even slots of the block were trained on, the odd ones were not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield probe_pair(tmp_path_factory.mktemp("probes"))[0]
    torch.set_num_threads(before)


def signal_job(seed=0, **sizes):
    """Logits instead of log-probabilities: a signal of either sign."""
    job, trained = job_and_truth(seed, **sizes)
    names = ("target", "reference", "target_population", "reference_population")
    logits = {name: getattr(job, name) - np.log(-np.expm1(getattr(job, name))) for name in names}
    return dataclasses.replace(job, **logits), trained


def records(job):
    train, test = job.data.train, job.data.test
    return {
        "block": (train.images[list(job.block)], train.labels[list(job.block)]),
        "population": (test.images[list(job.population)], test.labels[list(job.population)]),
    }


@pytest.mark.parametrize("attack", PROBES)
def test_the_score_is_the_gaussian_ratio_of_the_signal_and_linear_in_it(attack):
    job, _ = signal_job()
    assert isinstance(attack(), Attack)
    assert isinstance(attack(), Probe)
    assert attack.requires in (HasWhiteBox, ModelAdapter)
    assert attack().score(job).values == pytest.approx(twins.gaussian_ratio(job))
    at = [attack().score(dataclasses.replace(job, target=np.full((3, 6), x))).values for x in (-100.0, 0.0, 100.0)]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1])


@pytest.mark.parametrize("attack", PROBES)
def test_members_score_higher_and_without_membership_nobody_does(attack):
    job, trained = signal_job(1, models=40, records=200, gap=3.0)
    assert auc(attack().score(job).values, trained) > 0.93
    job, trained = signal_job(2, models=12, records=500, targets=8, gap=0.0)
    inside, outside = trained.sum(), (~trained).sum()
    band = 4 * math.sqrt((inside + outside + 1) / (12 * inside * outside))
    assert abs(auc(attack().score(job).values, trained) - 0.5) < band


@pytest.mark.parametrize("attack", PROBES)
def test_a_signal_that_never_varies_scores_0(attack):
    job, _ = signal_job()
    job = dataclasses.replace(job, target=np.full((3, 6), 2.5), reference=np.full((9, 6), 2.5))
    assert (attack().score(job).values == 0).all()


@pytest.mark.parametrize("attack", PROBES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member": np.ones((9, 6), bool)}, "too few OUT"),
        ({"member": np.zeros((9, 6), bool)}, "too few IN"),
        ({"member": np.zeros((9, 5), bool)}, "shape"),
        ({"reference": np.full((9, 6), np.nan)}, "NaN"),
        ({"target": np.full((3, 6), np.inf)}, "NaN or infinity"),
        ({"target": np.full((3, 5), 1.0)}, "shape"),
    ],
)
def test_degenerate_signals_break_the_check(attack, change, message):
    with pytest.raises(CheckBroken, match=message):
        attack().score(dataclasses.replace(signal_job()[0], **change))


# ------------------------------------------------------------------------------------------------------------ measuring


def one_by_one(job, name):
    """Gradient in all weights, (N, P), one backward pass a record."""
    module, rows = job.model[0], []
    for image, label in zip(*records(job)[name], strict=True):
        loss = F.cross_entropy(module(normalise(torch.from_numpy(image[None]))), torch.tensor([int(label)]))
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))]).numpy())
    return np.stack(rows).astype(np.float64)


def test_gradient_norm_measures_minus_log_norms(looked):
    found = GradientNorm().measure(looked)
    for name in ("block", "population"):
        assert found[name] == pytest.approx(-np.log(np.linalg.norm(one_by_one(looked, name), axis=1)), abs=1e-3)


def test_gradient_ratio_measures_lengths_in_the_damped_inverse_moment(looked):
    found = GradientRatio(size=16).measure(looked)
    sketched = {
        name: looked.adapter.gradients(looked.model, *records(looked)[name], project=16, seed=looked.seed)
        for name in ("block", "population")
    }
    block, population = twins.gradient_ratio(*(s.astype(np.float64) for s in sketched.values()), damping=0.1)
    assert found["block"] == pytest.approx(block)
    assert found["population"] == pytest.approx(population)


class Scaled:
    """An adapter whose gradients are a thousandth of the real ones: a model that is sharper on everything."""

    def __init__(self, adapter):
        self.adapter = adapter

    def gradients(self, *arguments, **options):
        return self.adapter.gradients(*arguments, **options) / 1000


def test_gradient_ratio_does_not_take_a_sharper_model_for_a_member(looked):
    sharper = GradientRatio().measure(dataclasses.replace(looked, adapter=Scaled(looked.adapter)))
    plain = GradientRatio().measure(looked)
    for name in ("block", "population"):
        assert sharper[name] == pytest.approx(plain[name], abs=1e-3)


def test_curvature_measures_minus_log_traces(looked):
    """The exact Hessian's trace, which 8 probes estimate within a factor, and in the right order."""
    found = Curvature().measure(looked)["block"][:12]
    module, exact = looked.model[0], []
    for image, label in zip(*(part[:12] for part in records(looked)["block"]), strict=True):
        hessian = torch.autograd.functional.hessian(
            lambda x, k=int(label): F.cross_entropy(module(x), torch.tensor([k])),
            normalise(torch.from_numpy(image[None])),
        )
        exact.append(-math.log(float(torch.trace(hessian.reshape(64, 64)))))
    assert np.abs(found - exact).max() < 1.5
    assert np.corrcoef(found, exact)[0, 1] > 0.9


class Labels:
    """An adapter that answers class 1 where the image's mean is above a threshold, and nothing else of use."""

    family = "labels"

    def __init__(self, threshold):
        self.threshold, self.seen = threshold, []

    def outputs(self, model, images):
        self.seen.append(images)
        above = images.mean(axis=(1, 2, 3)) > self.threshold
        return np.log(np.where(above[:, None], [[0.1, 0.9]], [[0.9, 0.1]])).astype(np.float32)


def test_label_only_counts_right_labels_over_25_views(looked):
    adapter = Labels(1e9)
    job = dataclasses.replace(looked, adapter=adapter)
    found = LabelOnly().measure(job)
    labels = records(looked)["block"][1]
    assert found["block"] == pytest.approx(np.where(labels == 0, math.log(25.5 / 0.5), -math.log(25.5 / 0.5)))
    views = adapter.seen[:25]
    images = records(looked)["block"][0]
    assert np.array_equal(views[0], images)
    assert np.array_equal(views[5], images[:, :, ::-1])
    assert np.array_equal(views[2][:, 1:], images[:, :-1])  # one down, the border repeated
    assert np.array_equal(views[2][:, 0], images[:, 0])
    assert np.array_equal(views[3][:, :, :-1], images[:, :, 1:])  # one to the left
    spreads = np.array([float((view.astype(float) - images).std()) for view in views[10:]]).reshape(3, 5)
    assert spreads.mean(axis=1) == pytest.approx([8, 24, 45], rel=0.15)  # 48, cut at black and white
    assert all(view.dtype == np.uint8 for view in views)


def test_label_only_sees_no_confidence(looked):
    """Defence by clamping: another confidence with the same label measures the same."""

    class Clamped(Labels):
        def outputs(self, model, images):
            return np.where(super().outputs(model, images) > -0.5, -0.69, -0.70).astype(np.float32)

    measured = [LabelOnly().measure(dataclasses.replace(looked, adapter=kind(127.0))) for kind in (Labels, Clamped)]
    assert np.array_equal(measured[0]["block"], measured[1]["block"])
    assert len(set(measured[0]["block"])) > 1


@pytest.mark.parametrize("attack", PROBES)
def test_trained_records_measure_higher_on_one_model(attack, looked):
    found = attack().measure(looked)["block"]
    trained = np.arange(found.size) % 2 == 0
    assert auc(found, trained) > 0.65


@pytest.mark.parametrize("attack", [LabelOnly, Curvature, GradientRatio])
def test_the_seed_is_used(attack, looked):
    first, other = attack().measure(looked), attack().measure(dataclasses.replace(looked, seed=8))
    assert not np.array_equal(first["block"], other["block"])


class Blind:
    """An adapter whose readings are all the same number."""

    def __init__(self, value):
        self.value = value

    def gradients(self, model, images, labels, *, project, seed):
        return np.full((len(labels), project), self.value, np.float32)

    def gradient_norms(self, model, images, labels):
        return np.full(len(labels), self.value, np.float32)

    def curvatures(self, model, images, labels, *, seed):
        return np.full(len(labels), self.value, np.float32)


@pytest.mark.parametrize("attack", [GradientNorm, GradientRatio, Curvature])
def test_a_reading_that_is_no_number_breaks_the_check(attack, looked):
    with pytest.raises(CheckBroken, match="NaN or infinity"):
        attack().measure(dataclasses.replace(looked, adapter=Blind(np.nan)))


@pytest.mark.parametrize("attack", [GradientNorm, Curvature])
def test_a_vanished_reading_is_finite(attack, looked):
    assert attack().measure(dataclasses.replace(looked, adapter=Blind(0.0)))["block"] == pytest.approx(
        12 * math.log(10)
    )


def test_gradient_ratio_needs_gradients_of_unseen_records(looked):
    with pytest.raises(CheckBroken, match="no unseen record has a gradient"):
        GradientRatio().measure(dataclasses.replace(looked, adapter=Blind(0.0)))
    with pytest.raises(CheckBroken, match="too few unseen"):
        GradientRatio().measure(dataclasses.replace(looked, population=tuple(range(19))))
