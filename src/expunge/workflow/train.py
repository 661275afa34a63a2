"""The owner's two preparations: train the model that will be served, and build the bank that will judge deletions."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core.codec import canonical, decode, digest_of, encode, loads, sha256_hex
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.core.protocols import FitResult, HasSufficientStatistics
from expunge.data._interactions import Interactions
from expunge.evidence.commitment import keyed
from expunge.evidence.durable import destroy_file, write_file
from expunge.farm.asked import LEAST_EVENTS, askable
from expunge.farm.bank import Bank, BankSpec
from expunge.farm.users import digest_of_test, save_users
from expunge.training.closed_form.compared import Compared
from expunge.training.rng import derive_seed
from expunge.training.transcript import transcript_digest
from expunge.workflow.logged import check_book
from expunge.workflow.picture_bank import asked_of_works, check_bankable_works
from expunge.workflow.state import ModelRecord

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

LEAST_TEST_USERS = 20
"""Of users whom no model saw; some attacks compare with as many (`rmia`)."""


def train(workspace: Workspace) -> tuple[ModelRecord, FitResult]:
    """Train the served model, or continue where a killed process left it, and log its digest. Done once."""
    state = workspace.state()
    if state.model is not None:
        raise InputError(
            "this workspace already serves a model", got=state.model, hint="start a new workspace to retrain"
        )
    check_book(workspace)
    run = workspace.root / "store" / "runs" / "original"
    absent = workspace.book.tombstones  # of works that were opted out
    result: FitResult = workspace.adapter.fit(workspace.fit_job(run, absent=absent))
    record = ModelRecord(
        digest=result.digest,
        run=str(run.relative_to(workspace.root)),
        seed=workspace.config.model.seed,
        absent=tuple(sorted(absent)),
        recipe=workspace.recipe.digest,
        numerics=workspace.numerics,
        seconds=result.seconds,
    )
    workspace.remember_model(record)
    payload = {
        "model": result.digest,
        "transcript": logged_transcript(run),
        "recipe": workspace.recipe.digest,
        "numerics": encode(workspace.numerics),
        "seed": seed_digest(record.seed),
        "data": encode(workspace.book.data_ref(workspace.config.data.source)),
    }
    workspace.log.append("model.trained", payload)
    workspace.log.checkpoint()
    return record, result


def refresh(workspace: Workspace) -> tuple[float | None, float | None]:
    """Build what the served model keeps beside its sums anew, as before each release; returns how far off it was and is.

    The model stays the same: its identity covers the sums. Raises InputError for a family without sums, IntegrityError where
    it is still off.
    """
    served, adapter = workspace.served(), workspace.adapter
    if not isinstance(adapter, HasSufficientStatistics):
        raise InputError(f"family {workspace.recipe.family} keeps nothing that follows from sums")
    folder = workspace.root / served.run
    job = workspace.fit_job(folder, absent=workspace.book.tombstones)
    before = _off(workspace, job).derived
    digest = adapter.refresh(job, folder)  # type: ignore[attr-defined]
    if digest != served.digest:
        raise IntegrityError("a refresh changed the model", expected=served.digest, got=digest)
    found = _off(workspace, job)
    after = found.derived
    workspace.log.append("cache.refreshed", {"model": digest, "before": encode(before), "after": encode(after)})
    workspace.log.checkpoint()
    if found.wrong or (after is not None and not after <= found.limit):
        raise IntegrityError(
            "what follows from the sums is off after a refresh", expected=f"at most {found.limit:g}", got=str(after)
        )
    return before, after


def _off(workspace: Workspace, job: Any) -> Compared:
    adapter = workspace.adapter
    model, rows = adapter.load(job.folder / "model.safetensors"), adapter.rows(job)
    found: Compared = adapter.compared(
        model, rows, adapter.sums_of(rows), np.random.Generator(np.random.Philox(secrets.randbits(64)))
    )
    return found


def logged_transcript(run: Path) -> str | None:
    """Digest of a run's transcript; None for a family that keeps none, because nothing is iterated."""
    file = run / "transcript.jsonl"
    return transcript_digest(file) if file.exists() else None


