"""A throw-away workspace in which a cheating owner may do anything, and the readers who must not be fooled by it.

It is made of embedded digits with keys of its own, because the cheats act out whole cases down to the certificate. Its
certificates cite what this self-test has found so far, and are thrown away with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.core.codec import decode, loads
from expunge.core.errors import ExpungeError
from expunge.core.policy import Policy
from expunge.core.sabotage import Attempt, SabotagedProcess
from expunge.core.selftest import REQUIRED_METHODS, REQUIRED_PROCESSES, SelftestReport, SelftestRule, Tally
from expunge.evidence.bundle import read_bundle
from expunge.evidence.commitment import Opening
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.keys import read_roots
from expunge.evidence.manifest import RecordOpening
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import parse_statement
from expunge.evidence.verify import Expectation, verify_bundle
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.training.recipe import Recipe, load_recipe, parse_recipe
from expunge.workflow.policy import DEFAULT, read_policy
from expunge.workflow.recompute import recompute
from expunge.workflow.selftest.gate import Vouched, latest, record, subject_of
from expunge.workflow.workspace import Workspace

EPOCHS = 2
RECORDS = ("train/7/0007", "train/0/0000", "train/1/0001")
DELETED = "train/2/0002"
RECEIPT = "requester.json"
PENDING = "its turn has not come"
BROKEN = "not tried: the honest control was refused"
_LONGEST = 300  # characters of an objection that a report repeats


class StageRule(SelftestRule):
    """The relying party's rule on the stage, where the processes are still being tried: it waits for those alone.

    A certificate that leaves the stage is judged by SelftestRule, which does not wait.
    """

    def owed(self, report: SelftestReport) -> tuple[str, ...]:
        """Without those whose turn has not come."""
        come = tuple(tally for tally in report.tallies if tally.skipped != PENDING)
        return super().owed(replace(report, tallies=come))


class StageWorkspace(Workspace):
    """Vouched for by the self-test that is under way, as far as it has come."""

    report: SelftestReport

    def vouched(self) -> Vouched:
        """What was found so far, recorded in the stage's own log."""
        subject = subject_of(self)
        mine = replace(self.report, policy=subject.policy, bank=subject.bank, expunge=subject.expunge)
        found = latest(self)
        return found if found is not None and found.report == mine else record(self, mine)


class Stage:
    """One scene. `folder` is the owner's; roots and policy were copied by the relying party before the owner began."""

    records = RECORDS

    def __init__(self, folder: Path, outside: Path, report: SelftestReport) -> None:
        self.folder, self._outside, self._report = folder, outside, report
        self.requester = folder / RECEIPT
        self.certified = next((folder / "cases").glob("*/certificate.zip"))
        outside.mkdir(parents=True)
        for name in ("roots.json", "policy.yaml"):
            shutil.copyfile(folder / name, outside / name)

    @contextmanager
    def workspace(self) -> Iterator[Any]:
        """The owner's own Python API."""
        workspace = StageWorkspace(self.folder)
        workspace.report = self._report
        try:
            yield workspace
        finally:
            workspace.close()

    def verify(
        self, bundle: Path | bytes, *, model: str | None = None, receipt: Path | None = None, **stricter: float
    ) -> str | None:
        """The relying party, with its own copy of roots and policy."""
        policy = read_policy(self._outside / "policy.yaml")
        checked = verify_bundle(
            bundle,
            roots=read_roots(self._outside / "roots.json"),
            policy=_with(policy, stricter),
            expect=_expected(model, receipt),
        )
        failed = [step for step in checked.steps if step.status == "failed"]
        return None if checked.ok else f"step {failed[0].number}: {failed[0].reason}"

    def recompute(self, bundle: Path, package: Path) -> str | None:
        """A second key holder with the embedded data."""
        key, out = self._outside / "second.pem", self._outside / "cosignature.json"
        if not key.exists():
            FileSigner.create(key)
        try:
            recompute(bundle, package, data=None, key=f"file:{key}", by="second holder", out=out)
        except ExpungeError as refused:
            return refused.message
        return None

    def sentence(self, bundle: Path) -> str:
        """Read from the statement."""
        return parse_statement(payload_of(read_bundle(bundle).json("certificate.json"))).predicate.sentence

    def sign(self, payload: bytes) -> Any:
        """Both of the owner's keys."""
        with self.workspace() as owner:
            return sign_envelope(payload, [owner.signer("operator"), owner.signer("verifier")])


