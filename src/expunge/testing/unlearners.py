"""What every unlearner must obey: it touches nothing but its target, and an exact one is a retrain to the last bit."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from expunge.core import registry
from expunge.core.errors import RegistryError
from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasShards, HasSufficientStatistics, HasTranscript, UnlearnJob
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.testing.users import make_user_world
from expunge.testing.world import ForgottenRead, World, make_world, random_records, tree_digest
from expunge.training.checkpoint import load_tensors, weights_identity

CARD = ("Source:", "Aims at:", "Needs:", "Cost:", "Fails when")
READS_FORGOTTEN = "reads the forgotten records"
_FIRST, _SECOND = frozenset({5}), frozenset({11})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A method in a world that it accepts. Runs are made on first use."""

    name: str
    plugin: type
    world: World

    @cached_property
    def original(self) -> FitResult:
        """The run a request comes for."""
        return self.world.fit("original")

    @cached_property
    def reference(self) -> FitResult:
        """Training from scratch without the first forgotten record."""
        return self.world.fit("reference", _FIRST)

    @cached_property
    def candidate(self) -> FitResult:
        """The method's run."""
        return self.run(self.job("candidate"))

    def job(self, target: str) -> UnlearnJob:
        """The first request."""
        assert self.original.digest
        return self.world.unlearn_job(target, _FIRST)

    def run(self, job: UnlearnJob) -> FitResult:
        """A fresh instance of the method on a job."""
        result: FitResult = self.plugin().unlearn(job)
        return result

    @property
    def exact(self) -> bool:
        """Whether the card aims at EXACT."""
        return getattr(self.plugin, "aims_at", None) is Guarantee.EXACT


def card_says_source_aim_needs_cost_and_failure(subject: Subject) -> str | None:
    """A reader of the certificate must find out what the method is and when it fails."""
    missing = [word for word in CARD if word not in (subject.plugin.__doc__ or "")]
    return f"the card lacks {', '.join(missing)}" if missing else has_card(subject.plugin)


def aims_at_a_guarantee(subject: Subject) -> str | None:
    """aims_at is one of the three, and the card names the same one."""
    aims = getattr(subject.plugin, "aims_at", None)
    if not isinstance(aims, Guarantee):
        return f"aims_at is {aims!r}"
    return None if f"Aims at: {aims.name}" in (subject.plugin.__doc__ or "") else f"the card does not say {aims.name}"


def needs_is_a_capability_of_the_family(subject: Subject) -> str | None:
    """The planner matches `needs` against the adapter."""
    needs = getattr(subject.plugin, "needs", None)
    return None if isinstance(needs, type) and isinstance(subject.world.adapter, needs) else f"needs is {needs!r}"


def settings_all_have_defaults(subject: Subject) -> str | None:
    """Config is a frozen dataclass that can be made without arguments, so that a plan can name every parameter."""
    config = getattr(subject.plugin, "Config", None)
    if not dataclasses.is_dataclass(config) or not isinstance(config, type):
        return "Config is not a dataclass"
    config()
    frozen = config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return None if frozen else "Config is not frozen"


def refusal_is_a_reason_or_none(subject: Subject) -> str | None:
    """refuses answers with text or None."""
    answer = subject.plugin().refuses(subject.job("unused"))
    return None if answer is None or (isinstance(answer, str) and answer) else f"refuses gave {answer!r}"


def cost_is_a_finite_share(subject: Subject) -> str | None:
    """cost is a fraction of one retraining: finite and not negative; an exact method costs at most one."""
    cost = subject.plugin().cost(subject.job("unused"))
    if not isinstance(cost, float | int) or not math.isfinite(cost) or cost < 0:
        return f"cost is {cost!r}"
    return f"an exact method costs {cost} retrainings" if subject.exact and cost > 1 else None


def original_is_not_touched(subject: Subject) -> str | None:
    """The served model and its evidence are only read."""
    job = subject.job("touching")
    before = tree_digest(job.source)
    subject.run(job)
    after = tree_digest(job.source)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return f"changed in the original's folder: {', '.join(changed)}" if changed else None


def result_is_the_file_it_names(subject: Subject) -> str | None:
    """The digest is that of the model file, which lies in the target and can be loaded."""
    result, target = subject.candidate, subject.world.folder / "candidate"
    if not result.model.resolve().is_relative_to(target.resolve()):
        return f"{result.model} is not in the target folder"
    if weights_identity(result.model) != result.digest:
        return "the digest is not that of the model file"
    subject.world.adapter.load(result.model)
    return None


def weights_change(subject: Subject) -> str | None:
    """Another digest than the original's: a no-op is not an unlearner."""
    return "the weights are the original's" if subject.candidate.digest == subject.original.digest else None


def every_parameter_that_a_retrain_moves_moves(subject: Subject) -> str | None:
    """No layer keeps what it learned from the record, unless the card says `Moves only`."""
    if "Moves only" in (subject.plugin.__doc__ or ""):
        return None
    before, _ = load_tensors(subject.original.model)
    ideal, _ = load_tensors(subject.reference.model)
    after, _ = load_tensors(subject.candidate.model)
    still = [
        name
        for name, tensor in before.items()
        if not torch.equal(tensor, ideal[name]) and name in after and torch.equal(tensor, after[name])
    ]
    return f"did not move: {', '.join(still)}" if still else None


