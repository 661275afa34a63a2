"""Model directories: what may be loaded, what is refused before it is opened, and what a change of one byte does."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from expunge.core.errors import InputError, IntegrityError
from expunge.testing.generators import make_picture_world
from expunge.training.concepts.files import edit_file, kv_tensors
from expunge.training.text_to_image.directory import INDEX, read_directory
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.sampler import Sampling, Start, TextToImage
from expunge.training.text_to_image.whole import refuse_weights_beside

PROMPTS = ["a car image in red style", "a car image in blue style", "a car"]
HOW = Sampling(seed="ab", steps=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that was trained for two epochs, as a directory."""
    folder = tmp_path_factory.mktemp("made")
    world = make_picture_world(folder, family="unet")
    result = world.fit("run")
    net = world.adapter.load(result.model)[0]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    export(net, folder / "model")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    return folder / "model", net


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "model")


@pytest.fixture(scope="module")
def model(made):
    return TextToImage.from_dir(made[0])


def test_what_comes_back_is_what_was_trained_up_to_half_precision(made, model):
    noisy, times = torch.randn(3, 12, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 500, 999])
    tokens = model.tokens(PROMPTS)
    with torch.no_grad():
        expected = made[1](noisy, times, tokens)
        found = model.predict(noisy, times, model.encode(PROMPTS))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
    assert model.prediction == "v_prediction"
    assert model.width == 16


def test_directory_is_read_without_loading_and_names_every_file(folder):
    found = read_directory(folder)
    assert set(found.parts) == {"unet", "text_encoder", "tokenizer", "scheduler"}
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == set(found.files)
    assert len(kv_tensors(found.unet, 16)) == 8


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json", INDEX])
def test_one_changed_byte_is_another_model(folder, name):
    before, raw = read_directory(folder), (folder / name).read_bytes()
    (folder / name).write_bytes(raw + b" " if name.endswith(".json") else raw[:-1] + bytes([raw[-1] ^ 1]))
    after = read_directory(folder)
    assert after.digest != before.digest
    assert after.differs_from(before) == (name,)
    assert before.differs_from(before) == ()


def test_a_file_more_is_another_model(folder):
    before = read_directory(folder)
    (folder / "unet" / "adapter.safetensors").write_bytes(b"left beside")
    after = read_directory(folder)
    assert after.differs_from(before) == ("unet/adapter.safetensors",)
    with pytest.raises(InputError, match="2 weights files"):
        _ = after.unet


@pytest.mark.parametrize(
    "name", ["pipeline.py", "unet/model.bin", "vae/model.ckpt", "weights.pt", "run", "a.pkl", "x.PY"]
)
def test_code_and_pickles_are_refused_by_name_before_anything_is_opened(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match="must not be read"):
        TextToImage.from_dir(folder)


def test_links_are_refused(folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (folder / "unet" / "more.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(InputError, match="is a link"):
        read_directory(folder)


def index(folder, **changes):
    plain = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**plain, **changes}))


def test_a_joint_transformer_is_refused_by_name_and_not_left_untouched_in_silence(folder):
    index(folder, transformer=["diffusers", "SD3Transformer2DModel"])
    with pytest.raises(InputError, match="SD3Transformer2DModel is a joint transformer"):
        read_directory(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"unet": ["my_module", "UNet2DConditionModel"]}, "would run as code"),
        ({"unet": ["diffusers", "UNetMotionModel"]}, "classes that are not known: unet: UNetMotionModel"),
        ({"text_encoder": [None, None]}, "parts are missing: text_encoder"),
        ({"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "parts are missing: text_encoder_2"),
        ({"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}, "another kind of noise"),
        ({"scheduler": ["diffusers", "EDMEulerScheduler"]}, "another kind of noise"),
    ],
)
def test_parts_of_an_index_are_held_to_what_is_known(folder, change, match):
    index(folder, **change)
    with pytest.raises(InputError, match=match):
        read_directory(folder)


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_damaged_settings_are_an_integrity_error(folder, raw):
    (folder / INDEX).write_bytes(raw)
    with pytest.raises(IntegrityError):
        read_directory(folder)


def test_unknown_prediction_types_are_refused(folder):
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "flow"}))
    with pytest.raises(InputError, match="unknown prediction type"):
        read_directory(folder)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, part, bad):
    file = next((folder / part).glob("*.safetensors"))
    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = bad
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="not finite"):
        TextToImage.from_dir(folder)


