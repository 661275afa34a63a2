"""A text-to-image model that was trained elsewhere: taken in whole or not at all, edited and never trained again."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import stable_xl
from expunge.core import registry
from expunge.core.errors import Held, InputError, IntegrityError, NotErased
from expunge.core.finding import Guarantee
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.statement import parse_statement
from expunge.testing.style_evidence import honest_styles
from expunge.training.checkpoint import load_tensors, save_tensors
from expunge.training.recipe import parse_recipe
from expunge.training.text_to_image.directory import INDEX, read_directory
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.packed import SETTINGS, tensors_of, unpack, unpacked
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.workflow import verify
from expunge.workflow.adopt import adopt
from expunge.workflow.intake import Resolution
from expunge.workflow.planner import unlearn_job
from expunge.workflow.selftest.edits import SabotagedEdit
from expunge.workflow.styles.edits import ELSEWHERE
from expunge.workflow.styles.handed import require_honest_run
from picture_files import ARTISTS, TINY, untrained
from recommending import failed_steps
from workspaces import vouch_for

pytestmark = pytest.mark.usefixtures("one_thread")

UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
HOW = Sampling(seed="ab", steps=2)
PROMPTS = ["a car image in Bo Blue style", "a car"]


def directory(folder, size=16, width=16):
    """A model of twice the width that the workspace's recipe has: nobody here could train it."""
    recipe = parse_recipe({**TINY, "model": {**TINY["model"], "width": width}})
    net = registry.load("generators", "unet")(recipe, size=size).module(torch.Generator().manual_seed(1))
    export(net.eval(), folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("elsewhere") / "model")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


@pytest.fixture
def empty(tmp_path):
    with untrained(tmp_path / "ws") as workspace:
        yield workspace


@pytest.fixture
def workspace(empty, made):
    adopt(empty, [made])
    vouch_for(empty)
    return empty


@contextmanager
def nothing_adopted(workspace):
    before = workspace.log.size
    yield
    assert workspace.log.size == before
    assert workspace.state().model is None
    assert list((workspace.root / "store" / "runs").iterdir()) == []


def weights(workspace):
    return workspace.root / workspace.served().run / "model.safetensors"


# ---------------------------------------------------------------------------------------------------------- taking in


def test_what_is_served_draws_what_the_directory_draws(empty, made):
    adopted = adopt(empty, [made])
    assert empty.served().digest == adopted.record.digest
    assert (
        unpacked(weights(empty)).model.sample(PROMPTS, HOW) == TextToImage.from_dir(made).sample(PROMPTS, HOW)
    ).all()
    logged = next(entry.payload for entry in empty.log.entries() if entry.kind == "model.adopted")
    assert logged["directory"] == read_directory(made).digest


def test_the_menu_says_that_only_edits_are_left(empty, made):
    menu = {option.name: option for option in adopt(empty, [made]).menu}
    assert [name for name, option in menu.items() if option.possible] == ["erasers/NAME"]
    assert menu["erasers/NAME"].guarantee == "EMPIRICAL at most"
    assert menu["retrain"].why == ELSEWHERE


def test_it_comes_out_again_as_the_directory_it_was(empty, made, tmp_path):
    adopt(empty, [made])
    again = unpack(weights(empty), tmp_path / "again")
    assert {name for name in again.differs_from(read_directory(made)) if not name.endswith(".safetensors")} == set()
    for name in (UNET, TEXT):
        before, after = load_file(made / name), load_file(tmp_path / "again" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key].float(), after[key]) for key in before)
    with pytest.raises(InputError, match="exists already"):
        unpack(weights(empty), tmp_path / "again")


def test_it_is_never_written_with_the_settings_of_the_models_that_are_trained_here(empty, made, tmp_path):
    adopt(empty, [made])
    with pytest.raises(InputError, match="of its own"):
        export(unpacked(weights(empty)), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_model_with_an_autoencoder_is_taken_in_whole(folder, tmp_path):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        latent_channels=12,
    )
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**index, "vae": ["diffusers", "AutoencoderKL"]}))
    with untrained(tmp_path / "ws", size=64) as workspace:
        adopt(workspace, [folder])
        mine = unpacked(weights(workspace)).model
    assert all(torch.equal(value, mine.vae.state_dict()[name]) for name, value in vae.state_dict().items())
    drawn = mine.sample(PROMPTS[:1], HOW)
    assert drawn.shape == (1, 64, 64, 3)
    assert (drawn == TextToImage.from_dir(folder).sample(PROMPTS[:1], HOW)).all()


