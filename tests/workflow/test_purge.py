"""The purge works from the index: what derives from the records is found, destroyed, looked for again, and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expunge.core.errors import EvidenceError, IntegrityError
from expunge.farm.bank import SKETCH, read_arrays, write_sketch
from expunge.farm.index import BLANK, DESTROY, RETIRE
from expunge.workflow import pipeline, purge
from expunge.workflow.derived import derived_from
from expunge.workflow.train import bank_folder, read_bank
from expunge.workflow.workspace import Workspace

DIGIT = "train/7/0007"


def slot_of(workspace: Workspace, name: str = DIGIT) -> int:
    return workspace.book.slots_of([name])[0]


def leave_answers(workspace: Workspace) -> Path:
    """What a judgement that was killed leaves in the bank's folder: a model unlearned from one that saw the record."""
    home = bank_folder(workspace, workspace.state().banks[-1].digest) / ("0" * 64)
    (home / "run").mkdir(parents=True)
    (home / "run" / "model.safetensors").write_bytes(b"trained on somebody")
    (home / "result.json").write_bytes(b'{"block":["-1"]}')
    return home


def test_everything_that_derives_from_a_record_is_found(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        leave_answers(workspace)
        (folder / "store/scratch").mkdir()
        index = derived_from(workspace, workspace.served())
        found, bank = index.of([slot_of(workspace)]), workspace.state().banks[-1]
        assert found.with_fate(DESTROY).counts() == {"cached answers": 2}
        assert found.with_fate(RETIRE).counts()["bank models"] == bank.n // 2
        assert found.with_fate(BLANK).counts() == {"score sketches": bank.n + bank.anchors}
        assert index.with_fate(RETIRE).counts() == {"bank models": bank.n, "anchors": bank.anchors}
        assert all((folder / artefact.path).exists() for artefact in index)


def test_certificate_counts_what_was_destroyed_and_what_retires(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        left = leave_answers(workspace)
        slot, bank = slot_of(workspace), workspace.state().banks[-1]
        anchors = int(read_bank(workspace, bank.digest).inside("anchors")[:, slot].sum())
        outcome = workspace.run(workspace.request(ids=[DIGIT]))
        assert not left.exists()
        entry = next(e for e in workspace.log.case(outcome.case) if e.kind == "data.purged")
        assert not derived_from(workspace, workspace.served()).of([slot]).with_fate(DESTROY).counts()
    assert (entry.payload["runs"], entry.payload["answers"]) == (1, 1)
    assert entry.payload["sketches"] == bank.n + bank.anchors
    said = outcome.certificate.report.read_text()
    assert f"{bank.n // 2} of {bank.n} models and {anchors} of {bank.anchors} anchors" in said
    assert "1 sets of answers" in said
    assert DIGIT not in said
    assert not list((folder / "cases").glob("*/private/*")), "the inventory names slots and goes with the case"


@pytest.mark.parametrize("step", ["_destroy_other_runs", "_destroy_leftovers", "_blank_banks", "_nothing_left"])
def test_a_purge_killed_anywhere_counts_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    real = getattr(purge, step)

    def killed(*arguments: object) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with Workspace.open(folder) as workspace:
        leave_answers(workspace)
        case = workspace.request(ids=[DIGIT])
        with monkeypatch.context() as patch:
            patch.setattr(purge, step, killed)
            with pytest.raises(KeyboardInterrupt):
                workspace.run(case)
        outcome = workspace.run(case)
        entry = next(e for e in workspace.log.case(outcome.case) if e.kind == "data.purged")
    assert (entry.payload["runs"], entry.payload["answers"]) == (1, 1)
    assert entry.payload["files"] > 2
    assert outcome.certificate.path.exists()


def test_no_certificate_while_something_derived_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workspace.open(folder) as workspace:
        leave_answers(workspace)
        case = workspace.request(ids=[DIGIT])
        with monkeypatch.context() as patch:
            patch.setattr(purge, "_destroy_leftovers", lambda *arguments: None)
            with pytest.raises(EvidenceError, match="still there"):
                workspace.run(case)
        assert not case.bundle.exists()
        assert workspace.run(case).certificate.path.exists(), "control: removed, the case ends"


def test_a_bank_whose_design_or_answers_were_changed_since_they_were_logged_judges_nobody(folder: Path) -> None:
    """The attack: the answers of an IN model are put down to those of an OUT model, or a record is moved to OUT."""
    with Workspace.open(folder) as workspace:
        digest = workspace.state().banks[-1].digest
        bank = read_bank(workspace, digest)
        file = bank.home("bank", 0) / SKETCH
        arrays = read_arrays(file)
        write_sketch(file, {**arrays, "train": arrays["train"] - np.float32(1e-3)})
        with pytest.raises(IntegrityError, match="sketches are not those"):
            read_bank(workspace, digest)
        write_sketch(file, arrays)
        assert read_bank(workspace, digest) is not None, "control: restored"
        design = bank.folder / "design.npz"
        rows = read_arrays(design)
        rows["bank"][:, 3] = ~rows["bank"][:, 3]
        np.savez(design, **rows)
        with pytest.raises(IntegrityError, match="design are not those"):
            read_bank(workspace, digest)


def test_after_an_erasure_the_answers_are_logged_again(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        before = workspace.state().banks[-1]
        workspace.run(workspace.request(ids=[DIGIT]))
        after = workspace.state().banks[-1]
        assert after.design == before.design
        assert after.sketches not in (None, before.sketches)
        assert read_bank(workspace, after.digest) is not None
        assert workspace.run(workspace.request(ids=["train/0/0000"])).certificate.path.exists()


def test_a_finished_run_that_saw_the_record_is_not_taken_for_the_candidate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: the original's folder is copied to where the retraining would go, so that it is read back."""
    import shutil

    from expunge.core.errors import ExpungeError

    real = pipeline.execute

    def planted(workspace: Workspace, case: object, *rest: object) -> object:
        served = workspace.served()
        label = f"{case.handle}-retrain-{served.digest[7:15]}"  # type: ignore[attr-defined]
        shutil.copytree(workspace.root / served.run, workspace.root / "store" / "runs" / label)
        return real(workspace, case, *rest)

    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        monkeypatch.setattr(pipeline, "execute", planted)
        with pytest.raises(ExpungeError, match="the run of another training"):
            workspace.run(case, ["retrain"])
        assert "certificate.issued" not in {entry.kind for entry in workspace.log.entries()}
        assert not case.bundle.exists()
