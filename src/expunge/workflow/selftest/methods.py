"""Sabotaged methods as candidates: run, judged by the policy at the guarantee they aim at, and thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from expunge.core import registry
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.plan import Plan
from expunge.core.sabotage import SabotagedMethod, serving
from expunge.core.selftest import EDITS, Tally, required
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.training.rng import derive_seed
from expunge.workflow.execute import Executed, discard_run, execute
from expunge.workflow.pipeline import judge
from expunge.workflow.planner import Candidate, make_plan, unjudged_users, unlearn_job
from expunge.workflow.selftest.rehearsal import Rehearsal, Rehearsed

SAME_WEIGHTS = "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One try of one saboteur on one block. `failed` are the checks that failed it; both False and () = undecided."""

    certified: bool
    failed: tuple[str, ...]
    findings: tuple[Finding, ...]


def sabotaged_methods(kind: str = "classifier") -> tuple[str, ...]:
    """Names of the saboteurs of this kind of model that are methods and not placebos."""
    loaded = {name: registry.load("saboteurs", name) for name in registry.names("saboteurs")}
    methods = {name for name, plugin in loaded.items() if isinstance(plugin(), SabotagedMethod) and plugin.caught_by}
    return tuple(name for name in loaded if name in methods and name in required(kind))


def refusal(workspace: Rehearsal, name: str, block: Rehearsed) -> str | None:
    """Why a saboteur cannot be tried here, or None."""
    method = registry.load("saboteurs", name)()
    if not isinstance(workspace.adapter, method.needs):
        return f"not applicable: family {workspace.recipe.family} lacks {method.needs.__name__}"
    if method.aims_at.name not in workspace.policy.guarantees:
        return f"not applicable: the policy grants no {method.aims_at.name}"
    unjudged = unjudged_users(workspace) if workspace.policy.kind == "recommender" else None
    if method.aims_at is Guarantee.EMPIRICAL and unjudged is not None:
        return f"not applicable: {unjudged}"
    refused: str | None = method.refuses(unlearn_job(workspace, block.resolution))
    return refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A candidate that ran, and what it takes to judge it."""

    name: str
    method: Any
    plan: Plan
    executed: Executed
    index: int
    seed: str

    @property
    def same(self) -> bool:
        """Whether nothing was done: the weights are the original's."""
        return self.executed.result.digest == self.plan.model.digest


def try_method(workspace: Rehearsal, name: str, block: Rehearsed, draw: int) -> Tried:
    """One method, by its full name, on one block, through execute and judge like any candidate. `draw` separates
    repeated tries."""
    with ran(workspace, name, registry.load(*registry.split_name(name, "methods"))(), block, draw) as run:
        return judged(workspace, block, run)


@contextmanager
def ran(
    workspace: Rehearsal, name: str, method: Any, block: Rehearsed, draw: int, aims_at: Guarantee | None = None
) -> Iterator[Run]:
    """The method's run on a block, thrown away afterwards. `aims_at`: something else than the method's own aim."""
    plan = planned(workspace, name, aims_at or method.aims_at, block)
    seed = derive_seed(workspace.seed, "selftest", block.case.handle, draw)  # so that the bank is asked once
    index = workspace.log.append("plan.committed", {"plan": plan.method}).index
    executed = execute(workspace, block.case, block.resolution, plan, seed, method)
    try:
        yield Run(name=name, method=method, plan=plan, executed=executed, index=index, seed=seed)
    finally:
        discard_run(executed)


def planned(workspace: Rehearsal, name: str, aims_at: Guarantee, block: Rehearsed) -> Plan:
    """The plan of a candidate under this name that aims at a guarantee."""
    banks = workspace.state().banks
    candidate = Candidate(method=name, origin="expunge", aims_at=aims_at, cost=None, refused=None)
    return make_plan(workspace, block.resolution, candidate, attempt=1, reference=banks[-1].digest if banks else "none")


def judged(workspace: Rehearsal, block: Rehearsed, run: Run) -> Tried:
    """What the policy says of it."""
    if run.same:
        return Tried(certified=False, failed=(SAME_WEIGHTS,), findings=())
    with _served_by(workspace, run, block):
        trial = judge(workspace, block.resolution, run.plan, run.executed, run.index, run.seed)
    failed = tuple(finding.check for finding in trial.findings if finding.verdict is Verdict.FAIL)
    return Tried(certified=trial.decision.accepted, failed=failed, findings=trial.findings)


@contextmanager
def _served_by(workspace: Rehearsal, run: Run, block: Rehearsed) -> Iterator[None]:
    """While it is judged, the new file is answered for by whatever the saboteur put in front of it."""
    own = workspace.adapter
    job = unlearn_job(workspace, block.resolution, target=run.executed.folder.name)
    workspace.__dict__["adapter"] = serving(run.name, run.method, own, job)
    try:
        yield
    finally:
        workspace.__dict__["adapter"] = own


def tally(name: str, tried: Sequence[Tried], skipped: str = "") -> Tally:
    """The counts of one saboteur; a cheat against a style by its full name."""
    count, certified = len(tried), sum(item.certified for item in tried)
    caught: dict[str, int] = {}
    for item in tried:
        for check in item.failed:
            caught[check] = caught.get(check, 0) + 1
    return Tally(
        saboteur=name,
        kind="edit" if name.startswith(EDITS) else "method",
        expected=registry.load(*registry.split_name(name, "saboteurs")).caught_by,
        tried=count,
        certified=certified,
        undecided=sum(not item.certified and not item.failed for item in tried),
        caught=dict(sorted(caught.items())),
        lower=share_at_least(certified, count) if count else None,
        upper=share_at_most(certified, count) if count else None,
        skipped="" if count else skipped,
    )
