"""Bad input gets a clear error and loses nothing: after each, the log and the original model are what they were."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from expunge import Workspace
from expunge.core.errors import (
    EvidenceError,
    ExpungeError,
    InputError,
    InputProblems,
    IntegrityError,
    WorkspaceBusy,
)
from expunge.evidence.keys import read_roots
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.verify import verify_bundle
from expunge.workflow.policy import read_policy
from workspaces import nothing_changed

DIGIT = "train/7/0007"


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["train/7/9999"], "not present"),
        (["train/7/9999", "nonsense"], "2 problems"),
        ([DIGIT, DIGIT], "twice"),
        ([], "names no record"),
    ],
)
def test_bad_request_logs_nothing(folder: Path, ids: list[str], words: str) -> None:
    with nothing_changed(folder), Workspace.open(folder) as workspace, pytest.raises(InputError, match=words):
        workspace.request(ids=ids)
    assert not any((folder / "cases").iterdir())


def test_id_and_its_block_together_name_a_record_twice(folder: Path) -> None:
    with nothing_changed(folder), Workspace.open(folder) as workspace, pytest.raises(InputError, match="twice"):
        workspace.request(ids=["train/canary/0000"], block="canary")


def test_unknown_block(folder: Path) -> None:
    with nothing_changed(folder), Workspace.open(folder) as workspace, pytest.raises(InputProblems, match="unknown"):
        workspace.request(block="nobody")


def test_unknown_method(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        with pytest.raises(InputError, match="unknown method"):
            workspace.run(case, ["wish"])
        assert workspace.served().digest == workspace.state().model


def test_changed_weights_file_stops_before_anything_runs(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
    file = folder / "store/runs/original/model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-2] ^= 1
    file.write_bytes(bytes(raw))
    with Workspace.open(folder) as workspace:
        with pytest.raises(IntegrityError, match="not the model that was logged"):
            workspace.run(case, ["retrain"])
        assert workspace.log.verify().ok
        assert not (case.folder / "certificate.zip").exists()
    assert file.read_bytes() == bytes(raw)


def test_truncated_model_file(folder: Path) -> None:
    file = folder / "store/runs/original/model.safetensors"
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
    file.write_bytes(file.read_bytes()[:-100])
    with Workspace.open(folder) as workspace, pytest.raises(IntegrityError):
        workspace.run(case, ["retrain"])


def test_training_data_that_changed_since_ingestion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        images = workspace.data.train.images.copy()
        images[3] ^= 1
        monkeypatch.setattr(workspace.book, "align", lambda data: data)
        object.__setattr__(workspace.data.train, "images", images)
        with pytest.raises(IntegrityError, match="slot 3"):
            workspace.run(case, ["retrain"])
        assert workspace.served().digest == workspace.state().model


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root needs setpriv to be refused")
def test_read_only_workspace(folder: Path) -> None:
    (folder / ".lock").unlink(missing_ok=True)
    script = f"from expunge import Workspace; Workspace.open({str(folder)!r})"
    command = [sys.executable, "-c", script]
    if os.geteuid() == 0:
        subprocess.run(["chmod", "-R", "a+rX,a-w", str(folder)], check=True)
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o055)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    with nothing_changed(folder):
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": "/nonexistent"})
        assert done.returncode != 0
        assert "StorageError" in done.stderr, done.stderr


def test_full_disk_during_training_keeps_the_original_and_the_log(folder: Path) -> None:
    script = f"""
import resource, signal
from expunge import Workspace
from expunge.core.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Workspace.open({str(folder)!r}) as ws:
    case = ws.request(ids=[{DIGIT!r}])
    size = ws.log.size
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        ws.run(case, ["retrain"])
    except StorageError:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        raise SystemExit(42)
