"""Stable Diffusion XL: asked as its own pipeline asks it, and refused where a prompt would be heard by half."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection

import stable_xl
from expunge.core import registry
from expunge.core.errors import InputError, IntegrityError
from expunge.training.checkpoint import save_tensors
from expunge.training.concepts.files import changed_tensors, edit_file, kv_tensors
from expunge.training.concepts.uce import Scales, edit_of
from expunge.training.text_to_image.autoencoder import to_latents, to_pictures
from expunge.training.text_to_image.cross_attention import keys_and_values, multiplied
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.packed import packed, unpack, unpacked
from expunge.training.text_to_image.sampler import Sampling, TextToImage, fitted
from expunge.training.text_to_image.text_encoders import TextEncoders, fitting
from stable_xl import LENGTH, SIZE, change_index

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = ["a car image in red style", "a car", "bob"]
HOW = Sampling(seed="ab", steps=4)
UNET = "unet/diffusion_pytorch_model.safetensors"
TOKENS, POOLED = 20, 10
"""Numbers in a token of both encoders, 8 and 12, and in the pooled vector."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return stable_xl.write(tmp_path_factory.mktemp("xl") / "model")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


@pytest.fixture(scope="module")
def model(made):
    return TextToImage.from_dir(made)


def twin(folder):
    """The library's own pipeline, moving as DDIM does."""
    found = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    found.scheduler = DDIMScheduler.from_config(found.scheduler.config)
    found.set_progress_bar_config(disable=True)
    return found


def drawn_by(pipe, model, prompts=PROMPTS, guidance=HOW.guidance):
    """(N, S, S, 3) grey levels, not rounded, from the same noise."""
    noise = model.noise(HOW.seed, np.arange(len(prompts)))
    options = {"num_inference_steps": HOW.steps, "guidance_scale": guidance, "latents": noise, "output_type": "np"}
    return 255 * pipe(prompt=prompts, **options).images


# ------------------------------------------------------------------------------------------------------------- the twin


@pytest.mark.parametrize(
    ("settings", "vae"),
    [
        ({}, {}),
        ({"zeros": False, "prediction": "v_prediction"}, {}),
        ({"prediction": "sample"}, {"latents_mean": [0.1, -0.3, 0.2, 0.5], "latents_std": [1.5, 0.5, 2.0, 1.0]}),
    ],
)
def test_pictures_are_those_of_the_librarys_pipeline(tmp_path, settings, vae):
    folder = stable_xl.write(tmp_path / "model", **settings)
    file = folder / "vae" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **vae}))
    model = TextToImage.from_dir(folder)
    found, expected = model.sample(PROMPTS, HOW), drawn_by(twin(folder), model)
    assert found.shape == (3, SIZE, SIZE, 3)
    assert np.abs(found - expected).max() < 0.51  # rounding to 8 bits is a half
    assert np.abs(found[0].astype(int) - found[1]).max() > 20


def test_prompts_are_embedded_as_the_pipeline_embeds_them(made, model):
    tokens, empty, pooled, bare = twin(made).encode_prompt(PROMPTS, do_classifier_free_guidance=True)
    found = model.encode([*PROMPTS, ""])
    assert found.shape == (4, LENGTH + 1, TOKENS)
    torch.testing.assert_close(found[:3, :LENGTH], tokens)
    torch.testing.assert_close(found[:3, LENGTH, :POOLED], pooled)
    assert not found[:, LENGTH, POOLED:].any()
    torch.testing.assert_close(found[3, :LENGTH], empty[0])
    torch.testing.assert_close(found[3, LENGTH, :POOLED], bare[0])
    assert not found[3].any()


def test_nothing_is_embedded_as_words_where_the_directory_says_so(folder):
    change_index(folder, force_zeros_for_empty_prompt=False)
    _, empty, _, bare = twin(folder).encode_prompt(PROMPTS[:1], do_classifier_free_guidance=True, negative_prompt="")
    found = TextToImage.from_dir(folder).encode([""])[0]
    torch.testing.assert_close(found[:LENGTH], empty[0])
    torch.testing.assert_close(found[LENGTH, :POOLED], bare[0])
    assert found.abs().max() > 0.1