def seed_digest(seed: str) -> str:
    """What the log and transcripts hold of a seed."""
    return "sha256:" + sha256_hex(seed.encode())


def bank_blocks(workspace: Workspace) -> list[str]:
    """Block names by slot as a bank knows them: keyed pseudonyms, because a lone record's block is named after it."""
    secret = workspace.secret("block")
    return [keyed(secret, name.encode()).hex()[:24] if name else "" for name in workspace.book.blocks]


def prepare_bank(workspace: Workspace, spec: BankSpec) -> Bank:
    """A bank's folder with what its workers need, logged before its first model is trained on anybody."""
    bank = Bank(spec, bank_folder(workspace, spec.digest), bank_blocks(workspace))
    if not bank.folder.exists():
        workspace.log.append("bank.begun", {"bank": spec.digest})
    bank.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(bank.folder / "spec.json", canonical(encode(spec)), mode=0o600)
    save_bank_slots(workspace, bank.folder)
    return bank


def save_bank_slots(workspace: Workspace, folder: Path) -> None:
    """Ids and block pseudonyms by slot, 0600; erased slots are blank. Of users their histories, too, as they are now."""
    plain = {"ids": list(workspace.book.ids), "blocks": bank_blocks(workspace)}
    write_file(folder / "slots.json", canonical(plain), mode=0o600)
    if isinstance(workspace.data, Interactions):
        save_users(folder, workspace.data)


def bank_spec(workspace: Workspace, monitored: Sequence[str] = ()) -> BankSpec:
    """The bank this workspace's configuration asks for, on the records that are present."""
    table = workspace.config.bank
    names = (*table.monitored, *monitored)
    unknown = [name for name in names if name not in workspace.book.blocks]
    if unknown:
        raise InputProblems("monitored blocks", [f"{name!r} does not exist" for name in unknown])
    pseudonyms = dict(zip(workspace.book.blocks, bank_blocks(workspace), strict=True))
    recipe = {**workspace.recipe.model_dump(), "threads": 1}
    return BankSpec(
        recipe=encode(recipe),
        data=encode(_asked_data(workspace)),
        seed=derive_seed(workspace.config.model.seed, "bank", len(workspace.state().banks)),
        pairs=table.pairs,
        anchors=table.anchors if workspace.policy.kind == "classifier" else 0,  # users' are made for each judgement
        monitored=tuple(pseudonyms[name] for name in names),
        tombstones=tuple(sorted(workspace.served().absent)),
    )


def _asked_data(workspace: Workspace) -> dict[str, Any]:
    """The source as workers open it; of users also what the test users' answers are about, of works what the halves heed."""
    named = {**workspace.named_data, **asked_of_works(workspace.data)}
    return {**named, "test": digest_of_test(workspace.data)} if isinstance(workspace.data, Interactions) else named


def build_bank(workspace: Workspace, monitored: Sequence[str] = ()) -> tuple[Bank, list[Mapping[str, Any]]]:
    """Train every bank model and anchor that is missing, then log the bank with the day it must be destroyed.

    `monitored` are blocks that the anchors watch besides those of the configuration.
    """
    _check_bankable(workspace)
    served = workspace.served()
    state = workspace.state()
    if state.banks:
        raise InputError("this workspace has a bank", got=state.banks[-1].digest, hint="it serves its whole window")
    spec = bank_spec(workspace, monitored)
    bank = prepare_bank(workspace, spec)
    results = bank.build(workspace.config.compute.executor, workspace.compute, workspace.progress)
    destroy_by = datetime.now(UTC) + timedelta(days=workspace.config.bank.window_days)
    payload = {
        "bank": spec.digest,
        "n": 2 * spec.pairs,
        "anchors": spec.anchors,
        "members": digest_of([result["digest"] for result in results]),
        "design": bank.design_digest(),
        "sketches": digest_of(bank.sketch_digests()),
        "model": served.digest,
        "destroy_by": destroy_by.date().isoformat(),
    }
    workspace.log.append("bank.built", payload)
    workspace.log.checkpoint()
    return bank, results


