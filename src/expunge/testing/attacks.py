"""What every attack must obey: higher means member, and the order of records, models and population plays no part.

An attack that is a Probe is held to the same laws on a planted signal of any sign, and looks for itself at two tiny
models, each overfitted to the half of the records that the other never saw.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.finding import MembershipScores
from expunge.core.foldin import AnswersHistories
from expunge.core.protocols import AttackJob, Probe, ProbeJob
from expunge.data._interactions import Histories, split_users
from expunge.data._records import ImageRecords
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.testing.users import make_user_world, random_histories, random_interactions
from expunge.testing.world import World, make_world, random_records, tree_digest

_TARGETS, _MODELS, _RECORDS, _POPULATION = 12, 32, 6, 80
_GAP = 3.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An attack, a planted job, which target trained on which record, (T, R) bool, and a folder for tiny models."""

    name: str
    plugin: type
    job: AttackJob
    trained: NDArray[np.bool_]
    folder: Path

    def score(self, job: AttackJob) -> NDArray[np.float64]:
        """Values of a fresh instance on a copy of the job, so that one that spoils its inputs spoils them once."""
        found: MembershipScores = self.plugin().score(copy.deepcopy(job))
        return np.asarray(found.values, np.float64)

    @property
    def looks(self) -> bool:
        """Whether the attack is a Probe."""
        return isinstance(self.plugin(), Probe)

    @cached_property
    def pair(self) -> tuple[ProbeJob, ProbeJob]:
        """Two models, the first of which trained on the even slots of the block and the second on the odd ones."""
        return self.made(self.folder)

    def made(self, folder: Path) -> tuple[ProbeJob, ProbeJob]:
        """Two fresh models of the kind that the attack looks at: of users where it asks histories, of images elsewhere."""
        users = getattr(self.plugin, "requires", None) is AnswersHistories
        return user_pair(folder) if users else probe_pair(folder)

    @cached_property
    def measured(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What the attack measures on the pair."""
        first, second = self.pair
        return self.plugin().measure(first), self.plugin().measure(second)


def planted_job(gap: float = _GAP, seed: int = 0, *, measured: bool = False) -> tuple[AttackJob, NDArray[np.bool_]]:
    """Models whose logit of a record is `gap` SD higher when they trained on it; and the truth about the targets.

    The job holds log-probabilities, or the logits themselves where they stand for a `measured` signal.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    level, unseen = generator.normal(0, 1, _RECORDS), generator.normal(0, 1, _POPULATION)

    def answers(logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return logits if measured else -np.logaddexp(0.0, -logits)

    def seen(member: NDArray[np.bool_]) -> NDArray[np.float64]:
        return answers(level + gap * member + generator.standard_normal(member.shape))

    def not_seen(models: int) -> NDArray[np.float64]:
        return answers(unseen + 0.5 * generator.standard_normal((models, _POPULATION)))

    member = np.zeros((_MODELS, _RECORDS), bool)
    trained = np.zeros((_TARGETS, _RECORDS), bool)
    for record in range(_RECORDS):
        member[generator.permutation(_MODELS)[: _MODELS // 2], record] = True
        trained[generator.permutation(_TARGETS)[: _TARGETS // 2], record] = True
    job = AttackJob(
        target=seen(trained),
        reference=seen(member),
        member=member,
        target_population=not_seen(_TARGETS),
        reference_population=not_seen(_MODELS),
    )
    return job, trained


def probe_pair(folder: Path) -> tuple[ProbeJob, ProbeJob]:
    """Two overfitted MLPs on complementary halves of 48 random images, under a probe with 32 unseen ones."""
    whole = random_records(80, (8, 8, 1), 4)
    data = replace(whole, train=_rows(whole.train, slice(0, 48)), test=_rows(whole.train, slice(48, 80)))
    world = make_world(folder, data=data, epochs=40, introduce=(0.0,))
    halves = [frozenset(range(1, 48, 2)), frozenset(range(0, 48, 2))]
    first, second = (_probe_job(world, data, f"half-{number}", absent) for number, absent in enumerate(halves))
    return first, second


def _rows(records: ImageRecords, rows: slice) -> ImageRecords:
    return ImageRecords(
        ids=records.ids[rows], images=records.images[rows], labels=records.labels[rows], blocks=records.blocks[rows]
    )


def _probe_job(world: World, data: Any, name: str, absent: frozenset[int]) -> ProbeJob:
    fit = world.job(name, absent, keep_checkpoints=False)
    weights = world.adapter.fit(fit).model
    return ProbeJob(
        adapter=world.adapter,
        model=world.adapter.load(weights),
        weights=weights,
        partner=None,
        fit=replace(fit, folder=world.folder / f"scratch-{name}"),
        data=data,
        block=tuple(range(len(data.train))),
        neighbours=(),
        retained=(),
        population=tuple(range(len(data.test))),
        seed=7,
    )


def user_pair(folder: Path) -> tuple[ProbeJob, ProbeJob]:
    """The same with two overfitted autoencoders on complementary halves of 48 random users, and 32 unseen ones."""
    whole = random_histories(80, 30)
    train, test = split_users(whole, range(48, 80))
    settings: dict[str, Any] = {
        "epochs": 40,
        "lr": 0.2,
        "introduce": (0.0,),
        "model": {"hidden": "48", "latent": "24", "dropout": "0"},
    }
    world = make_user_world(
        folder, family="multvae", data=replace(random_interactions(), train=train, test=test), **settings
    )
    halves = [frozenset(range(1, 48, 2)), frozenset(range(0, 48, 2))]
    first, second = (_probe_job(world, world.data, f"half-{number}", absent) for number, absent in enumerate(halves))
    return first, second


def _bytes_of(records: Any) -> bytes:
    if isinstance(records, Histories):
        return records.indptr.tobytes() + records.indices.tobytes() + records.values.tobytes()
    found: bytes = records.images.tobytes()
    return found


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


# ------------------------------------------------------------------------------------------------- attacks that look


def measures_block_and_population(subject: Subject) -> str | None:
    """One finite number a record of the block and of the population, under these two names, and a capability."""
    if not subject.looks:
        return None
    job = subject.pair[0]
    if not isinstance(job.adapter, subject.plugin.requires):  # type: ignore[attr-defined]
        return "the tiny family lacks what `requires` names"
    found = subject.measured[0]
    shapes = {name: np.shape(values) for name, values in found.items()}
    wanted = {"block": (len(job.block),), "population": (len(job.population),)}
    if shapes != wanted:
        return f"measured {shapes}, expected {wanted}"
    finite = all(np.isfinite(np.asarray(values, np.float64)).all() for values in found.values())
    return None if finite else "a measured value is not finite"


def seed_alone_decides_the_measurement(subject: Subject) -> str | None:
    """Measured again with other global generators, the numbers are the same."""
    if not subject.looks:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        again = subject.plugin().measure(subject.pair[0])
    same = all(np.array_equal(values, again[name]) for name, values in subject.measured[0].items())
    return None if same else "two measurements with one seed differ"


def measuring_leaves_the_model_alone(subject: Subject) -> str | None:
    """Weights, buffers, gradients, hooks, files, records, torch's generator and settings are as they were."""
    if not subject.looks:
        return None
    job, _ = subject.made(subject.folder / "untouched")

    def state() -> dict[str, Any]:
        return {
            "weights": [t.numpy().tobytes() for module in job.model for t in module.state_dict().values()],
            "gradients": [(p.grad is None, p.requires_grad) for module in job.model for p in module.parameters()],
            "modes": [layer.training for module in job.model for layer in module.modules()],
            "hooks": [len(layer._forward_hooks) for module in job.model for layer in module.modules()],
            "files": {k: v for k, v in tree_digest(subject.folder).items() if "/scratch-" not in k},
            "records": [_bytes_of(part) for part in (job.data.train, job.data.test)],
            "generator": torch.get_rng_state().numpy().tobytes(),
            "settings": (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()),
        }

    before = state()
    subject.plugin().measure(job)
    changed = [name for name, value in state().items() if value != before[name]]
    return f"changed: {', '.join(changed)}" if changed else None


def order_of_the_block_plays_no_part(subject: Subject) -> str | None:
    """The block turned round gives its measurements turned round, and the population's as they were."""
    if not subject.looks:
        return None
    job = subject.pair[0]
    turned = subject.plugin().measure(replace(job, block=job.block[::-1]))
    straight = subject.measured[0]
    if not np.allclose(turned["block"][::-1], straight["block"], rtol=1e-3, atol=1e-3):
        return "a record's measurement depends on its place in the block"
    same = np.allclose(turned["population"], straight["population"], rtol=1e-3, atol=1e-3)
    return None if same else "the population's measurement depends on the block"


def members_measure_higher(subject: Subject) -> str | None:
    """Of two overfitted models, the one that trained on a record measures higher on it, on average over 48 records."""
    if not subject.looks:
        return None
    even, odd = (np.asarray(found["block"], np.float64) for found in subject.measured)
    contrast = (even - odd) * np.where(np.arange(even.size) % 2, -1.0, 1.0)
    error = float(contrast.std(ddof=1)) / np.sqrt(contrast.size)
    if contrast.mean() > 3 * error:
        return None
    return f"trained on minus not trained on is {contrast.mean():.3g} with a standard error of {error:.3g}"


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
    measures_block_and_population,
    seed_alone_decides_the_measurement,
    measuring_leaves_the_model_alone,
    order_of_the_block_plays_no_part,
    members_measure_higher,
)


def check_attack(name: str) -> None:
    """Hold the registered attack `name` to every law; raises Nonconforming with all that are broken."""
    require("attacks", name, examine_attack(registry.load("attacks", name), name=name))


def examine_attack(plugin: Any, *, name: str = "") -> tuple[Broken, ...]:
    """The broken laws of an attack's class."""
    job, trained = planted_job(measured=hasattr(plugin, "measure"))
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        subject = Subject(
            name=name or plugin.__name__.lower(), plugin=plugin, job=job, trained=trained, folder=Path(folder)
        )
        return examine(ATTACK_LAWS, subject)