def test_stable_diffusion_xl_is_taken_in_whole_edited_and_served_with_both_encoders(tmp_path, monkeypatch):
    folder = stable_xl.write(tmp_path / "xl" / "model")
    prompt = f"a car image in {ARTISTS[1]} style"
    with untrained(tmp_path / "ws", size=stable_xl.SIZE) as workspace:
        adopt(workspace, [folder])
        vouch_for(workspace)
        before = unpacked(weights(workspace)).model
        pictures = before.sample([prompt], HOW)
        assert (pictures == TextToImage.from_dir(folder).sample([prompt], HOW)).all()
        old = {name: tensor.clone() for name, tensor in load_tensors(weights(workspace))[0].items()}
        monkeypatch.setattr(verify, "style_evidence", lambda *_: honest_styles())
        outcome = workspace.run(workspace.request(block=ARTISTS[1]), ["erasers/uce"])
        assert outcome.guarantee is Guarantee.EMPIRICAL
        new, _ = load_tensors(weights(workspace))
        assert (unpacked(weights(workspace)).model.sample([prompt], HOW) != pictures).any()
    assert {name.partition(".")[0] for name in new} == {"unet", "text_encoder", "text_encoder_2", "vae", SETTINGS}
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert all(".attn2.to_" in name for name in changed)


def test_one_other_word_in_its_settings_is_another_model(empty, folder, tmp_path):
    """The digest that a certificate names covers vocabulary and scheduler: both change what is drawn."""
    first = adopt(empty, [folder]).record.digest
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "timestep_spacing": "leading"}))
    with untrained(tmp_path / "other" / "ws") as other:
        assert adopt(other, [folder]).record.digest != first


# ------------------------------------------------------------------------------------------------------------- attacks


def put(name, data=b""):
    def change(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return change


def without_a_tensor(folder):
    """A library would draw random numbers in its place and say nothing."""
    tensors = load_file(folder / TEXT)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, folder / TEXT)


def not_finite(folder):
    tensors = load_file(folder / UNET)
    tensors[sorted(tensors)[0]][0] = float("nan")
    save_file(tensors, folder / UNET)


def adapter_beside(folder):
    save_file({"a.up": torch.zeros(1)}, folder / "unet" / "pytorch_lora_weights.safetensors")


def spare_part(folder):
    (folder / "safety_checker").mkdir()
    save_file({"a": torch.zeros(1)}, folder / "safety_checker" / "model.safetensors")


def transformer(folder):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**index, "transformer": ["diffusers", "SD3Transformer2DModel"]}))


def another_text_width(folder):
    """Parts of two models: each is sound, and they do not fit."""
    file = folder / "unet" / "config.json"
    recipe = parse_recipe({**TINY, "model": {**TINY["model"], "text_width": 32}})
    net = registry.load("generators", "unet")(recipe, size=16).module(torch.Generator().manual_seed(1))
    net.unet.save_pretrained(file.parent, safe_serialization=True)


def linked(folder):
    (folder / "tokenizer" / "more.json").symlink_to(folder / INDEX)


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (put("pipeline.py"), InputError, "must not be read"),
        (put("unet/diffusion_pytorch_model.bin"), InputError, "must not be read"),
        (linked, InputError, "is a link"),
        (transformer, InputError, "joint transformer"),
        (adapter_beside, InputError, "no part draws with: unet/"),
        (spare_part, InputError, "no part draws with: safety_checker"),
        (without_a_tensor, IntegrityError, "text_encoder"),
        (not_finite, IntegrityError, "not finite"),
        (another_text_width, InputError, "does not take"),
        (put(UNET, b"no weights"), IntegrityError, "unet"),
    ],
)
def test_attack_a_directory_that_must_not_be_taken_in(empty, folder, spoil, error, match):
    spoil(folder)
    with nothing_adopted(empty), pytest.raises(error, match=match):
        adopt(empty, [folder])


def test_other_things_than_one_directory_are_refused(empty, made, tmp_path):
    with nothing_adopted(empty):
        for files in ([made, made], [], [made / UNET], [tmp_path / "nowhere"]):
            with pytest.raises(InputError):
                adopt(empty, files)


def test_a_model_of_pictures_of_another_size_is_refused_before_an_edit_fails_on_them(empty, tmp_path):
    with nothing_adopted(empty), pytest.raises(InputError, match="another size") as refused:
        adopt(empty, [directory(tmp_path / "small", size=8)])
    assert refused.value.expected == "8 pixels a side"


@pytest.mark.parametrize("name", ["../climbed.json", "/etc/climbed.json", "unet/run.py", "unet/a.safetensors"])
def test_attack_settings_that_would_write_elsewhere(workspace, tmp_path, name):
    tensors, _ = load_tensors(weights(workspace))
    plain = json.dumps({name: ""}).encode()
    tensors[SETTINGS] = torch.from_numpy(np.frombuffer(plain, np.uint8).copy())
    save_tensors(tmp_path / "spoiled.safetensors", tensors)
    with pytest.raises(IntegrityError, match="must not hold"):
        unpacked(tmp_path / "spoiled.safetensors")