def test_one_prediction_is_the_denoisers_with_pooled_vector_and_sizes(made, model):
    pipe, noisy = twin(made), torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    tokens, _, pooled, _ = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
    sizes = pipe._get_add_time_ids(
        (SIZE, SIZE), (0, 0), (SIZE, SIZE), torch.float32, text_encoder_projection_dim=POOLED
    )

    def theirs(pooled, sizes):
        added = {"text_embeds": pooled, "time_ids": sizes.repeat(3, 1)}
        with torch.no_grad():
            return pipe.unet(noisy, 500, encoder_hidden_states=tokens, added_cond_kwargs=added).sample

    with torch.no_grad():
        found = model.predict(noisy, torch.tensor(500), model.encode(PROMPTS))
    torch.testing.assert_close(found, theirs(pooled, sizes))
    assert (found - theirs(pooled * 0, sizes)).abs().max() > 1e-3
    assert (found - theirs(pooled, sizes + 1)).abs().max() > 1e-3


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_each_tokenizer_fills_up_with_its_own_token(made, model, part):
    own = getattr(twin(made), part)
    expected = own(PROMPTS, padding="max_length", truncation=True, max_length=LENGTH).input_ids
    mine = model.tokens(PROMPTS).chunk(2, dim=1)[part == "tokenizer_2"]
    assert mine.tolist() == expected
    assert mine[1, -1] == stable_xl.VOCAB[stable_xl.END if part == "tokenizer" else "!"]


def test_tokenizers_as_the_library_writes_them_now_are_read_alike(model, tmp_path):
    newer = stable_xl.write(tmp_path / "model", old=False)
    assert (newer / "tokenizer_2" / "tokenizer.json").is_file()
    assert torch.equal(TextToImage.from_dir(newer).tokens([*PROMPTS, ""]), model.tokens([*PROMPTS, ""]))


def test_a_picture_depends_on_seed_place_and_prompt_only(model):
    whole = model.sample(PROMPTS, HOW)
    apart = model.sample(PROMPTS, replace(HOW, batch=2)).astype(int)
    assert np.abs(apart - whole).max() <= 1
    assert np.array_equal(model.sample(model.encode(PROMPTS), HOW), whole)
    assert model.sample([], HOW).shape == (0, SIZE, SIZE, 3)
    assert model.encode([]).shape == (0, LENGTH + 1, TOKENS)


def test_embeddings_without_a_pooled_vector_are_refused_and_their_last_token_not_taken_for_one(model):
    words, noisy = model.encode(PROMPTS), torch.zeros(3, 4, 8, 8)
    for short in (words[:, :LENGTH], words[:, :, :8], torch.cat([words, words], dim=1)):
        with pytest.raises(InputError, match="not embedded for this model"):
            model.predict(noisy, torch.tensor(5), short)


class FullVocabulary(SimpleNamespace):
    """A tokenizer of as many words as the real one has, which are not needed here."""

    def get_vocab(self):
        return {}

    def __len__(self):
        return 49408


def test_the_full_size_fits_by_its_shapes():
    """Podell et al. 2023, table 1: 2.6 B parameters; d = 768 + 1280, pooled 1280. No memory: shapes alone are computed with."""
    with torch.device("meta"):
        whole = TextToImage(**stable_xl.full_size(), tokenizer=FullVocabulary(pad_token_id=49407, eos_token_id=49407))
        whole = replace(whole, tokenizer_2=FullVocabulary(pad_token_id=0, eos_token_id=49407))
        fitted(whole)
        assert fitting(whole.text).widths == (768, 1280)
        words = whole.text.embed(torch.zeros(1, 2 * 77, dtype=torch.long))
        assert words.shape == (1, 78, 2048)
        with torch.no_grad():
            assert whole.predict(torch.zeros(1, 4, 8, 8), torch.zeros(1), words).shape == (1, 4, 8, 8)
    assert sum(weight.numel() for weight in whole.unet.parameters()) == 2_567_463_684
    assert len(keys_and_values(whole.unet, 2048)) == 140


# ----------------------------------------------------------------------------------------------------- the autoencoder


def overflowing(precision):
    """An autoencoder whose first layer gives numbers beyond 65504, as XL's does; the next divides them by their size."""
    torch.manual_seed(1)
    made = AutoencoderKL(**stable_xl.vae_config()).eval().requires_grad_(False)
    made.decoder.conv_in.weight.mul_(2e5)
    return made.to(precision)


def test_attack_an_autoencoder_that_overflows_in_half_precision_does_not_make_the_pictures_black(folder):
    """Black pictures show no style: everybody would look erased."""
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    halved = overflowing(torch.float16)
    assert not torch.isfinite(halved.decode(latents.half()).sample).all()
    halved.save_pretrained(folder / "vae", safe_serialization=True)
    model = TextToImage.from_dir(folder)
    assert model.vae.config.force_upcast
    assert next(model.vae.parameters()).dtype == torch.float32
    found, expected = to_pictures(model.vae, latents), to_pictures(halved.float(), latents)
    assert np.array_equal(found, expected)
    assert found.std() > 5


