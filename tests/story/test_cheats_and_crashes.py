"""An owner who edits files between steps, and a machine that dies between them. Found by a review that tried to cheat."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from expunge import Workspace
from expunge.core.errors import EvidenceError, Held, InputError, IntegrityError, NotErased
from expunge.evidence.keys import read_roots
from expunge.evidence.verify import verify_bundle
from expunge.workflow import certify as certify_module
from expunge.workflow import pipeline, purge
from expunge.workflow.intake import closed, find_case
from expunge.workflow.policy import read_policy
from workspaces import change_policy, vouch_for

DIGIT, OTHER = "train/7/0007", "train/0/0000"


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def kill_at(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, workspace: Workspace, case: Any, *methods: str
) -> None:
    """Run a case and die in one function."""
    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.run(case, methods)


def verified(folder: Path, outcome: Any) -> bool:
    roots, policy = read_roots(folder / "roots.json"), read_policy(folder / "policy.yaml")
    return verify_bundle(outcome.certificate.path, roots=roots, policy=policy).ok


# -------------------------------------------------------------------------------------------------------------- crashes


def test_no_case_overtakes_one_that_was_accepted_and_not_finished(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the first case's model, which was trained on the second's record, went back into service."""
    with Workspace.open(folder) as workspace:
        first, second = workspace.request(ids=[DIGIT]), workspace.request(ids=[OTHER])
        kill_at(monkeypatch, pipeline, "purge", workspace, first)
        with pytest.raises(Held, match="accepted and not finished"):
            workspace.run(second)
        one, two = workspace.run(first), workspace.run(second)
        served = workspace.served()
        assert set(served.absent) == {slot for slot, name in enumerate(workspace.book.ids) if name is None}
        assert len(served.absent) == 2
    assert verified(folder, one)
    assert verified(folder, two)