def test_truncated_weights_are_refused(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="unet cannot be loaded"):
        TextToImage.from_dir(folder)


def changed(folder, part, change):
    file = next((folder / part).glob("*.safetensors"))
    tensors = load_file(file)
    save_file(change(tensors), file, metadata={"format": "pt"})


def without(number):
    """The file without its tensor of this number, by name."""
    return lambda tensors: {name: tensors[name] for name in tensors if name != sorted(tensors)[number]}


def stripped(tensors):
    return {"conv_out.bias": tensors["conv_out.bias"]}


def reshaped(tensors):
    name = sorted(tensors)[0]
    return {**tensors, name: torch.zeros(*tensors[name].shape, 2, dtype=tensors[name].dtype)}


def renamed(tensors):
    name = sorted(tensors)[0]
    return {("other" if key == name else key): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("unet", without(0)),
        ("unet", without(-1)),
        ("unet", stripped),
        ("unet", reshaped),
        ("unet", renamed),
        ("text_encoder", without(0)),
        ("text_encoder", without(-1)),
        ("text_encoder", reshaped),
    ],
)
def test_attack_a_stripped_model_is_not_filled_up_with_random_numbers_and_asked_as_if_it_were_one(folder, part, change):
    """The libraries draw what is missing, and say so to nobody: such a model draws nobody's style and looks clean."""
    changed(folder, part, change)
    with pytest.raises(IntegrityError, match=f"^{part}"):
        TextToImage.from_dir(folder)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_attack_weights_are_not_stowed_away_in_a_file_that_is_asked(folder, part):
    changed(folder, part, lambda tensors: {**tensors, "kept.for.later": torch.ones(3)})
    with pytest.raises(IntegrityError, match="nothing draws with") as refused:
        TextToImage.from_dir(folder)
    assert "kept.for.later" in refused.value.got


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.SAFETENSORS",
        "text_encoder/adapter_model.safetensors",
        "pytorch_lora_weights.safetensors",
    ],
)
def test_weights_beside_those_that_draw_are_told_whatever_they_are_called(folder, name):
    refuse_weights_beside(read_directory(folder))
    save_file({"a": torch.zeros(1)}, folder / name, metadata={"format": "pt"})
    with pytest.raises(InputError, match="no part draws with"):
        refuse_weights_beside(read_directory(folder))


