"""Negative controls: for every law of every suite, a plug-in that breaks it is caught by that law."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import pytest
import torch

from contract.catching import broken, only
from expunge.core import registry
from expunge.core.errors import RegistryError
from expunge.core.finding import Finding, Guarantee, MembershipScores, Verdict
from expunge.core.protocols import HasShards
from expunge.testing import (
    ATTACK_LAWS,
    CHECK_LAWS,
    UNLEARNER_LAWS,
    Nonconforming,
    examine_adapter,
    examine_attack,
    examine_check,
    examine_unlearner,
    unlearners,
)
from expunge.testing.laws import examine, require
from expunge.training.checkpoint import load_tensors, save_tensors

Retrain = registry.load("methods", "retrain")
Finetune = registry.load("methods", "finetune")
Lira = registry.load("attacks", "lira")
GradientNorm = registry.load("attacks", "gradient_norm")
Neighbourhood = registry.load("checks", "neighbourhood")
Utility = registry.load("checks", "utility")
Mlp = registry.load("models", "mlp")


def test_a_law_that_raises_is_broken_and_all_are_reported():
    def first(subject):
        raise KeyError("x")

    def second(subject):
        return "is wrong"

    def third(subject):
        return None

    found = examine((first, second, third), None)
    assert [(item.law, item.why) for item in found] == [("first", "raised KeyError: 'x'"), ("second", "is wrong")]
    with pytest.raises(Nonconforming, match=r"first: raised.*second: is wrong"):
        require("methods", "x", found)
    require("methods", "x", ())


# ------------------------------------------------------------------------------------------------------------ methods


def method(base=Retrain, doc=None, **members):
    """A variant of a method; the card stays unless another is given."""
    return type(base.__name__, (base,), {"__doc__": base.__doc__ if doc is None else doc, **members})


def noop(self, job):
    return job.adapter.fit(replace(job.job, folder=job.target))


def wrong_record(self, job):
    return job.adapter.fit(replace(job.job, folder=job.target, absent=job.job.absent | {40}))


def touching(self, job):
    (job.source / "checkpoints" / "epoch-0001.safetensors").unlink()
    (job.source / "mark").write_text("x")
    return Retrain.unlearn(self, job)


def outside_target(self, job):
    return Retrain.unlearn(self, replace(job, target=job.target.with_name(job.target.name + "-elsewhere")))


def other_digest(self, job):
    return replace(Retrain.unlearn(self, job), digest="sha256:" + "0" * 64)


def last_layer_only(self, job):
    """Retrain, and put the original's first layer back."""
    result = Retrain.unlearn(self, job)
    mine, _ = load_tensors(result.model)
    theirs, _ = load_tensors(job.source / "model.safetensors")
    tensors = {name: theirs[name] if name.startswith("1.") else tensor for name, tensor in mine.items()}
    return replace(result, digest=save_tensors(result.model, tensors), transcript=result.transcript)


def unseeded(self, job):
    result = Retrain.unlearn(self, job)
    tensors, _ = load_tensors(result.model)
    noisy = {name: tensor + 1e-3 * torch.rand_like(tensor) for name, tensor in tensors.items()}
    return replace(result, digest=save_tensors(result.model, noisy))


def reads_forgotten(self, job):
    for slot in job.forget:
        job.job.data.train.images[slot].sum()
    return Retrain.unlearn(self, job)


def reads_everything(self, job):
    np.asarray(job.job.data.train.images).mean()
    return Retrain.unlearn(self, job)


def forgets_the_first(self, job):
    """Right once; on a second request the earlier tombstones are lost."""
    return job.adapter.fit(replace(job.job, folder=job.target, absent=job.forget))


@dataclass
class Thawed:
    epochs: int = 1


@dataclass(frozen=True)
class Demanding:
    epochs: int


