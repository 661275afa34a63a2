"""A throw-away workspace in which a cheating owner may do anything, and the readers who must not be fooled by it.

It is made of embedded digits with keys of its own, because the cheats act out whole cases down to the certificate. Its
certificates cite what this self-test has found so far, and are thrown away with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.core.codec import decode, loads
from expunge.core.errors import ExpungeError
from expunge.core.policy import Policy
from expunge.core.sabotage import Attempt, SabotagedProcess
from expunge.core.selftest import REQUIRED_METHODS, REQUIRED_PROCESSES, SelftestReport, Tally
from expunge.evidence.bundle import read_bundle
from expunge.evidence.commitment import Opening
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.keys import read_roots
from expunge.evidence.manifest import RecordOpening
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import parse_statement
from expunge.evidence.verify import Expectation, verify_bundle
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.training.recipe import load_recipe, parse_recipe
from expunge.workflow.policy import DEFAULT, read_policy
from expunge.workflow.recompute import recompute
from expunge.workflow.selftest.gate import Vouched, latest, record, subject_of
from expunge.workflow.workspace import Workspace

EPOCHS = 2
RECORDS = ("train/7/0007", "train/0/0000", "train/1/0001")
DELETED = "train/2/0002"
RECEIPT = "requester.json"
BROKEN = "the scene does not work: its honest twin was refused"


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
    return replace(policy, limits=replace(policy.limits, **stricter)) if stricter else policy  # type: ignore[arg-type]


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
    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": EPOCHS})
    config = {"data": {"source": "digits"}, "compute": {"engine": "inline://"}, "owner": {"name": "stage"}}
    with Workspace.create(folder, config=config, recipe=recipe, policy=DEFAULT) as workspace:
        workspace.train()
    stage = StageWorkspace(folder)
    stage.report = report
    with stage:
        case = stage.request(ids=[DELETED])
        shutil.copyfile(case.receipt, folder / RECEIPT)
        stage.run(case, ["retrain"])
    return folder


def _pending(report: SelftestReport) -> list[Tally]:
    """The saboteurs whose turn has not come, named as such in certificates that never leave the stage."""
    done = {tally.saboteur for tally in report.tallies}
    names = sorted({*REQUIRED_METHODS, *REQUIRED_PROCESSES} - done)
    return [process_tally(name, None, "its turn has not come") for name in names]


def process_tally(name: str, attempt: Attempt | None, skipped: str = "") -> Tally:
    """The count of one process. A scene whose control failed is a try in which the cheat was not caught."""
    if attempt is None:
        caught_by, tried, certified, caught = (), 0, 0, {}
    else:
        caught_by = registry.load("saboteurs", name)().caught_by
        believed = attempt.accepted or not attempt.control
        tried, certified = 1, int(believed)
        caught = {} if believed else {attempt.by: 1}
    return Tally(
        saboteur=name,
        kind="process",
        expected=caught_by,
        tried=tried,
        certified=certified,
        undecided=0,
        caught=caught,
        lower=share_at_least(certified, tried) if tried else None,
        upper=share_at_most(certified, tried) if tried else None,
        skipped=skipped,
    )