def test_attack_another_variant_beside_does_not_stand_in_for_what_the_file_that_draws_lacks(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    shutil.copy(file, file.with_suffix(".fp16.safetensors"))
    TextToImage.from_dir(folder)
    save_file(without(0)(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"^unet"):
        TextToImage.from_dir(folder)


def test_a_denoiser_in_shards_is_whole_with_all_of_them_and_not_without_one(folder):
    model = TextToImage.from_dir(folder)
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()
    model.unet.save_pretrained(folder / "unet", safe_serialization=True, max_shard_size=20_000)
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    assert np.array_equal(TextToImage.from_dir(folder).sample(PROMPTS, HOW), model.sample(PROMPTS, HOW))
    save_file(without(0)(load_file(shards[0])), shards[0], metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"^unet"):
        TextToImage.from_dir(folder)


def test_positions_that_an_older_library_wrote_beside_the_weights_are_no_weights(folder):
    changed(folder, "text_encoder", lambda t: {**t, "text_model.embeddings.position_ids": torch.arange(4)[None]})
    TextToImage.from_dir(folder)
    changed(folder, "text_encoder", lambda t: {**t, "text_model.embeddings.position_ids": torch.tensor([[3, 1, 2, 0]])})
    with pytest.raises(IntegrityError, match="nothing draws with"):
        TextToImage.from_dir(folder)


def test_a_model_of_latents_without_its_autoencoder_draws_no_pictures(folder):
    """Four channels taken for folded pixels would be grey noise, in which nobody sees a style."""
    index(folder, vae=["diffusers", "AutoencoderKL"])
    with pytest.raises(InputError, match="parts are missing: vae"):
        TextToImage.from_dir(folder)
    index(folder, vae=[None, None])
    unet = UNet2DConditionModel.from_config({**TextToImage.from_dir(folder).unet.config, "in_channels": 4})
    unet.save_pretrained(folder / "unet", safe_serialization=True)
    with pytest.raises(IntegrityError, match="autoencoder"):
        TextToImage.from_dir(folder)


def test_nothing_is_overwritten(made):
    with pytest.raises(InputError, match="exists already"):
        export(made[1], made[0])


def test_a_picture_depends_on_seed_place_and_prompt_only(model):
    whole = model.sample(PROMPTS, HOW)
    assert whole.shape == (3, 8, 8, 3)
    assert np.array_equal(model.sample(PROMPTS, Sampling(seed="ab", steps=4, batch=2)), whole)
    assert np.array_equal(model.sample(PROMPTS[:1], HOW), whole[:1])
    assert not np.array_equal(model.sample(PROMPTS, Sampling(seed="cd", steps=4)), whole)
    assert not np.array_equal(model.sample(PROMPTS[1:], HOW)[0], whole[0])
    assert model.sample([], HOW).shape == (0, 8, 8, 3)


def test_embeddings_are_as_good_as_prompts(model):
    assert np.array_equal(model.sample(model.encode(PROMPTS), HOW), model.sample(PROMPTS, HOW))


def test_guidance_of_one_is_the_captioned_prediction_alone(model):
    """Ho and Salimans 2022, equation 6: bare + 1 (told - bare) = told, up to rounding of 8 bits."""
    plain = model.sample(PROMPTS, Sampling(seed="ab", steps=4, guidance=1)).astype(int)
    almost = model.sample(PROMPTS, Sampling(seed="ab", steps=4, guidance=1 + 1e-6)).astype(int)
    assert np.abs(plain - almost).max() <= 1
    assert np.abs(plain - model.sample(PROMPTS, Sampling(seed="ab", steps=4, guidance=8)).astype(int)).max() > 1


def test_img2img_stays_nearer_to_its_picture_the_weaker_it_is(model):
    start = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    drawn = [model.sample(PROMPTS, HOW, Start(images=start, strength=s)).astype(float) for s in (0.25, 1.0)]
    near, far = (np.abs(image - start).mean() for image in drawn)
    assert near < far
    for strength in (0.0, 1.1):
        with pytest.raises(InputError, match="strength"):
            Start(images=start, strength=strength)


def test_inpainting_keeps_exactly_what_it_was_told_to(model):
    start = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    keep = np.zeros((8, 8), bool)
    keep[:, :3] = True
    found = model.sample(PROMPTS, HOW, Start(images=start, keep=keep))
    assert np.array_equal(found[:, keep], start[:, keep])
    assert not np.array_equal(found[:, ~keep], start[:, ~keep])


def test_a_model_that_draws_no_numbers_is_an_error_and_no_picture(made, tmp_path):
    broken = TextToImage.from_dir(made[0])
    with torch.no_grad():
        broken.unet.conv_out.bias[0] = float("nan")
    with pytest.raises(IntegrityError, match="not finite"):
        broken.sample(PROMPTS, HOW)


def test_an_edit_by_file_is_the_edit_in_memory(folder, tmp_path):
    factor = np.eye(16) + 0.1 * np.random.default_rng(2).standard_normal((16, 16))
    found = read_directory(folder)
    edit_file(found.unet, tmp_path / "edited.safetensors", factor)
    in_memory = TextToImage.from_dir(folder)
    for name, tensor in in_memory.unet.named_parameters():
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            tensor.data = (tensor.data.double() @ torch.from_numpy(factor)).float().half().float()
    shutil.move(tmp_path / "edited.safetensors", found.unet)
    by_file = TextToImage.from_dir(folder)
    assert np.abs(by_file.sample(PROMPTS, HOW).astype(int) - in_memory.sample(PROMPTS, HOW).astype(int)).max() <= 1
    assert read_directory(folder).differs_from(found) == ("unet/diffusion_pytorch_model.safetensors",)