METHODS = {
    "card_says_source_aim_needs_cost_and_failure": [method(doc="Trust me. Aims at: EXACT.")],
    "aims_at_a_guarantee": [method(aims_at="EXACT"), method(aims_at=Guarantee.CERTIFIED)],
    "needs_is_a_capability_of_the_family": [method(needs=None)],
    "settings_all_have_defaults": [method(Config=Thawed), method(Config=Demanding), method(Config=None)],
    "refusal_is_a_reason_or_none": [method(refuses=lambda self, job: False), method(refuses=lambda self, job: "")],
    "cost_is_a_finite_share": [
        method(cost=lambda self, job, value=value: value) for value in (-0.1, 1.5, float("nan"), float("inf"), None)
    ],
    "original_is_not_touched": [method(unlearn=touching)],
    "result_is_the_file_it_names": [method(unlearn=outside_target), method(unlearn=other_digest)],
    "weights_change": [method(unlearn=noop)],
    "every_parameter_that_a_retrain_moves_moves": [method(unlearn=last_layer_only), method(unlearn=noop)],
    "same_job_gives_the_same_weights": [method(unlearn=unseeded)],
    "exact_equals_a_retrain": [
        method(unlearn=wrong_record),
        method(unlearn=noop),
        method(Finetune, aims_at=Guarantee.EXACT, doc=Finetune.__doc__.replace("EMPIRICAL", "EXACT")),
    ],
    "exact_deletion_after_deletion": [method(unlearn=forgets_the_first)],
    "forgotten_record_is_never_read": [
        method(unlearn=reads_forgotten),
        method(unlearn=reads_everything),
    ],
}


def test_every_law_of_the_suites_has_a_negative_control():
    assert set(METHODS) == {law.__name__ for law in UNLEARNER_LAWS}
    assert set(ATTACKS) == {law.__name__ for law in ATTACK_LAWS}
    assert set(CHECKS) == {law.__name__ for law in CHECK_LAWS}


@pytest.mark.parametrize(("law", "plugin"), [(law, plugin) for law, plugins in METHODS.items() for plugin in plugins])
def test_method_that_breaks_a_law_is_caught_by_it(law, plugin):
    assert law in broken(examine_unlearner(plugin, laws=only(UNLEARNER_LAWS, law)))


def test_approximate_method_may_read_the_forgotten_if_its_card_says_so():
    honest = Finetune.__doc__ + "\n    It reads the forgotten records."

    def ascend(self, job):
        for slot in job.forget:
            job.job.data.train.images[slot].sum()
        return Finetune.unlearn(self, job)

    assert broken(examine_unlearner(method(Finetune, unlearn=ascend))) == {"forgotten_record_is_never_read"}
    assert broken(examine_unlearner(method(Finetune, doc=honest, unlearn=ascend))) == set()
    exact = method(doc=Retrain.__doc__ + "It reads the forgotten records.", unlearn=reads_forgotten)
    assert broken(examine_unlearner(exact)) == {"forgotten_record_is_never_read"}


def test_method_that_accepts_no_world_is_refused():
    with pytest.raises(RegistryError, match="no tiny world"):
        examine_unlearner(method(refuses=lambda self, job: "never"), family="mlp")


def test_method_that_needs_shards_gets_a_sharded_world():
    sisa = registry.load("methods", "sisa")
    assert sisa.needs is HasShards
    assert broken(unlearners.examine_unlearner(sisa)) == set()


# ------------------------------------------------------------------------------------------------------------ attacks


def attack(score, doc="An attack."):
    return type("Lira", (), {"__doc__": doc, "score": score})


def scored(change):
    """LiRA whose values go through `change(values, job)`."""

    def score(self, job):
        found = Lira().score(job)
        return MembershipScores(attack="lira", values=change(np.asarray(found.values), job), unit="nats")

    return score


def sorts_its_input(self, job):
    found = Lira().score(job)
    job.target.sort(axis=0)
    return found


def unused_mask(values, job):
    return job.target - job.reference.mean(0)


def looking(change):
    """The gradient-norm attack whose measurement goes through `change(measured, job)`."""

    def measure(self, job):
        return change(dict(GradientNorm().measure(job)), job)

    return type("GradientNorm", (GradientNorm,), {"__doc__": "A probe.", "measure": measure})


