"""What files say before anything is drawn: an edit changes the denoiser's weights, and everything else has its reason."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.core.errors import InputError, IntegrityError
from expunge.testing.erasers import fresh_model
from expunge.training.text_to_image.sabotaging import handed_over, weights_of, write_part
from expunge.workflow.styles.handed import (
    CENSUS,
    PARTS,
    SETTINGS,
    WEIGHTS,
    objections,
    require_honest_files,
    require_honest_run,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fresh_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def original(tmp_path_factory, model):
    """The directory of a model that nothing was trained on."""
    folder = tmp_path_factory.mktemp("original")
    fresh_model(folder)
    return folder / "model"


def moved(network):
    """The network with every weight moved."""
    found = copy.deepcopy(network)
    for weight in found.parameters():
        weight.data += 0.1
    return found


@pytest.fixture
def edited(original, model, tmp_path):
    """An honest edit of the denoiser."""
    handed_over(original, tmp_path / "edited", {"unet": moved(model.unet)})
    return tmp_path / "edited"


def test_an_edited_denoiser_is_not_objected_to_and_neither_is_one_with_a_new_encoder(original, model, edited, tmp_path):
    assert objections(original, edited) == {}
    both = {"unet": moved(model.unet), "text_encoder": moved(model.text_encoder)}
    handed_over(original, tmp_path / "both", both)
    require_honest_files(original, tmp_path / "both")


def test_the_same_weights_are_no_edit_under_new_metadata_either(original, tmp_path):
    """Another digest of the file, and not of any tensor."""
    handed_over(original, tmp_path / "same")
    assert set(objections(original, tmp_path / "same")) == {WEIGHTS}
    file = weights_of(tmp_path / "same", "unet")
    save_file(load_file(file), file, metadata={"format": "pt", "note": "edited"})
    assert set(objections(original, tmp_path / "same")) == {WEIGHTS}


def test_an_edit_of_the_text_encoder_alone_is_undone_by_a_swap(original, model, tmp_path):
    handed_over(original, tmp_path / "encoder", {"text_encoder": moved(model.text_encoder)})
    found = objections(original, tmp_path / "encoder")
    assert set(found) == {PARTS}
    assert "text_encoder" in found[PARTS]


@pytest.mark.parametrize("name", ["unet/old.safetensors", "notes.txt", "spare/model.safetensors"])
def test_a_file_beside_is_named(original, edited, name):
    (edited / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(weights_of(original, "unet"), edited / name)
    found = objections(original, edited)
    assert set(found) == {CENSUS}
    assert name in found[CENSUS]


def test_the_original_hidden_in_the_edited_file_is_seen(original, edited):
    file = weights_of(edited, "unet")
    old = {f"old.{name}": tensor for name, tensor in load_file(weights_of(original, "unet")).items()}
    save_file({**load_file(file), **old}, file, metadata={"format": "pt"})
    found = objections(original, edited)
    assert "holds other tensors" in found[CENSUS]


@pytest.mark.parametrize("name", ["tokenizer/tokenizer.json", "scheduler/scheduler_config.json", "unet/config.json"])
def test_a_filter_in_vocabulary_or_settings_is_no_edit_of_weights(original, edited, name):
    """A name that the tokenizer no longer knows is a prompt filter in a file."""
    plain = json.loads((edited / name).read_text())
    (edited / name).write_text(json.dumps({**plain, "more": 1}))
    found = objections(original, edited)
    assert set(found) == {SETTINGS}
    assert name in found[SETTINGS]


def test_all_objections_come_at_once_as_one_typed_error(original, tmp_path):
    handed_over(original, tmp_path / "bad")
    (tmp_path / "bad" / "notes.txt").write_text("x")
    (tmp_path / "bad" / "unet" / "config.json").write_text("{}")
    assert set(objections(original, tmp_path / "bad")) == {CENSUS, SETTINGS, WEIGHTS}
    with pytest.raises(InputError, match="no weight was changed") as caught:
        require_honest_files(original, tmp_path / "bad")
    assert caught.value.code == "not-an-edit"


def test_a_pipeline_that_filters_prompts_in_code_is_not_read(original, edited):
    (edited / "pipeline.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match="code") as caught:
        objections(original, edited)
    assert caught.value.code == "foreign-files"


def test_a_damaged_file_is_an_error_and_not_an_objection(original, edited):
    file = weights_of(edited, "unet")
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(IntegrityError):
        objections(original, edited)


def test_weights_keep_the_types_of_the_file_and_other_tensors_are_refused(original, model, edited):
    old, new = (load_file(weights_of(folder, "unet")) for folder in (original, edited))
    assert {name: tensor.dtype for name, tensor in old.items()} == {name: tensor.dtype for name, tensor in new.items()}
    assert any(not torch.equal(tensor, new[name]) for name, tensor in old.items())
    with pytest.raises(InputError, match="other tensors"):
        write_part(weights_of(edited, "unet"), model.text_encoder)
    with pytest.raises(InputError, match="exists already"):
        handed_over(original, edited)


# ----------------------------------------------------------------------------------------------------- one file of a workspace


@pytest.fixture
def run(tmp_path):
    """(original, another file with these tensors in the place of its own) -> what is said of the second."""
    own = {"unet.a": torch.zeros(3), "unet.b": torch.zeros(2), "text_encoder.c": torch.zeros(2)}
    save_file(own, tmp_path / "original.safetensors")

    def said(changes, strangers=()):
        save_file({**own, **changes}, tmp_path / "edited.safetensors")
        try:
            require_honest_run(tmp_path / "original.safetensors", tmp_path / "edited.safetensors", strangers)
        except InputError as error:
            return error.code
        return None

    return said


def test_an_edit_of_the_denoiser_is_taken_with_or_without_the_text_encoder(run):
    assert run({"unet.a": torch.ones(3)}) is None
    assert run({"unet.a": torch.ones(3), "text_encoder.c": torch.ones(2)}) is None


def test_attack_a_run_that_changed_the_text_encoder_alone(run):
    assert run({"text_encoder.c": torch.ones(2)}) == PARTS


@pytest.mark.parametrize(
    "odd", [{"unet.d": torch.ones(1)}, {"unet.a": torch.ones(4)}, {"unet.a": torch.ones(3).half()}]
)
def test_attack_a_run_with_other_tensors_than_the_original(run, odd):
    assert run(odd) == CENSUS


def test_attack_a_run_with_a_file_beside_an_honest_edit(run):
    assert run({"unet.a": torch.ones(3)}, ["unet/backup.safetensors"]) == CENSUS


def test_weights_that_did_not_change_are_left_to_the_walk_which_knows_their_digest(run):
    assert run({}) is None
