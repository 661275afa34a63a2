"""Step 5, first half: what every arm answers. Models are asked here, by tasks; checks only read the answers.

Published answers hold scores of single records, so they are discarded as soon as they have been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.finding import Guarantee
from expunge.core.plan import Plan
from expunge.core.protocols import HasWhiteBox, Measured, Spike, Task
from expunge.farm.asked import askable
from expunge.farm.bank import Bank
from expunge.farm.probing import Answers, Probed, ProbePlan, arrays_of, gathered, probes_among, run_probes
from expunge.farm.spikes import DOSES
from expunge.farm.tasks import discard
from expunge.training.rng import derive_seed
from expunge.workflow.planner import LAST

if TYPE_CHECKING:
    from expunge.workflow.execute import Executed
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

POPULATION, RETAINED, NEIGHBOURS = 200, 200, 5
"""Unseen records and retained records a probe is shown, and nearest retained neighbours of each record of the block."""
_LEAST_NEIGHBOURS, _MOST_NEIGHBOURS = 40, 100  # of few, some half-size model would have seen all or none


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmAnswers:
    """`unlearned` is the X arm pair by pair, None where it was not run; `measured` and `unable` as in CheckJob; `peers` are
    full-size models made for this judgement, without the block (`out`) and with it (`in`)."""

    unlearned: Sequence[Mapping[str, Any]] | None
    spikes: tuple[Spike, ...]
    measured: Mapping[str, Measured]
    unable: Mapping[str, str]
    peers: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def measure(
    workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, bank: Bank | None, seed: int
) -> ArmAnswers:
    """Ask the bank, the anchors, the served file and the original; run the X arm where the plan needs one."""
    named = _probes_of(plan)
    able, unable = probes_among(named, workspace.adapter)
    if bank is None:
        return ArmAnswers(unlearned=None, spikes=(), measured={}, unable=unable)
    questions = _questions(workspace, resolution, able, seed)
    unlearned = run_x_arm(workspace, plan, bank, questions)
    peers = _ask_peers(workspace, plan, bank, questions)
    if not able:
        return ArmAnswers(unlearned=unlearned, spikes=_spikes(unlearned), measured={}, unable=unable, peers=peers)
    arms = dict(
        workspace.remembered(("bank", bank.spec.digest, questions), lambda: _ask_bank(workspace, bank, questions))
    )
    if unlearned is not None:
        arms["unlearned"] = [answers["measured"] for answers in unlearned]
    arms |= {f"{side}_anchors": [answers["measured"] for answers in models] for side, models in peers.items()}
    files = _ask_files(workspace, executed, questions)
    measured = gathered(able, arms, files)
    return ArmAnswers(unlearned=unlearned, spikes=_spikes(unlearned), measured=measured, unable=unable, peers=peers)


def _probes_of(plan: Plan) -> list[str]:
    """Every signal and check that the plan names, as `kind/name`."""
    signals = {name for spec in plan.checks for name in spec.signals}
    return [*(f"attacks/{name}" for name in sorted(signals)), *(f"checks/{spec.check}" for spec in plan.checks)]


def run_x_arm(workspace: Workspace, plan: Plan, bank: Bank, questions: ProbePlan) -> list[Mapping[str, Any]] | None:
    """The method on the IN model of every pair; models are discarded at once. None where exactness makes it moot, and for an
    edit of a style, which claims nothing about the works (ADR 19)."""
    exact = plan.aims_at is Guarantee.EXACT
    if exact and not workspace.config.bank.x_arm:
        return None
    if not exact and workspace.policy.kind == "generator":
        return None
    tasks = [
        Task(
            function="expunge.farm.member:unlearn",
            arguments={
                "bank": bank.spec,
                "number": into,
                "plan": questions,
                "method": LAST if exact else plan.method,
                "params": {},  # as `execute` runs it: a plan's parameters are what it pins of the data
                "seed": str(questions.seed),
                "doses": [] if exact else list(DOSES),
            },
            label=f"x {into}",
        )
        for _, into in bank.sides(questions.block)
    ]
    return _asked(workspace, bank, tasks)


def _asked(workspace: Workspace, bank: Bank, tasks: Sequence[Task]) -> list[Mapping[str, Any]]:
    """Answers in the order of the tasks; nothing of them stays on disk."""
    runner = registry.load("executors", workspace.config.compute.executor)()
    try:
        results: list[Mapping[str, Any]] = runner.run(tasks, bank.folder, workspace.compute, workspace.progress)
    finally:
        for task in tasks:
            discard(task, bank.folder)
    return results


def _ask_bank(workspace: Workspace, bank: Bank, questions: ProbePlan) -> dict[str, list[Any]]:
    """OUT and IN models pair by pair, then the anchors that never saw and those that saw the block."""
    sides = bank.sides(questions.block)
    original = str((workspace.root / workspace.served().run / "model.safetensors").resolve())
    saw = bank.inside("anchors")[:, questions.block[0]].tolist() if bank.spec.anchors else []
    asked: list[tuple[str, str, int, int | str]] = [("out", "bank", out, into) for out, into in sides]
    asked += [("into", "bank", into, into) for _, into in sides]
    asked += [("in_anchors" if inside else "out_anchors", "anchors", k, original) for k, inside in enumerate(saw)]
    tasks = [
        Task(
            function="expunge.farm.member:measure",
            arguments={"bank": bank.spec, "kind": kind, "number": number, "partner": partner, "plan": questions},
            label=f"probe {kind} {number}",
        )
        for _, kind, number, partner in asked
    ]
    arms: dict[str, list[Any]] = {"out": [], "into": [], "out_anchors": [], "in_anchors": []}
    for (arm, *_), answers in zip(asked, _asked(workspace, bank, tasks), strict=True):
        arms[arm].append(answers)
    return arms


def _ask_peers(
    workspace: Workspace, plan: Plan, bank: Bank, questions: ProbePlan
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Full-size models on exactly what is retained, `out`, and on what was there before, `in`, half of `bank.anchors` each.

    A recommender's scores move with the number of its users, so that models without a tenth of them are no peers of the
    served one. The seeds follow from the plan's: nobody could choose them. Only where EMPIRICAL is aimed at.
    """
    half = workspace.config.bank.anchors // 2
    if workspace.policy.kind != "recommender" or plan.aims_at is Guarantee.EXACT or not half:
        return {}
    before = frozenset(workspace.served().absent)
    sides = {"out": before | frozenset(questions.block), "in": before}
    tasks = [
        Task(
            function="expunge.farm.member:peer",
            arguments={
                "bank": bank.spec,
                "plan": questions,
                "absent": sorted(absent),
                "seed": derive_seed(str(questions.seed), "peer", side, number),
            },
            label=f"peer {side} {number}",
        )
        for side, absent in sides.items()
        for number in range(half)
    ]
    found = workspace.remembered(("peers", bank.spec.digest, questions), lambda: list(_asked(workspace, bank, tasks)))
    return {"out": found[:half], "in": found[half:]}