def of_block(change):
    return looking(lambda found, job: {**found, "block": change(found["block"], job)})


def trains_on(found, job):
    with torch.no_grad():
        next(job.model[0].parameters()).add_(1e-6)
    return found


def backward(found, job):
    pixels = torch.zeros(1, job.adapter.shape[2], *job.adapter.shape[:2])
    job.model[0](pixels).sum().backward()
    return found


def writes_beside_the_weights(found, job):
    (job.weights.parent / "mark").write_text("x")
    return found


class Incapable(GradientNorm):
    """A probe that needs what no family has."""

    requires = int


PROBES = {
    "measures_block_and_population": [
        looking(lambda found, job: {"block": found["block"]}),
        looking(lambda found, job: {**found, "extra": found["block"]}),
        of_block(lambda v, job: v[:, None]),
        of_block(lambda v, job: np.where(v > v.mean(), np.nan, v)),
        Incapable,
    ],
    "seed_alone_decides_the_measurement": [
        of_block(lambda v, job: v + torch.rand(1).numpy()),
        of_block(lambda v, job: v + np.random.default_rng().random()),
    ],
    "measuring_leaves_the_model_alone": [
        looking(trains_on),
        looking(backward),
        looking(writes_beside_the_weights),
        of_block(lambda v, job: v + 0 * torch.rand(1).numpy()),
    ],
    "order_of_the_block_plays_no_part": [
        of_block(lambda v, job: v + np.arange(len(v))),
        looking(lambda found, job: {**found, "population": found["population"] + found["block"][0]}),
    ],
    "members_measure_higher": [of_block(lambda v, job: -v), of_block(lambda v, job: np.cos(1e4 * v))],
}
ATTACKS = {
    "says_what_it_is": [attack(scored(lambda v, j: v), doc="")],
    "scores_carry_their_name_and_unit": [
        attack(lambda self, job: np.asarray(Lira().score(job).values)),
        attack(lambda self, job: replace(Lira().score(job), attack="other")),
        attack(lambda self, job: replace(Lira().score(job), unit="")),
    ],
    "one_finite_score_a_target_and_record": [
        attack(scored(lambda v, j: v.T)),
        attack(scored(lambda v, j: v.mean(1))),
        attack(scored(lambda v, j: np.where(v > v.mean(), np.inf, v))),
        attack(scored(lambda v, j: v - v.mean(0))),
    ],
    "higher_means_member": [attack(scored(lambda v, j: -v)), attack(scored(lambda v, j: 0 * v))],
    "order_of_records_plays_no_part": [attack(scored(lambda v, j: v + np.arange(v.shape[1])))],
    "order_of_models_plays_no_part": [
        attack(scored(lambda v, j: v + np.arange(len(v))[:, None])),
        attack(scored(lambda v, j: v + j.reference[0])),
        attack(scored(lambda v, j: v + j.reference_population[:, :1].mean())),
    ],
    "membership_is_what_moves_the_score": [attack(scored(unused_mask))],
    "inputs_are_not_changed": [attack(sorts_its_input)],
    "same_job_gives_the_same_scores": [
        attack(scored(lambda v, j: v + 1e-6 * np.random.default_rng().standard_normal(v.shape)))
    ],
    **PROBES,
}


@pytest.mark.parametrize(("law", "plugin"), [(law, plugin) for law, plugins in ATTACKS.items() for plugin in plugins])
def test_attack_that_breaks_a_law_is_caught_by_it(law, plugin):
    assert law in broken(examine_attack(plugin, name="gradient_norm" if law in PROBES else "lira"))


# ------------------------------------------------------------------------------------------------------------- checks


def check(change, question="Is it gone?", doc="A check."):
    """The utility check whose finding goes through `change(finding, job)`."""

    def run(self, job):
        return change(replace(Utility().run(job), question=question), job)

    return type("Utility", (), {"__doc__": doc, "question": question, "run": run})


def always(verdict):
    return lambda finding, job: replace(finding, verdict=verdict, n=finding.n or 1)