def test_weights_and_settings_of_two_models_draw_nothing(empty, made, tmp_path):
    adopt(empty, [made])
    tensors, _ = load_tensors(weights(empty))
    first = next(name for name in tensors if name.startswith("unet."))
    save_tensors(tmp_path / "less.safetensors", {name: value for name, value in tensors.items() if name != first})
    with pytest.raises(IntegrityError, match="not of one model"):
        empty.adapter.load(tmp_path / "less.safetensors")


# -------------------------------------------------------------------------------------------------------------- edits


def test_the_plan_says_that_no_training_is_left(workspace):
    found = {item.method: item for item in workspace.plan(workspace.request(block=ARTISTS[1]))}
    trained = {name: item.refused for name, item in found.items() if not name.startswith("erasers/")}
    assert trained["retrain"] == ELSEWHERE
    assert set(trained) >= {"retrain", "replay", "sisa", "finetune"}
    assert None not in trained.values()
    assert found["erasers/uce"].refused is None
    assert found["erasers/uce"].aims_at is Guarantee.EMPIRICAL
    with pytest.raises(Held, match="no method can be used"):
        workspace.run(workspace.request(block=ARTISTS[0]), ["retrain"])


def test_an_edit_that_nobody_can_judge_is_not_released_and_there_is_no_fallback(workspace):
    before = workspace.served().digest
    with pytest.raises(NotErased) as refused:
        workspace.run(workspace.request(block=ARTISTS[1]), ["erasers/uce"])
    assert ELSEWHERE in refused.value.hint
    assert workspace.served().digest == before


def test_an_edit_that_was_shown_is_certified_as_what_it_is(workspace, monkeypatch):
    """With counts made by hand: pictures of a tiny model show nothing."""
    before = {name: tensor.clone() for name, tensor in load_tensors(weights(workspace))[0].items()}  # the file goes
    monkeypatch.setattr(verify, "style_evidence", lambda *_: honest_styles())
    outcome = workspace.run(workspace.request(block=ARTISTS[1]), ["erasers/uce"])
    assert outcome.guarantee is Guarantee.EMPIRICAL
    assert failed_steps(workspace, outcome) == []
    assert "were edited and not trained again" in outcome.certificate.sentence
    payload = payload_of(read_bundle(outcome.certificate.path).json("certificate.json"))
    assert any("trained elsewhere" in line for line in parse_statement(payload).predicate.not_covered.other)
    report = outcome.certificate.report.read_text(encoding="utf-8")
    assert "trained elsewhere" in report
    assert "not measured, the original was adopted" in report
    after, _ = load_tensors(weights(workspace))
    assert torch.equal(before[SETTINGS], after[SETTINGS])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".attn2.to_" in name for name in changed)
    again = workspace.plan(workspace.request(block=ARTISTS[0]))
    assert [item.refused for item in again if item.method == "retrain"] == [ELSEWHERE]


def test_a_cheat_on_its_weights_is_a_file_of_the_same_kind(workspace, tmp_path):
    """So that the self-test of such a workspace can try its cheats on what is served."""
    resolution = Resolution(slots=(0,), ids=("x",), block=None, copies=(), commitment="c", subjects=("s",))
    job = replace(unlearn_job(workspace, resolution), target=tmp_path)
    result = registry.load("saboteurs", "no_op")().unlearn(job)
    before, after = (load_tensors(file)[0] for file in (weights(workspace), result.model))
    assert before.keys() == after.keys()
    assert [name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])] == ["unet"]


def test_a_cheat_against_a_style_is_an_edit_of_the_adopted_model_and_not_told_by_its_file(workspace, tmp_path):
    """Otherwise every cheat would be refused for what it was written as, and no picture of the model would ever be asked for."""
    artist = workspace.data.train.styles[0]
    slots = tuple(slot for slot, style in enumerate(workspace.data.train.styles) if style == artist)
    resolution = Resolution(slots=slots, ids=("x",), block=artist, copies=(), commitment="c", subjects=("s",))
    job = replace(unlearn_job(workspace, resolution), target=tmp_path)
    collapse = registry.load("style_saboteurs", "noise_collapse")()
    result = SabotagedEdit("noise_collapse", collapse, weights(workspace), []).unlearn(job)
    require_honest_run(weights(workspace), result.model, ())
    before, after = (load_tensors(file)[0] for file in (weights(workspace), result.model))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"unet.conv_out.weight", "unet.conv_out.bias"}


def test_an_edit_that_leaves_other_tensors_than_there_were_is_none(workspace):
    model = unpacked(weights(workspace)).model
    model.unet.register_buffer("hidden", torch.zeros(1))
    with pytest.raises(InputError, match="other tensors"):
        tensors_of(model, weights(workspace))