def _with(policy: Policy, stricter: Mapping[str, float]) -> Policy:
    rule = policy.selftest
    waiting = StageRule(**{item.name: getattr(rule, item.name) for item in fields(rule)})
    return replace(policy, limits=replace(policy.limits, **stricter), selftest=waiting)  # type: ignore[arg-type]


def _expected(model: str | None, receipt: Path | None) -> Expectation:
    if receipt is None:
        return Expectation(model=model)
    plain = loads(receipt.read_bytes(), what="receipt")
    return Expectation(
        model=model,
        opening=decode(Opening, plain["opening"], what="receipt"),
        records=decode(tuple[RecordOpening, ...], plain["records"], what="receipt"),
    )


def processes() -> tuple[str, ...]:
    """Names of the saboteurs that are processes."""
    loaded = {name: registry.load("saboteurs", name) for name in registry.names("saboteurs")}
    return tuple(name for name, plugin in loaded.items() if isinstance(plugin(), SabotagedProcess))


def try_processes(folder: Path, report: SelftestReport, advance: Callable[[str], None]) -> dict[str, Attempt]:
    """Every sabotaged process in a fresh copy of one prepared stage."""
    whole = replace(report, kind="classifier", tallies=(*report.tallies, *_pending(report)))
    master = prepared_stage(folder / "stage", whole)
    attempts = {}
    for name in processes():
        advance(name)
        copy = Path(shutil.copytree(master, folder / name))
        attempts[name] = registry.load("saboteurs", name)().attempt(Stage(copy, folder / f"{name}-outside", whole))
        shutil.rmtree(copy)
    return attempts


def prepared_stage(folder: Path, report: SelftestReport) -> Path:
    """A trained workspace in which one record was deleted honestly."""
    config = {"data": {"source": "digits"}, "compute": {"engine": "inline://"}, "owner": {"name": "stage"}}
    with Workspace.create(folder, config=config, recipe=stage_recipe(), policy=DEFAULT) as workspace:
        workspace.train()
    stage = StageWorkspace(folder)
    stage.report = report
    with stage:
        case = stage.request(ids=[DELETED])
        shutil.copyfile(case.receipt, folder / RECEIPT)
        stage.run(case, ["retrain"])
    return folder


def stage_recipe() -> Recipe:
    """Few epochs, and every record in the first of them.

    The last step of a training has the learning rate 0: a record that enters in the last epoch and falls into its last
    batch (one in a hundred here) leaves no trace at all, so that its retraining is the original and no deletion.
    """
    return parse_recipe({**load_recipe("digits").model_dump(), "epochs": EPOCHS, "introduce": (0.0,)})


def _pending(report: SelftestReport) -> list[Tally]:
    """The saboteurs whose turn has not come, named as such in certificates that never leave the stage."""
    done = {tally.saboteur for tally in report.tallies}
    names = sorted({*REQUIRED_METHODS, *REQUIRED_PROCESSES} - done)
    return [process_tally(name, None, PENDING) for name in names]


def process_tally(name: str, attempt: Attempt | None, skipped: str = "") -> Tally:
    """The count of one process. Where the honest control was refused and so was the cheat, nothing was tried: whatever
    refuses everybody catches nobody. A cheat that was believed counts, whatever became of its control."""
    expected = () if attempt is None else registry.load("saboteurs", name)().caught_by
    if attempt is not None and not (attempt.control or attempt.accepted):
        skipped = f"{BROKEN}: {attempt.objection}"[:_LONGEST]
        attempt = None
    tried, certified = int(attempt is not None), int(attempt is not None and attempt.accepted)
    return Tally(
        saboteur=name,
        kind="process",
        expected=expected,
        tried=tried,
        certified=certified,
        undecided=0,
        caught={} if attempt is None or attempt.accepted else {attempt.by: 1},
        lower=share_at_least(certified, tried) if tried else None,
        upper=share_at_most(certified, tried) if tried else None,
        skipped=skipped,
    )