@pytest.mark.parametrize("step", ["_close_other_cases", "_destroy_other_runs", "_blank_banks", "_blank_packages"])
def test_killed_anywhere_in_the_purge_is_repaired(folder: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        kill_at(monkeypatch, purge, step, workspace, case)
        outcome = workspace.run(case)
        assert closed(workspace, case)
    assert verified(folder, outcome)


@pytest.mark.parametrize("step", ["_stage", "_write_bundle", "destroy_cleartext"])
def test_killed_while_certifying_still_gives_the_certificate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        kill_at(monkeypatch, certify_module, step, workspace, case)
        assert not closed(workspace, case)
        outcome = workspace.run(case)
        assert closed(workspace, case)
    assert verified(folder, outcome)
    assert list(case.private.iterdir()) == []
    assert not (case.folder / "staging").exists()


def test_requester_who_took_the_receipt_away_does_not_lose_the_certificate(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        with_receipt = case.receipt.read_bytes()
        case.receipt.unlink()
        outcome = workspace.run(case)
    assert verified(folder, outcome)
    assert b"checkpoint" in with_receipt


def test_crashes_before_any_finding_use_up_no_attempt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        for _ in range(5):
            kill_at(monkeypatch, pipeline, "execute", workspace, case)
        outcome = workspace.run(case)
        assert outcome.trials[-1].plan.attempt == 1
    assert verified(folder, outcome)


def test_case_interrupted_before_another_deletion_goes_on_afterwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace.open(folder) as workspace:
        first, second = workspace.request(ids=[DIGIT]), workspace.request(ids=[OTHER])
        kill_at(monkeypatch, pipeline, "verify", workspace, first)
        workspace.run(second)
        outcome = workspace.run(first)
        assert len(workspace.served().absent) == 2
    assert verified(folder, outcome)


def test_candidates_a_crash_left_behind_are_destroyed_with_the_original(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        kill_at(monkeypatch, pipeline, "verify", workspace, case, "finetune")
        assert len(list((folder / "store/runs").iterdir())) == 2
        workspace.run(case)
        runs = [run.name for run in (folder / "store/runs").iterdir()]
        assert runs == [Path(workspace.served().run).name]


def test_unfinished_bank_does_not_survive_a_deletion(prepared: Path, tmp_path: Path) -> None:
    from expunge.training.recipe import load_recipe, parse_recipe
    from expunge.workflow.train import bank_spec, prepare_bank
    from workspaces import small_config

    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 4})
    with Workspace.create(tmp_path / "ws", config=small_config(), recipe=recipe) as workspace:
        workspace.train()
        bank = prepare_bank(workspace, bank_spec(workspace))
        (bank.folder / "half-done").mkdir()
        (bank.folder / "half-done" / "model.safetensors").write_bytes(b"trained on somebody")
        vouch_for(workspace)
        outcome = workspace.run(workspace.request(ids=[DIGIT]))
        assert not bank.folder.exists()
        entries = [entry for entry in workspace.log.case(outcome.case) if entry.kind == "data.purged"]
    assert entries[-1].payload["unfinished_banks"] == 1


def test_bank_folder_removed_by_hand_does_not_break_the_walk(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        for bank in (folder / "store/banks").iterdir():
            shutil.rmtree(bank)
        outcome = workspace.run(workspace.request(ids=[DIGIT]))
    assert verified(folder, outcome)


# --------------------------------------------------------------------------------------------------------------- cheats


def test_checkpoint_and_transcript_forged_together_cannot_be_replayed(folder: Path) -> None:
    """Weights that saw the record, put under a checkpoint before its first use, with a re-chained transcript."""
    from expunge.training.checkpoint import weights_identity
    from expunge.training.transcript import Transcript, read_transcript

    run = folder / "store/runs/original"
    checkpoints = sorted((run / "checkpoints").glob("*.safetensors"))
    shutil.copyfile(checkpoints[-1], checkpoints[0])
    forged = weights_identity(checkpoints[0])
    lines = [{k: v for k, v in line.items() if k != "chain"} for line in read_transcript(run / "transcript.jsonl")]
    lines = [{**line, "state": forged} if line["kind"] == "state" and line["epoch"] == 0 else line for line in lines]
    (run / "transcript.jsonl").unlink()
    Transcript(run / "transcript.jsonl").extend(lines)
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        outcome = workspace.run(case)
        kinds = [entry.kind for entry in workspace.log.case(case.handle)]
    assert "candidate.failed" in kinds
    assert outcome.trials[-1].method == "retrain"


def test_seed_changed_in_the_private_model_record_is_found(folder: Path) -> None:
    record = next((folder / "store/models").glob("*.json"))
    plain = json.loads(record.read_text())
    record.write_text(json.dumps({**plain, "seed": "0" * 32}))
    with Workspace.open(folder) as workspace, pytest.raises(IntegrityError, match="seed"):
        workspace.run(workspace.request(ids=[DIGIT]))


@pytest.mark.parametrize("what", ["weights", "plan", "findings", "policy", "slots"])
def test_files_changed_between_decision_and_purge_destroy_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        kill_at(monkeypatch, pipeline, "check_ready", workspace, case)
        original = workspace.root / workspace.served().run / "model.safetensors"
        before = original.read_bytes()
        accepted = json.loads((case.private / "accepted.json").read_text())
    if what == "weights":
        shutil.copyfile(original, folder / accepted["record"]["run"] / "model.safetensors")
    elif what == "slots":
        (case.private / "accepted.json").write_text(json.dumps({**accepted, "slots": [100]}))
    elif what == "policy":
        text = (folder / "policy.yaml").read_text()
        (folder / "policy.yaml").write_text(text.replace("max_attempts: 4", "max_attempts: 5"))
    else:
        file = case.folder / f"{what}-1.json"
        file.write_bytes(file.read_bytes().replace(b'"EXACT"', b'"EMPIRICAL"').replace(b'"PASS"', b'"FAIL"'))
    with Workspace.open(folder) as workspace:
        with pytest.raises(EvidenceError, match="changed after the decision"):
            workspace.run(case)
        assert workspace.state().model == accepted["original"]["digest"]
        assert workspace.book.ids.count(None) == 0
    assert original.read_bytes() == before


def test_adding_a_record_to_the_request_does_not_reset_the_attempts(folder: Path) -> None:
    change_policy(folder, "max_attempts: 4", "max_attempts: 1")
    with Workspace.open(folder) as workspace:
        with pytest.raises(NotErased):
            workspace.run(workspace.request(block="canary"), ["finetune"])
        with pytest.raises(Held, match="used up"):
            workspace.run(workspace.request(ids=["train/canary/0000", DIGIT]))
        assert workspace.run(workspace.request(ids=[DIGIT])).certificate is not None


def test_attempts_used_up_after_a_failure_open_an_incident(folder: Path) -> None:
    change_policy(folder, "max_attempts: 4", "max_attempts: 1")
    with Workspace.open(folder) as workspace:
        case = workspace.request(block="canary")
        with pytest.raises(NotErased):
            workspace.run(case, ["finetune", "retrain"])
        assert workspace.state().incidents == (case.handle,)


def test_other_cases_about_the_record_lose_their_cleartext_with_it(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        failed = workspace.request(ids=["train/canary/0000"])
        with pytest.raises(NotErased):
            workspace.run(failed, ["finetune"])
        waiting = workspace.request(ids=["train/canary/0000"])
        earlier = workspace.run(workspace.request(ids=[DIGIT]))
        workspace.run(workspace.request(block="canary"))
        assert closed(workspace, waiting)
        with pytest.raises(InputError, match="no open case"):
            find_case(workspace)
    found = [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and b"train/canary/0000" in file.read_bytes()
    ]
    assert found == []
    assert earlier.certificate is not None


def test_candidate_with_the_originals_weights_is_not_released(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retrain that changes nothing cannot be shown as a deletion, and the case is answered instead of stuck."""
    from expunge.methods.retrain import Retrain

    def same(self: Retrain, job: Any) -> Any:
        return job.adapter.fit(job.job)

    monkeypatch.setattr(Retrain, "unlearn", same)
    with Workspace.open(folder) as workspace:
        before = workspace.served()
        with pytest.raises(NotErased):
            workspace.run(workspace.request(ids=[DIGIT]), ["retrain"])
        assert workspace.served() == before


def test_deleting_a_whole_class_is_not_blamed_for_forgetting_it(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        labels = workspace.data.train.labels
        ids = [name for slot, name in enumerate(workspace.book.ids) if labels[slot] == 4]
        outcome = workspace.run(workspace.request(ids=[str(name) for name in ids]), ["retrain"])
        utility = next(f for f in outcome.trials[-1].findings if f.check == "utility")
    assert utility.verdict.value != "FAIL"
    assert verified(folder, outcome)


def test_part_of_a_block_is_not_called_untested_for_want_of_a_bank(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        outcome = workspace.run(workspace.request(ids=["train/canary/0000"]))
        membership = next(f for f in outcome.trials[-1].findings if f.check == "membership")
    assert "part of a block" in membership.reason


def test_x_arm_models_are_gone_even_when_the_arm_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.farm import member

    def broken(*_: Any) -> None:
        raise RuntimeError("half way")

    with Workspace.open(folder) as workspace:
        bank = next((folder / "store/banks").iterdir())
        before = {path.name for path in bank.iterdir()}
        monkeypatch.setattr(member._Member, "answers", broken)
        with pytest.raises(RuntimeError):
            workspace.run(workspace.request(block="canary"), ["finetune"])
        assert {path.name for path in bank.iterdir()} == before
