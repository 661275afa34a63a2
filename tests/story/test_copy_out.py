"""A model is handed out: refreshed before, named inside, and never one that the log does not name."""

import shutil

import numpy as np
import pytest

from expunge.core.errors import InputError, IntegrityError
from expunge.training.checkpoint import labels_of, load_tensors, weights_identity
from expunge.training.closed_form.inverse import inverse_of
from expunge.training.closed_form.model import save_cache
from expunge.workflow.artefacts import origins_of
from expunge.workflow.copy_out import release
from recommending import a_user, make


def drifted(workspace):
    """What many small corrections would come to: P is off, and is still the model's own."""
    run = workspace.root / workspace.served().run
    inverse = np.load(run / "inverse.npy")
    save_cache(run, inverse * (1 + 1e-6), workspace.served().digest)
    return inverse


def kinds(workspace):
    return [entry.kind for entry in workspace.log.entries()]


def test_a_release_that_was_not_refreshed_cannot_be_had(workspace, tmp_path):
    """The attack: corrections add up, and nobody runs `expunge refresh` before the copy goes out."""
    good, out = drifted(workspace), tmp_path / "serving.safetensors"
    done = release(workspace, out)
    assert done.before > 1e-9 > done.after
    assert kinds(workspace)[-2:] == ["cache.refreshed", "copy.released"]
    served = load_tensors(out)[0]
    assert {name: str(tensor.dtype) for name, tensor in served.items()} == {"inverse": "torch.float32"}
    assert np.array_equal(served["inverse"].numpy(), good.astype(np.float32))
    assert labels_of(out) == {"model": workspace.served().digest, "family": "ease"}
    assert done.copy == weights_identity(out)
    gram = workspace.adapter.load(workspace.root / workspace.served().run / "model.safetensors").gram
    assert np.abs(good - inverse_of(gram, 200.0)).max() < 1e-15


def test_a_refresh_that_does_not_help_releases_nothing(workspace, tmp_path, monkeypatch):
    drifted(workspace)
    monkeypatch.setattr(type(workspace.adapter), "refresh", lambda self, job, folder: workspace.served().digest)
    with pytest.raises(IntegrityError, match="off after a refresh"):
        release(workspace, tmp_path / "serving.safetensors")
    assert not (tmp_path / "serving.safetensors").exists()
    assert "copy.released" not in kinds(workspace)


def test_a_restored_backup_is_not_released(workspace, tmp_path):
    run = workspace.root / workspace.served().run
    backup = shutil.copyfile(run / "model.safetensors", tmp_path / "backup.safetensors")
    release(workspace, tmp_path / "serving.safetensors")
    before = workspace.served().digest
    workspace.run(workspace.request(ids=[a_user(workspace)]))
    shutil.copyfile(backup, workspace.root / workspace.served().run / "model.safetensors")
    with pytest.raises(IntegrityError, match="not the model that was logged"):
        release(workspace, tmp_path / "serving.safetensors")
    assert origins_of(tmp_path / "serving.safetensors", {}) == {before}


@pytest.mark.parametrize("family", ["popularity", "ials"])
def test_other_families_copies_are_the_models_own_tensors(tmp_path, family):
    with make(tmp_path / "ws", family=family) as workspace:
        out = tmp_path / "serving.safetensors"
        assert release(workspace, out).copy == workspace.served().digest
        assert release(workspace, out).model == workspace.served().digest  # a copy takes the place of a copy


def test_nothing_else_is_overwritten_and_nothing_lies_in_the_workspace(workspace, tmp_path):
    foreign = tmp_path / "notes.safetensors"
    foreign.write_bytes(b"not a copy")
    (tmp_path / "link.safetensors").symlink_to(foreign)
    for out in (foreign, tmp_path / "link.safetensors", tmp_path / "copy.npz", workspace.root / "a.safetensors"):
        with pytest.raises(InputError):
            release(workspace, out)
    assert foreign.read_bytes() == b"not a copy"
    assert "copy.released" not in kinds(workspace)