"""
    before = (folder / "store/runs/original/model.safetensors").read_bytes()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 42, done.stderr
    with Workspace.open(folder) as workspace:
        assert workspace.log.verify().ok
        assert workspace.state().model == workspace.served().digest
    assert (folder / "store/runs/original/model.safetensors").read_bytes() == before


def test_wrong_key_file(folder: Path) -> None:
    (folder / "keys/log.pem").chmod(0o644)
    with nothing_changed(folder), pytest.raises(InputError, match="read or written by others"):
        Workspace.open(folder)


def test_log_key_swapped_for_another_is_found_by_verify(folder: Path) -> None:
    (folder / "keys/log.pem").unlink()
    FileSigner.create(folder / "keys/log.pem")
    with Workspace.open(folder) as workspace:
        assert not workspace.log.verify(roots=read_roots(folder / "roots.json")).ok or workspace.roots() != read_roots(
            folder / "roots.json"
        )


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("expunge.toml", "\n[modle]\nseed = 1\n"),
        ("policy.yaml", "\nlimtis: {}\n"),
        ("policy.yaml", "\nlimits: {alpha: 0.2}\n"),
    ],
)
def test_unknown_or_unsafe_field_in_config_is_refused(folder: Path, file: str, line: str) -> None:
    with nothing_changed(folder):
        text = (folder / file).read_text()
        if "limits" in line and "limits:" in text:
            text = text[: text.index("limits:")]
        (folder / file).write_text(text + line)
        with pytest.raises(InputError):
            Workspace.open(folder)


def test_recipe_that_changed_since_training_is_refused(folder: Path) -> None:
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("lr: 0.08", "lr: 0.09"))
    with (
        nothing_changed(folder),
        Workspace.open(folder) as workspace,
        pytest.raises(InputError, match="not the recipe"),
    ):
        workspace.request(ids=[DIGIT])


def test_empty_policy_is_refused(folder: Path) -> None:
    with nothing_changed(folder):
        (folder / "policy.yaml").write_text("")
        with pytest.raises(InputError, match="empty"):
            Workspace.open(folder)


def test_policy_cannot_be_softened_below_the_floors_in_code(folder: Path) -> None:
    text = (folder / "policy.yaml").read_text()
    (folder / "policy.yaml").write_text(text.replace("provenance: must_pass", "provenance: report"))
    with nothing_changed(folder), pytest.raises(InputProblems, match="provenance: must be at least must_pass"):
        Workspace.open(folder)


def test_second_process_on_the_same_workspace(folder: Path) -> None:
    with Workspace.open(folder), nothing_changed(folder):
        script = f"from expunge import Workspace; Workspace.open({str(folder)!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert "WorkspaceBusy" in done.stderr
        with pytest.raises(WorkspaceBusy):
            Workspace.open(folder)
    Workspace.open(folder).close()


def test_clock_going_back_is_noted_and_order_stays_by_index(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        workspace.log.append("note", {}, now=datetime.now(UTC) + timedelta(days=2))
        outcome = workspace.run(workspace.request(ids=[DIGIT]))
        report = workspace.log.verify()
        assert report.ok
        assert any("clock" in note for note in report.notes)
    result = verify_bundle(
        outcome.certificate.path, roots=read_roots(folder / "roots.json"), policy=read_policy(folder / "policy.yaml")
    )
    assert result.ok, result.lines()


def test_certificate_of_another_case_does_not_answer_my_receipt(folder: Path) -> None:
    from expunge.apps.cli.verify import _expectation, checkpoint_in

    with Workspace.open(folder) as workspace:
        mine = workspace.request(ids=["train/0/0000"])
        other = workspace.run(workspace.request(ids=[DIGIT]))
    result = verify_bundle(
        other.certificate.path,
        roots=read_roots(folder / "roots.json"),
        policy=read_policy(folder / "policy.yaml"),
        against=checkpoint_in(mine.receipt),
        expect=_expectation(mine.receipt, None),
    )
    assert not result.ok
    assert [step.number for step in result.steps if step.status == "failed"][-1] == 12


def test_verifying_with_somebody_elses_roots_fails(folder: Path, tmp_path: Path) -> None:
    from expunge.evidence.keys import Root, TrustRoots

    with Workspace.open(folder) as workspace:
        outcome = workspace.run(workspace.request(ids=[DIGIT]))
    strangers = TrustRoots(
        keys=tuple(
            Root.of(FileSigner.create(tmp_path / f"{role}.pem"), name=role, role=role)  # type: ignore[arg-type]
            for role in ("operator", "verifier", "log")
        )
    )
    result = verify_bundle(outcome.certificate.path, roots=strangers, policy=read_policy(folder / "policy.yaml"))
    assert not result.ok
    empty = verify_bundle(
        outcome.certificate.path, roots=TrustRoots(keys=()), policy=read_policy(folder / "policy.yaml")
    )
    assert not empty.ok


def test_a_folder_that_is_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an expunge workspace"):
        Workspace.open(tmp_path)


def test_init_into_a_folder_with_something_in_it_changes_nothing(tmp_path: Path) -> None:
    from expunge.training.recipe import load_recipe

    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        Workspace.create(tmp_path, config={"data": {"source": "digits"}}, recipe=load_recipe("digits"))
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_init_with_bad_data_leaves_no_half_workspace(tmp_path: Path) -> None:
    from expunge.training.recipe import load_recipe

    config = {"data": {"source": "cifar10", "path": str(tmp_path / "nowhere")}}
    with pytest.raises(InputError):
        Workspace.create(tmp_path / "ws", config=config, recipe=load_recipe("cifar10-w16"))
    assert not (tmp_path / "ws").exists()


def test_training_twice_is_refused(folder: Path) -> None:
    with nothing_changed(folder), Workspace.open(folder) as workspace:
        with pytest.raises(InputError, match="already serves"):
            workspace.train()
        with pytest.raises(InputError, match="has a bank"):
            workspace.bank()


def test_closed_case_cannot_be_run_again(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        workspace.run(case)
        with pytest.raises(InputError, match="closed"):
            workspace.run(case)


def test_tampered_findings_file_cannot_be_certified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.workflow import pipeline

    real = pipeline.purge

    def tamper(workspace: Workspace, case: object, accepted: object) -> object:
        file = case.folder / "findings-1.json"  # type: ignore[attr-defined]
        file.write_bytes(file.read_bytes().replace(b'"verdict":"PASS"', b'"verdict":"FAIL"'))
        return real(workspace, case, accepted)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "purge", tamper)
    with Workspace.open(folder) as workspace, pytest.raises(ExpungeError) as refused:
        workspace.run(workspace.request(ids=[DIGIT]))
    assert isinstance(refused.value, EvidenceError)