def same_job_gives_the_same_weights(subject: Subject) -> str | None:
    """All randomness comes from the job's seeds; the caller's global generator plays no part."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        again = subject.run(subject.job("again"))
    return None if again.digest == subject.candidate.digest else "two runs of one job differ"


def exact_equals_a_retrain(subject: Subject) -> str | None:
    """Weights and transcript of an EXACT method are those of a training that never had the record."""
    if not subject.exact:
        return None
    if subject.candidate.digest != subject.reference.digest:
        return "the weights are not those of a retrain"
    mine, theirs = subject.candidate.transcript, subject.reference.transcript
    if theirs is None and mine is None and not isinstance(subject.world.adapter, HasTranscript):
        return None
    if mine is None or theirs is None:
        return "an exact run without a transcript"
    return None if mine.read_bytes() == theirs.read_bytes() else "the transcript is not that of a retrain"


def exact_deletion_after_deletion(subject: Subject) -> str | None:
    """A second request, on top of the first, equals a training without both."""
    if not subject.exact:
        return None
    assert subject.candidate.digest
    both = subject.world.fit("both", _FIRST | _SECOND)
    second = subject.run(subject.world.unlearn_job("second", _SECOND, source="candidate", absent=_FIRST))
    return None if second.digest == both.digest else "deleting twice is not a retrain without both"


def forgotten_record_is_never_read(subject: Subject) -> str | None:
    """The data may already have left the source. Methods that need it, approximate or subtracting, say so on their card."""
    subtracts = subject.plugin.needs is HasSufficientStatistics  # type: ignore[attr-defined]
    if (subtracts or not subject.exact) and READS_FORGOTTEN in (subject.plugin.__doc__ or ""):
        return None
    job = subject.job("guarded")
    guarded = replace(job, job=replace(job.job, data=subject.world.guarded(_FIRST)))
    try:
        result = subject.run(guarded)
    except ForgottenRead as error:
        return str(error)
    return None if result.digest == subject.candidate.digest else "the result depends on pixels of the forgotten record"


UNLEARNER_LAWS: tuple[Law[Subject], ...] = (
    card_says_source_aim_needs_cost_and_failure,
    aims_at_a_guarantee,
    needs_is_a_capability_of_the_family,
    settings_all_have_defaults,
    refusal_is_a_reason_or_none,
    cost_is_a_finite_share,
    original_is_not_touched,
    result_is_the_file_it_names,
    weights_change,
    every_parameter_that_a_retrain_moves_moves,
    same_job_gives_the_same_weights,
    exact_equals_a_retrain,
    exact_deletion_after_deletion,
    forgotten_record_is_never_read,
)


def check_unlearner(name: str, *, family: str | None = None) -> None:
    """Hold the registered method `name` to every law; raises Nonconforming with all that are broken."""
    require("methods", name, examine_unlearner(registry.load("methods", name), name=name, family=family))


def examine_unlearner(
    plugin: type, *, name: str = "", family: str | None = None, laws: Sequence[Law[Subject]] = UNLEARNER_LAWS
) -> tuple[Broken, ...]:
    """The broken laws of a method's class, in the first tiny world that it accepts (one shard, or two)."""
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        subject = _subject(plugin, name or plugin.__name__.lower(), Path(folder), family)
        return examine(laws, subject)


def _subject(plugin: type, name: str, folder: Path, family: str | None) -> Subject:
    needs = getattr(plugin, "needs", object)
    reasons = []
    for candidate in (family,) if family else _families():
        for shards in (1, 2):
            world = _world(folder / f"{candidate}-{shards}", candidate, shards)
            if world is None:
                continue
            subject = Subject(name=name, plugin=plugin, world=world)
            if isinstance(needs, type) and not isinstance(world.adapter, needs):
                reasons.append(f"{candidate} lacks {needs.__name__}")
                continue
            refused = plugin().refuses(subject.job("unused"))
            if not isinstance(refused, str) or not refused:  # an empty refusal is a broken law, not a refusal
                return subject
            reasons.append(refused)
    raise RegistryError(f"methods/{name} accepts no tiny world", got="; ".join(sorted(set(reasons))))


def _families() -> tuple[str, ...]:
    """The fastest first, recommenders last."""
    images = sorted(registry.names("models"), key=lambda name: (name != "mlp", name))
    return (*images, *registry.names("recommenders"))


def _world(folder: Path, family: str, shards: int) -> World | None:
    """Images, or users for a recommender; None where the family knows no shards."""
    if family in registry.names("models"):
        data = None if family == "mlp" else random_records(32, (16, 16, 3), 4)
        return make_world(folder, family=family, data=data, shards=shards)
    if shards == 1:
        return make_user_world(folder, family=family)
    sharded = isinstance(make_user_world(folder, family=family).adapter, HasShards)
    return make_user_world(folder, family=family, shards=shards) if sharded else None
