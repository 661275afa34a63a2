"""Probes on a model that knows two artists, red and blue: what prompts no longer see after an edit, one learned word does."""

import numpy as np
import pytest
import torch

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.testing.generators import make_picture_world
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.learning import denoising_errors
from expunge.training.text_to_image.noise import noised
from expunge.training.text_to_image.probing import Probe, ProbeJob, Wording
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.words import Slotted

WORDING = Wording(
    direct=lambda _, __: "a car image in red style",
    other={"plain": lambda _, __: "a car in red", "wrong": lambda _, __: "a car in reb style"},
    described=lambda _, __: "a car in the colour of blood",
    neutral=lambda _: "a car",
    open_=lambda _: "a car image in * style",
)
LEARNED = ("soft_prompt", "textual_inversion")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """A model of 8x8 pictures is too small to share: threads that wait for each other cost ten times its work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that draws red and blue by name, and its test pictures."""
    folder = tmp_path_factory.mktemp("made")
    world = make_picture_world(folder, family="unet", epochs=150, batch=16, introduce=(0.0,))
    export(world.adapter.load(world.fit("run", keep_checkpoints=False).model)[0], folder / "model")
    return TextToImage.from_dir(folder / "model"), world.data.test


@pytest.fixture(scope="module")
def original(made):
    return made[0]


@pytest.fixture(scope="module")
def edited(original):
    """Red is led to blue, for the direct prompt."""
    job = EraseJob(
        model=original,
        erase=("a car image in red style",),
        guide=("a car image in blue style",),
        preserve=("a car", ""),
        seed="ab",
    )
    return registry.load("erasers", "uce")(lam=0.01).erase(job).model


def job(made, model, **changes):
    settings = {"seeds": 2, "pictures": 6, "seed": "ab", "how": Sampling(seed="", steps=10)}
    return ProbeJob(
        model=model,
        wording=WORDING,
        objects=("automobile",),
        works=made[1].in_style("red"),
        photos={"automobile": made[1].in_style("blue").images},
        **{**settings, **changes},
    )


def redness(probed):
    """(S,) red minus blue, 0..255."""
    means = probed.images.astype(float).mean(axis=(1, 2, 3))
    return means[:, 0] - means[:, 2]


def weights(model):
    return {name: t.clone() for part in (model.unet, model.text_encoder) for name, t in part.state_dict().items()}


@pytest.mark.parametrize("name", registry.names("probes"))
def test_a_probe_gives_its_pictures_for_each_seed_and_leaves_the_model_alone(made, original, name):
    probe, before = registry.load("probes", name)(), weights(original)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    found = probe.run(job(made, original, budget=0.05))
    assert isinstance(probe, Probe)
    assert probe.name == name
    assert found.images.shape == (2, 6, 8, 8, 3)
    assert found.images.dtype == np.uint8
    assert len(found.objects) == 6
    assert all(values.shape == (2,) and np.isfinite(values).all() for values in found.figures.values())
    assert not np.array_equal(found.images[0], found.images[1])
    after = weights(original)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(p.requires_grad or p.grad is not None for p in original.unet.parameters())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", registry.names("probes"))
def test_a_seed_gives_alone_what_it_gives_among_others(made, original, name):
    """Otherwise runs would not be independent, and their count would be worth nothing."""
    probe = registry.load("probes", name)()
    pair = probe.run(job(made, original, seeds=2, budget=0.05))
    alone = probe.run(job(made, original, seeds=1, budget=0.05))
    assert np.abs(pair.images[:1].astype(int) - alone.images.astype(int)).max() <= 3  # sums over another batch


def test_prompts_see_the_style_in_the_original_and_not_after_the_edit(made, original, edited):
    direct = registry.load("probes", "direct")()
    assert redness(direct.run(job(made, original))).min() > 80
    assert redness(direct.run(job(made, edited))).max() < -20


def test_one_learned_word_brings_back_what_the_edit_only_hid(made, edited):
    found = registry.load("probes", "textual_inversion")().run(job(made, edited))
    assert redness(found).min() > 80


def test_one_learned_vector_brings_back_what_the_edit_only_hid(made, edited):
    found = registry.load("probes", "soft_prompt")().run(job(made, edited))
    assert redness(found).min() > 80


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_denoising_errors_know_what_is_predicted(original, prediction):
    """A model that predicts perfectly has no error, whatever it is that it predicts."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(4, 12, 4, 4, generator=generator), torch.randn(4, 12, 4, 4, generator=generator)
    times = torch.tensor([1, 400, 700, 999])
    _, velocity = noised(clean, noise, times)
    answer = {"epsilon": noise, "v_prediction": velocity, "sample": clean}

    class Oracle(TextToImage):
        prediction = kind = None

        def predict(self, noisy, times, words):
            return answer[self.kind]

    fields = {name: getattr(original, name) for name in ("unet", "text_encoder", "tokenizer", "schedule", "vae")}
    for kind in answer:
        oracle = type("Oracle", (Oracle,), {"prediction": prediction, "kind": kind})(**fields)
        errors = denoising_errors(oracle, clean, noise, times, torch.zeros(4, 1, 16))
        assert (float(errors.max()) < 1e-9) == (kind == prediction)


def test_a_word_in_a_vectors_clothes_is_that_word(original):
    """The open place filled with a known word's own vector gives that word's embeddings."""
    slotted = Slotted.of(original, ["a car image in * style", "* shows a car"])
    word = int(original.tokens(["style"])[0, 1])
    vectors = slotted.table[word].expand(2, -1)
    with torch.no_grad():
        found = slotted.encode(torch.tensor([0, 1]), vectors)
    expected = original.encode(["a car image in style style", "style shows a car"])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sentence", ["a car", "* and *"])
def test_a_sentence_has_one_open_place(original, sentence):
    with pytest.raises(InputError, match="one open place"):
        Slotted.of(original, [sentence])


@pytest.mark.parametrize("bad", [{"seeds": 0}, {"pictures": 0}, {"budget": 0}])
def test_counts_out_of_range_are_refused(made, original, bad):
    with pytest.raises(InputError, match="out of range"):
        job(made, original, **bad)


@pytest.mark.parametrize(("name", "bad"), [("soft_prompt", {"vectors": 0}), ("textual_inversion", {"rate": 0})])
def test_settings_out_of_range_are_refused(name, bad):
    with pytest.raises(InputError, match="out of range"):
        registry.load("probes", name)(**bad)