def spoils(finding, job):
    if job.correctness is not None:
        job.correctness.candidate[0] ^= True
    return finding


def broken_type(finding, job):
    return {"check": "utility", "verdict": "PASS"}


class HasCrossAttention(Protocol):
    """A capability that no classifier has."""

    def attention(self):
        """Maps."""


HasCrossAttention = runtime_checkable(HasCrossAttention)


def probe(change=lambda found, job: found, **members):
    """The neighbourhood check whose measurements go through `change(found, job)`."""

    def measure(self, job):
        return change(dict(Neighbourhood.measure(self, job)), job)

    return type("Neighbourhood", (Neighbourhood,), {"__doc__": "A probe.", "measure": measure, **members})


def trains_the_model(found, job):
    with torch.no_grad():
        next(job.model[0].parameters()).add_(0.1)
    return found


def leaves_a_file(found, job):
    (job.weights.parent / "note").write_text(str(next(CALLS)))
    return found


CALLS = iter(range(10**6))
CHECKS = {
    "asks_one_question": [
        check(lambda f, j: f, question="It is gone."),
        check(lambda f, j: replace(f, question="Another?")),
        check(lambda f, j: f, doc=""),
    ],
    "finding_is_valid_and_named": [
        check(broken_type),
        check(lambda f, j: replace(f, check="membership")),
        check(lambda f, j: replace(f, verdict="PASS")),
        check(lambda f, j: replace(f, details={"x": object()})),
        check(lambda f, j: replace(f, estimate=float("nan"))),
    ],
    "nothing_to_look_at_is_no_pass": [check(always(Verdict.PASS)), check(always(Verdict.FAIL))],
    "garbage_never_passes": [check(always(Verdict.PASS))],
    "honest_candidate_does_not_fail": [check(always(Verdict.FAIL))],
    "verdict_depends_on_the_candidate": [
        check(
            lambda f, j: Finding(
                check="utility", question="Is it gone?", statistic="", verdict=Verdict.INCONCLUSIVE, reason="never"
            )
        )
    ],
    "pass_shows_its_controls": [check(lambda f, j: replace(f, original=None))],
    "same_job_gives_the_same_finding": [check(lambda f, j: replace(f, mde=float(next(CALLS))))],
    "inputs_are_not_changed": [check(spoils)],
    "probe_requires_a_capability": [probe(requires=None), probe(requires=HasCrossAttention)],
    "probe_measures_the_same_of_every_model": [
        probe(lambda found, job: {}),
        probe(lambda found, job: {**found, "flip": np.full(8, np.nan)}),
        probe(lambda found, job: {name: values > 0 for name, values in found.items()}),
        probe(lambda found, job: {name: values[values > 0] for name, values in found.items()}),
        probe(lambda found, job: {**found, job.weights.parent.name: found["noise"]}),
    ],
    "probe_is_a_function_of_its_job": [probe(lambda found, job: {**found, "noise": found["noise"] + next(CALLS)})],
    "probe_changes_nothing": [probe(trains_the_model), probe(leaves_a_file)],
}


@pytest.mark.parametrize(("law", "plugin"), [(law, plugin) for law, plugins in CHECKS.items() for plugin in plugins])
def test_check_that_breaks_a_law_is_caught_by_it(law, plugin):
    assert law in broken(examine_check(plugin, name=plugin.__name__.lower(), laws=only(CHECK_LAWS, law)))


def test_control_an_unchanged_variant_of_each_kind_obeys():
    """The variants above break what they are meant to break, and not their suite's patience."""
    assert broken(examine_unlearner(method())) == set()
    assert broken(examine_attack(attack(scored(lambda v, j: v)), name="lira")) == set()
    assert broken(examine_attack(looking(lambda found, job: found), name="gradient_norm")) == set()
    assert broken(examine_check(check(lambda f, j: f), name="utility")) == set()
    assert broken(examine_adapter(type("Mlp", (Mlp,), {"__doc__": "An MLP."}), name="mlp")) == set()