def _ask_files(workspace: Workspace, executed: Executed, questions: ProbePlan) -> dict[str, Answers]:
    original = workspace.root / workspace.served().run / "model.safetensors"
    scratch = workspace.root / "store" / "scratch"
    fit = replace(workspace.fit_job(scratch, absent=frozenset(executed.record.absent)), leaves=None)
    return {
        name: run_probes(questions, Probed(adapter=workspace.adapter, weights=weights, partner=original, fit=fit))
        for name, weights in (("candidate", executed.result.model), ("original", original))
    }


def _questions(workspace: Workspace, resolution: Resolution, probes: tuple[str, ...], seed: int) -> ProbePlan:
    """The records every model is shown: the block, its neighbours, and seeded samples of retained and unseen ones."""
    generator = np.random.Generator(np.random.Philox(seed))
    gone = {*resolution.slots, *workspace.book.tombstones}
    retained = np.array([slot for slot, name in enumerate(workspace.book.ids) if name is not None and slot not in gone])
    neighbours = _neighbours(workspace, resolution, retained) if any(p.startswith("checks/") for p in probes) else ()
    others = np.setdiff1d(retained, np.array(neighbours, np.int64))
    return ProbePlan(
        probes=probes,
        block=resolution.slots,
        neighbours=neighbours,
        retained=_sample(others, RETAINED, generator),
        population=_sample(np.array(askable(workspace.data), np.int64), POPULATION, generator),
        seed=seed,
    )


def _sample(rows: NDArray[np.int64], count: int, generator: np.random.Generator) -> tuple[int, ...]:
    return tuple(sorted(int(row) for row in generator.permutation(rows)[:count]))


def _neighbours(workspace: Workspace, resolution: Resolution, retained: NDArray[np.int64]) -> tuple[int, ...]:
    """Nearest retained records of the same label, by the served model's features (pixels where it has none)."""
    labels, place = workspace.data.train.labels, _places(workspace)
    found: set[int] = set()
    each = max(NEIGHBOURS, -(-_LEAST_NEIGHBOURS // len(resolution.slots)))
    for slot in resolution.slots:
        same = retained[labels[retained] == labels[slot]]
        distance = ((place(same) - place(np.array([slot]))) ** 2).sum(1)
        found.update(same[np.argsort(distance, kind="stable")[:each]].tolist())
    return tuple(sorted(found)[:_MOST_NEIGHBOURS])


def _places(workspace: Workspace) -> Any:
    """Slots -> coordinates, float (n, F), computed once for the whole training split."""
    images, adapter = workspace.data.train.images, workspace.adapter
    sees_inside = isinstance(adapter, HasWhiteBox)
    if sees_inside:
        model = adapter.load(workspace.root / workspace.served().run / "model.safetensors")
        coordinates = np.asarray(adapter.features(model, images), np.float64)
    else:
        coordinates = images.reshape(len(images), -1).astype(np.float64)
    return lambda slots: coordinates[slots]


def _spikes(unlearned: Sequence[Mapping[str, Any]] | None) -> tuple[Spike, ...]:
    """Per dose, the spiked models of all pairs."""
    doses = [int(item["dose"]) for item in unlearned[0]["spikes"]] if unlearned else []
    return tuple(
        Spike(
            dose=dose,
            unlearned=_table(unlearned, k, "block"),
            unlearned_population=_table(unlearned, k, "population"),
            measured=_by_probe([answers["spikes"][k]["measured"] for answers in unlearned or ()]),
        )
        for k, dose in enumerate(doses)
    )


def _table(unlearned: Sequence[Mapping[str, Any]] | None, k: int, key: str) -> NDArray[np.float64]:
    return np.array([[float(value) for value in answers["spikes"][k][key]] for answers in unlearned or ()])


def _by_probe(answers: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    arrays = [arrays_of(item) for item in answers]
    return {name: [item[name] for item in arrays] for name in (arrays[0] if arrays else {})}