def test_latents_have_the_mean_and_the_deviation_that_the_settings_say():
    torch.manual_seed(1)
    moments = {"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [2.0, 2.0, 4.0, 4.0]}
    plain = AutoencoderKL(**stable_xl.vae_config()).eval().requires_grad_(False)
    moved = AutoencoderKL(**stable_xl.vae_config(**moments)).eval().requires_grad_(False)
    moved.load_state_dict(plain.state_dict())
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    bare = to_latents(plain, images) / 0.13025
    mean, deviation = (torch.tensor(moments[name])[:, None, None] for name in ("latents_mean", "latents_std"))
    torch.testing.assert_close(to_latents(moved, images), (bare - mean) / deviation * 0.13025)
    back = to_pictures(moved, to_latents(moved, images)).astype(int)
    assert np.abs(back - to_pictures(plain, to_latents(plain, images))).max() <= 1


# ------------------------------------------------------------------------------------------------------------ refusals


def gone(*names):
    return lambda folder: [shutil.rmtree(folder / name) for name in names]


def unnamed(*names):
    """Out of the index too, so that nothing says that there was a second encoder."""

    def spoil(folder):
        gone(*names)(folder)
        change_index(folder, **{name: [None, None] for name in names})

    return spoil


def swapped(folder):
    (folder / "tokenizer").rename(folder / "between")
    (folder / "tokenizer_2").rename(folder / "tokenizer")
    (folder / "between").rename(folder / "tokenizer_2")


def another_vocabulary(part):
    def spoil(folder):
        file = folder / part / "vocab.json"
        plain = json.loads(file.read_text())
        plain["a"], plain["b"] = plain["b"], plain["a"]
        file.write_text(json.dumps(plain))

    return spoil


def without_a_tensor(part, number):
    def spoil(folder):
        file = folder / part / "model.safetensors"
        tensors = load_file(file)
        save_file({n: tensors[n] for n in tensors if n != sorted(tensors)[number]}, file, metadata={"format": "pt"})

    return spoil


def stowed(folder):
    file = folder / "text_encoder_2" / "model.safetensors"
    save_file({**load_file(file), "kept.for.later": torch.ones(3)}, file, metadata={"format": "pt"})


def not_finite(folder):
    file = folder / "text_encoder_2" / "model.safetensors"
    tensors = load_file(file)
    tensors["text_projection.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})


def another_encoder(**change):
    def spoil(folder):
        config = stable_xl.text_config(**{"width": 12, "projection": POOLED, **change})
        CLIPTextModelWithProjection(config).save_pretrained(folder / "text_encoder_2", safe_serialization=True)

    return spoil


def another_denoiser(**change):
    def spoil(folder):
        torch.manual_seed(0)
        made = UNet2DConditionModel(**{**stable_xl.unet_config(), **change})
        made.save_pretrained(folder / "unet", safe_serialization=True)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (gone("text_encoder_2"), InputError, "parts are missing: text_encoder_2"),
        (gone("tokenizer_2"), InputError, "parts are missing: tokenizer_2"),
        (unnamed("text_encoder_2", "tokenizer_2"), IntegrityError, "more or less than these text encoders say"),
        (unnamed("text_encoder_2"), IntegrityError, "a tokenizer for each text encoder"),
        (unnamed("tokenizer_2"), IntegrityError, "a tokenizer for each text encoder"),
        (unnamed("text_encoder", "tokenizer"), InputError, "parts are missing: text_encoder, tokenizer"),
        (swapped, IntegrityError, "in each other's place"),
        (another_vocabulary("tokenizer"), IntegrityError, "one vocabulary"),
        (another_vocabulary("tokenizer_2"), IntegrityError, "one vocabulary"),
        (without_a_tensor("text_encoder", 0), IntegrityError, "^text_encoder:"),
        (without_a_tensor("text_encoder_2", 0), IntegrityError, "^text_encoder_2:"),
        (without_a_tensor("text_encoder_2", -1), IntegrityError, "^text_encoder_2:"),
        (stowed, IntegrityError, "^text_encoder_2: tensors that nothing draws with"),
        (not_finite, IntegrityError, "^text_encoder_2: weights are not finite"),
        (another_encoder(end=1), IntegrityError, "pools at token 1"),
        (another_encoder(projection=6), IntegrityError, "of two models"),
        (another_encoder(projection=24), IntegrityError, "wider than the tokens"),
        (another_denoiser(cross_attention_dim=16), IntegrityError, "of two models"),
        (another_denoiser(addition_embed_type=None), IntegrityError, "more or less"),
        (another_denoiser(time_cond_proj_dim=8), IntegrityError, "more or less"),
        (lambda folder: change_index(folder, force_zeros_for_empty_prompt="no"), IntegrityError, "is damaged"),
    ],
)
def test_attack_a_model_that_would_be_asked_by_half_is_not_asked(folder, spoil, error, match):
    spoil(folder)
    with pytest.raises(error, match=match):
        TextToImage.from_dir(folder)