def _check_bankable(workspace: Workspace) -> None:
    """Raises InputError where no bank could judge anybody."""
    kind, adapter = workspace.policy.kind, workspace.adapter
    if kind == "generator":
        check_bankable_works(workspace)
        return
    if kind == "classifier":
        return
    if isinstance(adapter, HasSufficientStatistics):
        raise InputError(
            f"no bank judges family {workspace.recipe.family}: what it answers without a user is known exactly",
            hint="expunge selftest, then expunge request; `left_out` compares with the exact model",
        )
    users = len(askable(workspace.data))
    if users < LEAST_TEST_USERS:
        raise InputError(
            "too few test users to compare a user with",
            expected=f"{LEAST_TEST_USERS} who were never trained on and have {LEAST_EVENTS} events",
            got=str(users),
            hint="start a workspace with `expunge init --option test_users=N`",
        )


def retire_bank(workspace: Workspace) -> str:
    """Destroy the bank's models and sketches, and log that it is gone. Returns its digest."""
    banks = workspace.state().banks
    if not banks:
        raise InputError("this workspace has no bank to retire")
    digest = banks[-1].digest
    folder = bank_folder(workspace, digest)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()] if folder.exists() else []
    for file in files:
        destroy_file(file)
    shutil.rmtree(folder, ignore_errors=True)
    workspace.log.append("bank.retired", {"bank": digest, "files": len(files)})
    workspace.log.checkpoint()
    return digest


def read_bank(workspace: Workspace, digest: str, *, whole: bool = True) -> Bank:
    """A logged bank from its folder. Raises InputError or IntegrityError unless it is still what was logged.

    Spec and design never change; the sketches change with each erasure, whose purge logs them again. In the middle of a
    purge they are neither: `whole=False` leaves them unchecked.
    """
    file = bank_folder(workspace, digest) / "spec.json"
    if not file.exists():
        raise InputError("the bank's folder is gone", expected=str(file), hint="log it with `expunge bank --retire`")
    spec = decode(BankSpec, loads(file.read_bytes()), what="bank spec")
    if spec.digest != digest:
        raise InputError("the bank's spec was changed", expected=digest, got=spec.digest)
    bank = Bank(spec, file.parent, bank_blocks(workspace))
    logged = next(record for record in workspace.state().banks if record.digest == digest)
    found = [("design", logged.design, bank.design_digest())]
    if whole:
        found.append(("sketches", logged.sketches, digest_of(bank.sketch_digests())))
    for what, expected, got in found:
        if expected not in (None, got):
            raise IntegrityError(
                f"the bank's {what} are not those that were logged",
                expected=expected,
                got=got,
                hint="restore the bank's folder, or retire the bank: what it says about anybody proves nothing now",
            )
    return bank


def open_bank(workspace: Workspace) -> Bank | None:
    """The newest bank in the log, read back from its folder; None after the day it had to be destroyed."""
    banks = workspace.state().banks
    if not banks or datetime.now(UTC).date() > date.fromisoformat(banks[-1].destroy_by):
        return None
    if not (bank_folder(workspace, banks[-1].digest) / "spec.json").exists():
        return None
    return workspace.narrowed(read_bank(workspace, banks[-1].digest))


def bank_folder(workspace: Workspace, digest: str) -> Path:
    return workspace.root / "store" / "banks" / digest.removeprefix("sha256:")[:32]


def free_bytes(path: Path) -> int:
    """Free space where a path lies."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize
