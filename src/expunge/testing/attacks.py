"""What every attack must obey: higher means member, and the order of records, models and population plays no part."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.testing.laws import Broken, Law, examine, has_card, require

_TARGETS, _MODELS, _RECORDS, _POPULATION = 12, 32, 6, 80
_GAP = 3.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An attack, a planted job, and which target trained on which record, (T, R) bool."""

    name: str
    plugin: type
    job: AttackJob
    trained: NDArray[np.bool_]

    def score(self, job: AttackJob) -> NDArray[np.float64]:
        """Values of a fresh instance on a copy of the job, so that one that spoils its inputs spoils them once."""
        found: MembershipScores = self.plugin().score(copy.deepcopy(job))
        return np.asarray(found.values, np.float64)


def planted_job(gap: float = _GAP, seed: int = 0) -> tuple[AttackJob, NDArray[np.bool_]]:
    """Models whose logit of a record is `gap` SD higher when they trained on it; and the truth about the targets."""
    generator = np.random.Generator(np.random.Philox(seed))
    level, unseen = generator.normal(0, 1, _RECORDS), generator.normal(0, 1, _POPULATION)

    def log_p(logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return -np.logaddexp(0.0, -logits)

    def answers(member: NDArray[np.bool_]) -> NDArray[np.float64]:
        return log_p(level + gap * member + generator.standard_normal(member.shape))

    member = np.zeros((_MODELS, _RECORDS), bool)
    trained = np.zeros((_TARGETS, _RECORDS), bool)
    for record in range(_RECORDS):
        member[generator.permutation(_MODELS)[: _MODELS // 2], record] = True
        trained[generator.permutation(_TARGETS)[: _TARGETS // 2], record] = True
    job = AttackJob(
        target=answers(trained),
        reference=answers(member),
        member=member,
        target_population=log_p(unseen + 0.5 * generator.standard_normal((_TARGETS, _POPULATION))),
        reference_population=log_p(unseen + 0.5 * generator.standard_normal((_MODELS, _POPULATION))),
    )
    return job, trained


def says_what_it_is(subject: Subject) -> str | None:
    """A docstring that names the paper and the deviations."""
    return has_card(subject.plugin)


def scores_carry_their_name_and_unit(subject: Subject) -> str | None:
    """MembershipScores names the attack as the registry does, and a unit."""
    found = subject.plugin().score(copy.deepcopy(subject.job))
    if not isinstance(found, MembershipScores):
        return f"score returned {type(found).__name__}"
    return None if found.attack == subject.name and found.unit else f"attack {found.attack!r}, unit {found.unit!r}"


def one_finite_score_a_target_and_record(subject: Subject) -> str | None:
    """Shape (T, R), no NaN, no infinity, and the same for a single target."""
    values = subject.score(subject.job)
    if values.shape != (_TARGETS, _RECORDS):
        return f"shape {values.shape}, expected {(_TARGETS, _RECORDS)}"
    if not np.isfinite(values).all():
        return "a score is not finite"
    one = replace(subject.job, target=subject.job.target[:1], target_population=subject.job.target_population[:1])
    return None if np.allclose(subject.score(one), values[:1]) else "a target's scores depend on the other targets"


def higher_means_member(subject: Subject) -> str | None:
    """On a planted gap of 3 SD, members score higher, in every record."""
    values = subject.score(subject.job)
    sides = [(values[mask, r], values[~mask, r]) for r, mask in enumerate(subject.trained.T)]
    auc = float(np.mean([np.mean(i[:, None] > o) + np.mean(i[:, None] == o) / 2 for i, o in sides]))
    return None if auc > 0.8 else f"AUC {auc:.2f} on a planted gap of {_GAP} SD"


def order_of_records_plays_no_part(subject: Subject) -> str | None:
    """Permuting the records permutes the scores."""
    order = np.random.Generator(np.random.Philox(1)).permutation(_RECORDS)
    job = subject.job
    moved = replace(job, target=job.target[:, order], reference=job.reference[:, order], member=job.member[:, order])
    return None if np.allclose(subject.score(moved), subject.score(job)[:, order]) else "scores depend on record order"


def order_of_models_plays_no_part(subject: Subject) -> str | None:
    """Permuting targets permutes the scores; permuting references or the population leaves them."""
    generator = np.random.Generator(np.random.Philox(2))
    job, values = subject.job, subject.score(subject.job)
    t, m, z = (generator.permutation(size) for size in (_TARGETS, _MODELS, _POPULATION))
    targets = replace(job, target=job.target[t], target_population=job.target_population[t])
    models = replace(
        job, reference=job.reference[m], member=job.member[m], reference_population=job.reference_population[m]
    )
    population = replace(
        job, target_population=job.target_population[:, z], reference_population=job.reference_population[:, z]
    )
    if not np.allclose(subject.score(targets), values[t]):
        return "scores depend on the order of targets"
    if not np.allclose(subject.score(models), values):
        return "scores depend on the order of references"
    return None if np.allclose(subject.score(population), values) else "scores depend on the order of the population"


def membership_is_what_moves_the_score(subject: Subject) -> str | None:
    """With the member mask turned round, the scores are other ones: references that saw the record are used as such."""
    turned = subject.score(replace(subject.job, member=~np.asarray(subject.job.member)))
    straight = subject.score(subject.job)
    return "the member mask is not used" if np.allclose(straight, turned) else None


def inputs_are_not_changed(subject: Subject) -> str | None:
    """Arrays are shared by all signals of a check."""
    job = copy.deepcopy(subject.job)
    subject.plugin().score(job)
    changed = [f.name for f in fields(job) if not np.array_equal(getattr(job, f.name), getattr(subject.job, f.name))]
    return f"changed: {', '.join(changed)}" if changed else None


def same_job_gives_the_same_scores(subject: Subject) -> str | None:
    """An attack is a function of its job."""
    first, second = subject.score(subject.job), subject.score(subject.job)
    return None if np.array_equal(first, second) else "two calls differ"


ATTACK_LAWS: tuple[Law[Subject], ...] = (
    says_what_it_is,
    scores_carry_their_name_and_unit,
    one_finite_score_a_target_and_record,
    higher_means_member,
    order_of_records_plays_no_part,
    order_of_models_plays_no_part,
    membership_is_what_moves_the_score,
    inputs_are_not_changed,
    same_job_gives_the_same_scores,
)


def check_attack(name: str) -> None:
    """Hold the registered attack `name` to every law; raises Nonconforming with all that are broken."""
    require("attacks", name, examine_attack(registry.load("attacks", name), name=name))


def examine_attack(plugin: Any, *, name: str = "") -> tuple[Broken, ...]:
    """The broken laws of an attack's class."""
    job, trained = planted_job()
    return examine(ATTACK_LAWS, Subject(name=name or plugin.__name__.lower(), plugin=plugin, job=job, trained=trained))
