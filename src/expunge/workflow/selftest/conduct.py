"""The whole self-test, from blocks to report. What is tried and with which draws is logged before anything runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

import expunge
from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.core.errors import InputError
from expunge.core.finding import Finding, Guarantee
from expunge.core.protocols import HasSufficientStatistics
from expunge.core.sabotage import PREFIX
from expunge.core.selftest import Alarms, Dose, SelftestReport, Tally
from expunge.data._pictures import NOBODYS
from expunge.evidence.commitment import keyed
from expunge.training.rng import seed_number
from expunge.workflow.answers import rows_of
from expunge.workflow.intake import all_cases, closed, select
from expunge.workflow.policy import policy_digest
from expunge.workflow.selftest.edits import EditsTried, try_edits
from expunge.workflow.selftest.gate import Vouched, pseudonyms, record
from expunge.workflow.selftest.methods import Tried, judged, ran, refusal, sabotaged_methods, tally, try_method
from expunge.workflow.selftest.placebos import (
    Judged,
    alarms,
    deployed_alarms,
    doses,
    membership_alarms,
    power_of_canaries,
)
from expunge.workflow.selftest.rehearsal import SMALL, Rehearsal, Rehearsed, rehearsed
from expunge.workflow.selftest.stage import process_tally, try_processes
from expunge.workflow.train import open_bank

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

PLACEBO, EXACT_PLACEBO = PREFIX + "placebo", "retrain"
Name = Literal["quick", "pilot", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is tried. `pairs` bounds the complement pairs that judge saboteurs (None = all of the bank).

    `blocks` surrogate blocks, `tries` per saboteur and block, `placebos` full retrainings, `halves` natural blocks for
    the membership placebo; `pictures` bounds those that are drawn for a probe and seed, None = as many as the workspace's
    battery draws for a case.
    """

    name: str
    pairs: int | None
    blocks: int
    tries: int
    placebos: int
    halves: int
    pictures: int | None = None


SIZES: Mapping[str, Size] = {
    "quick": Size(name="quick", pairs=6, blocks=1, tries=1, placebos=1, halves=2, pictures=10),
    "pilot": Size(name="pilot", pairs=6, blocks=1, tries=1, placebos=2, halves=8),
    "full": Size(name="full", pairs=None, blocks=2, tries=1, placebos=5, halves=64),
}


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the methods left behind, block by block."""

    tried: dict[str, list[Tried]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    placebos: list[tuple[Finding, ...]] = field(default_factory=list)
    exact: list[tuple[Finding, ...]] = field(default_factory=list)
    edits: EditsTried | None = None


def selftest(workspace: Workspace, size: Size) -> Vouched:
    """Try every saboteur and placebo on this workspace, record the report, and log its digest and rates.

    Raises InputError when there is no model, or no block to try anything on.
    """
    workspace.served()
    blocks = surrogates(workspace, size.blocks)
    design = {"size": size, "policy": policy_digest(workspace.policy), "blocks": pseudonyms(workspace, blocks)}
    workspace.log.append("selftest.begun", {"design": digest_of(design)})
    seed = keyed(workspace.secret("selftest"), workspace.log.checkpoint().encode()).hex()[:32]
    small = workspace.served().seconds < SMALL
    with tempfile.TemporaryDirectory(prefix="expunge-selftest-") as folder, _threads(1 if small else None):
        report = _conduct(workspace, size, blocks, Path(folder), seed)
    return record(workspace, report)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Small models answer faster from one thread than from several that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def surrogates(workspace: Workspace, count: int) -> list[str]:
    """Whole blocks to try on: planted ones first, then natural ones in keyed order; never one that a request names. Of a
    text-to-image model artists' works first: nobody's have no style to erase."""
    taken = {slot for case in all_cases(workspace) if not closed(workspace, case) for slot in _slots(workspace, case)}
    taken |= _weightless(workspace)
    book = workspace.book
    present = [block for slot, block in enumerate(book.blocks) if book.ids[slot] is not None and slot not in taken]
    free = sorted(set(present) - {book.blocks[slot] for slot in taken})
    planted = [block for block in workspace.config.bank.monitored if block in free]
    secret = workspace.secret("selftest")
    last = _nobodys(workspace)
    natural = sorted(set(free) - set(planted), key=lambda block: (block in last, keyed(secret, block.encode())))
    chosen = [*planted, *natural][:count]
    if not chosen:
        raise InputError("every block is under a request, or weighs nothing; there is nothing to try the self-test on")
    return chosen


def _nobodys(workspace: Workspace) -> set[str]:
    """Blocks with works of a text-to-image model that are in no artist's style."""
    if workspace.policy.kind != "generator":
        return set()
    styles = zip(workspace.book.blocks, workspace.data.train.styles, strict=True)
    return {block for block, style in styles if style in NOBODYS}


def _weightless(workspace: Workspace) -> set[int]:
    """A recommender's users whose events weigh nothing in it: whatever is done to them, it is not a cheat."""
    if workspace.policy.kind != "recommender":
        return set()
    weights = abs(rows_of(workspace.adapter, workspace.data.train)).sum(1)
    return set(np.flatnonzero(np.asarray(weights).ravel() == 0).tolist())


def _slots(workspace: Workspace, case: object) -> list[int]:
    request = case.private / "request.json"  # type: ignore[attr-defined]
    return select(workspace, case.request()) if request.exists() else []  # type: ignore[attr-defined]


def _conduct(workspace: Workspace, size: Size, blocks: Sequence[str], folder: Path, seed: str) -> SelftestReport:
    scratch = folder / "rehearsal"
    scratch.mkdir()
    rehearsal = Rehearsal(workspace, scratch, seed=seed, pairs=size.pairs, pictures=size.pictures)
    try:
        cases = [rehearsed(rehearsal, scratch / f"block-{k}", block) for k, block in enumerate(blocks)]
        found = _Found()
        for number, case in enumerate(cases):
            _try_all(rehearsal, size, case, number, found)
        report = _report(rehearsal, workspace, size, blocks, cases, found)
    finally:
        rehearsal.close()
    attempts = try_processes(folder, report, lambda name: workspace.progress(f"saboteur {name}", 0, 1))
    rows = [process_tally(name, attempt) for name, attempt in attempts.items()]
    return replace(report, tallies=(*report.tallies, *rows))


def _try_all(rehearsal: Rehearsal, size: Size, case: Rehearsed, number: int, found: _Found) -> None:
    names = sabotaged_methods(rehearsal.policy.kind)
    for done, name in enumerate(names):
        rehearsal.progress("saboteurs", done, len(names))
        why_not = refusal(rehearsal, name, case)
        if why_not is not None:
            found.skipped.setdefault(name, why_not)
            continue
        for draw in range(size.tries):
            found.tried.setdefault(name, []).append(try_method(rehearsal, PREFIX + name, case, draw))
    rehearsal.progress("saboteurs", len(names), len(names))
    share = size.placebos if number == 0 else 0
    if rehearsal.policy.kind != "generator" and refusal(rehearsal, "placebo", case) is None:
        found.placebos += [try_method(rehearsal, PLACEBO, case, k).findings for k in range(share)]
    if rehearsal.policy.kind == "generator":
        _try_edits(rehearsal, case, number, found)
    elif "EXACT" in rehearsal.policy.guarantees:
        found.exact += [try_method(rehearsal, name, case, 0).findings for name in _honest(rehearsal)]


def _try_edits(rehearsal: Rehearsal, case: Rehearsed, number: int, found: _Found) -> None:
    """One honest retraining, as what it is and as the control of the cheats against styles, which are tried on one block."""
    exact = Guarantee.EXACT.name in rehearsal.policy.guarantees
    aims_at = Guarantee.EXACT if exact else Guarantee.EMPIRICAL
    with ran(rehearsal, EXACT_PLACEBO, registry.load("methods", EXACT_PLACEBO)(), case, 0, aims_at) as clean:
        if exact:
            found.exact.append(judged(rehearsal, case, clean).findings)
        if number == 0:
            found.edits = try_edits(rehearsal, case, clean)


def _honest(rehearsal: Rehearsal) -> tuple[str, ...]:
    """Exact methods that no check may refuse."""
    summed = isinstance(rehearsal.adapter, HasSufficientStatistics)
    return (EXACT_PLACEBO, "downdate") if summed else (EXACT_PLACEBO,)


def _report(
    rehearsal: Rehearsal,
    workspace: Workspace,
    size: Size,
    blocks: Sequence[str],
    cases: Sequence[Rehearsed],
    found: _Found,
) -> SelftestReport:
    state = workspace.state()
    bank = open_bank(workspace)
    slots = [
        case.resolution.slots for case in cases if bank is not None and bank.refuses(case.resolution.slots) is None
    ]
    planted = slots[0] if slots and blocks[0] in workspace.config.bank.monitored else None
    power, why = power_of_canaries(rehearsal, bank, planted)
    return SelftestReport(
        size=size.name,
        expunge=expunge.__version__,
        made_at=datetime.now(UTC).replace(microsecond=0),
        policy=policy_digest(workspace.policy),
        recipe=workspace.recipe.digest,
        family=workspace.recipe.family,
        bank=state.banks[-1].digest if state.banks else None,
        pairs=0 if bank is None else min(bank.spec.pairs, size.pairs or bank.spec.pairs),
        anchors=0 if bank is None else bank.spec.anchors,
        blocks=pseudonyms(workspace, blocks),
        kind=workspace.policy.kind,
        tallies=(*_tallies(found, workspace.policy.kind), *(found.edits.tallies if found.edits else ())),
        alarms=(
            *_retrained(rehearsal, found),
            *_left_out(rehearsal, workspace, size, slots),
            *(found.edits.alarms if found.edits else ()),
        ),
        doses=_doses(found),
        canary_power=power,
        canary_reason=why,
        edits=found.edits.trial if found.edits else None,
    )


def _tallies(found: _Found, kind: str) -> tuple[Tally, ...]:
    names = sabotaged_methods(kind)
    return tuple(tally(name, found.tried.get(name, []), found.skipped.get(name, "")) for name in names)


def _retrained(rehearsal: Rehearsal, found: _Found) -> list[Alarms]:
    """Honest retrainings through all checks, counted check by check."""
    rows = []
    signals = rehearsal.policy.attacks
    for source, runs in (("full retrains as EMPIRICAL", found.placebos), ("full retrains as EXACT", found.exact)):
        for check in sorted({finding.check for findings in runs for finding in findings}):
            judged = [
                Judged(verdict=finding.verdict, models=(f"retrain {k}",))
                for k, findings in enumerate(runs)
                for finding in findings
                if finding.check == check
            ]
            rows.append(alarms(check, source, signals, judged))
    return rows


def _left_out(rehearsal: Rehearsal, workspace: Workspace, size: Size, slots: Sequence[Sequence[int]]) -> list[Alarms]:
    whole = open_bank(workspace)
    if whole is None and workspace.policy.kind != "classifier":  # there is no bank to leave anybody out of
        return []
    seed = seed_number(rehearsal.seed)
    natural = _natural(workspace, size.halves, seed)
    return [*deployed_alarms(rehearsal, whole, slots[:1]), membership_alarms(rehearsal, whole, natural, seed)]


def _natural(workspace: Workspace, count: int, seed: int) -> list[list[int]]:
    """Present blocks that the bank can judge, drawn without looking at any score."""
    bank = open_bank(workspace)
    if bank is None:
        return []
    names = sorted({block for slot, block in enumerate(workspace.book.blocks) if workspace.book.ids[slot] is not None})
    order = np.random.Generator(np.random.Philox(seed & 0x7FFFFFFF)).permutation(len(names))
    drawn = [workspace.book.in_block(names[place]) for place in order[: 2 * count]]
    return [slots for slots in drawn if bank.refuses(slots) is None][:count]


def _doses(found: _Found) -> tuple[Dose, ...]:
    return doses(found.placebos[0]) if found.placebos else ()