def test_a_joint_transformer_with_two_encoders_is_still_refused_by_name(folder):
    change_index(folder, transformer=["diffusers", "SD3Transformer2DModel"], unet=[None, None])
    with pytest.raises(InputError, match="SD3Transformer2DModel is a joint transformer"):
        TextEncoders.from_dir(folder)


def test_a_change_of_the_second_encoder_is_another_model(folder):
    before, name = read_directory(folder), "text_encoder_2/model.safetensors"
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert read_directory(folder).differs_from(before) == (name,)
    assert read_directory(folder).digest != before.digest


# --------------------------------------------------------------------------------------------------------------- edits

ERASE, GUIDE, KEEP = (PROMPTS[0],), ("a car image",), ("a car", "bob")


def test_an_edit_by_file_is_made_from_prompts_without_the_denoiser(folder, tmp_path):
    """The user's path: text encoders, closed form, file. The eraser in memory is the twin."""
    source, out = folder / UNET, tmp_path / "edited.safetensors"
    text, whole = TextEncoders.from_dir(folder), source.read_bytes()
    source.write_bytes(b"not read")
    TextEncoders.from_dir(folder)
    source.write_bytes(whole)
    edit = edit_of(text.rows(ERASE), text.rows(GUIDE), text.rows(KEEP), Scales())
    edit_file(source, out, edit.factor)
    kept = {span.name for span in kv_tensors(source, TOKENS)}
    assert set(changed_tensors(source, out)) == kept
    assert len(kept) == 2 * (2 + 2 * 2 + 2)  # a transformer of two layers: down, mid, and twice up
    job = EraseJob(model=TextToImage.from_dir(folder), erase=ERASE, guide=GUIDE, preserve=KEEP, seed="ab" * 16)
    in_memory = registry.load("erasers", "uce")().erase(job).model
    shutil.move(out, source)
    by_file = TextToImage.from_dir(folder)
    theirs = dict(in_memory.unet.named_parameters())
    for name, tensor in by_file.unet.named_parameters():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-4, rtol=1e-4)
    assert np.abs(by_file.sample(PROMPTS, HOW).astype(int) - in_memory.sample(PROMPTS, HOW)).max() <= 1
    assert np.abs(by_file.sample(PROMPTS, HOW).astype(int) - job.model.sample(PROMPTS, HOW)).max() > 1


def test_what_is_solved_with_are_tokens_and_no_pooled_vectors(model):
    rows, words = model.text.rows(PROMPTS), model.encode(PROMPTS)
    assert rows.shape == (3 * LENGTH, TOKENS)
    assert np.array_equal(rows.reshape(3, LENGTH, TOKENS), words[:, :LENGTH].double().numpy())


def test_an_edit_of_keys_and_values_leaves_the_second_way_in_open(model):
    """Keys and values that say nothing at all, and two prompts still differ: by their pooled vectors alone."""
    deaf, words = multiplied(model, np.zeros((TOKENS, TOKENS))), model.encode(PROMPTS[:2])
    noisy, times = (
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1),
        torch.tensor(500),
    )
    with torch.no_grad():
        one, two = deaf.predict(noisy, times, words)
        words[1, LENGTH] = words[0, LENGTH]
        same, again = deaf.predict(noisy, times, words)
    assert (one - two).abs().max() > 1e-3
    torch.testing.assert_close(same, again)


# ------------------------------------------------------------------------------------------------------------ one file


def test_a_packed_model_draws_what_its_directory_draws_and_comes_out_as_it_was(made, model, tmp_path):
    save_tensors(tmp_path / "model.safetensors", packed(read_directory(made)))
    net = unpacked(tmp_path / "model.safetensors")
    assert np.array_equal(net.model.sample(PROMPTS, HOW), model.sample(PROMPTS, HOW))
    again = unpack(tmp_path / "model.safetensors", tmp_path / "again")
    assert all(name.endswith(".safetensors") for name in again.differs_from(read_directory(made)))
    assert np.array_equal(TextToImage.from_dir(tmp_path / "again").sample(PROMPTS, HOW), model.sample(PROMPTS, HOW))
    with pytest.raises(InputError, match="its own prompts"):
        net(torch.zeros(1, 4, 8, 8), torch.tensor([1]), torch.zeros(1, LENGTH, dtype=torch.long))


def test_attack_a_packed_model_that_lost_its_second_encoder(made, tmp_path):
    tensors = packed(read_directory(made))
    left = {name: value for name, value in tensors.items() if not name.startswith("text_encoder_2.")}
    save_tensors(tmp_path / "less.safetensors", left)
    with pytest.raises(IntegrityError):
        unpacked(tmp_path / "less.safetensors")
