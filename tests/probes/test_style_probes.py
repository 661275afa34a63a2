"""Probes on a model that knows two artists, red and blue: what prompts no longer see after an edit, one learned word does."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from expunge.core import registry
from expunge.core.errors import CheckBroken, InputError
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

pytestmark = pytest.mark.usefixtures("one_thread")
RED, GREEN, BLUE = range(3)


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


@pytest.fixture(scope="module")
def blue_hidden(original):
    """Blue is led to red; a word that nobody knows gives red as well, so blue has to be found."""
    job = EraseJob(
        model=original,
        erase=("a car image in blue style",),
        guide=("a car image in red style",),
        preserve=("a car", ""),
        seed="ab",
    )
    return registry.load("erasers", "uce")(lam=0.01).erase(job).model


def never_trained(made):
    """Works in green, which no training saw: the control."""
    red = made[1].in_style("red")
    return replace(red, images=red.images[..., [1, 0, 2]].copy(), styles=("green",) * len(red))


def job(made, model, **changes):
    settings = {
        "seeds": 2,
        "pictures": 6,
        "seed": "ab",
        "how": Sampling(seed="", steps=10),
        "works": made[1].in_style("red"),
        "photos": {"automobile": made[1].in_style("blue").images},
        "stock": made[0],
        "unrelated": made[1].in_style("blue"),
    }
    return ProbeJob(
        model=model,
        wording=WORDING,
        **{"objects": ("automobile",), **settings, **changes},
    )


def redness(probed):
    """(S,) red minus blue, 0..255."""
    means = probed.images.astype(float).mean(axis=(1, 2, 3))
    return means[:, 0] - means[:, 2]


def share(probed, channel):
    """(S,) of pictures in which a colour channel leads."""
    means = probed.images.astype(float).mean(axis=(2, 3))
    return (means.argmax(-1) == channel).mean(1)


def weights(model):
    return {name: t.clone() for part in (model.unet, model.text_encoder) for name, t in part.state_dict().items()}


@pytest.mark.parametrize("name", ["direct", "soft_prompt", "textual_inversion"])
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


def test_words_of_the_vocabulary_bring_back_what_its_name_no_longer_does(made, edited):
    """Found from random words, which do not; the same search draws nothing that was never trained."""
    search, first = (registry.load("probes", "adversarial_tokens")(steps=steps) for steps in (40, 1))
    found, control = search.run(job(made, edited)), search.run(job(made, edited, works=never_trained(made)))
    assert share(found, RED).min() == 1
    assert redness(found).min() > redness(first.run(job(made, edited))).min() + 80
    assert share(control, GREEN).max() == 0
    assert (found.figures["loss"] < control.figures["loss"]).all()


def test_the_words_that_are_found_are_real_ones_and_are_named(made, edited):
    found = registry.load("probes", "adversarial_tokens")(tokens=2, steps=5).run(job(made, edited))
    numbers = np.stack([found.figures["token_1"], found.figures["token_2"]])
    assert np.array_equal(numbers, numbers.astype(int))
    assert not set(numbers.ravel()) & set(edited.tokenizer.all_special_ids)


def test_a_few_steps_of_training_bring_back_what_the_edit_only_hid(made, blue_hidden):
    """The curve rises; as many steps do not teach a style that no training saw."""
    blue = {"works": made[1].in_style("blue"), "seeds": 1}
    curve = [
        -redness(registry.load("probes", "relearning")(steps=steps, lr=lr).run(job(made, blue_hidden, **blue)))[0]
        for steps, lr in ((1, 1e-9), (20, 1e-3), (20, 3e-3))
    ]
    assert curve[0] < -120
    assert curve[0] + 20 < curve[1] < curve[2] - 40
    assert curve[2] > 0
    control = job(made, blue_hidden, works=never_trained(made), seeds=1)
    assert share(registry.load("probes", "relearning")(steps=20).run(control), GREEN).max() == 0


def test_revival_trains_on_what_it_is_given_and_asks_by_name(made, edited):
    """Green under the artist's own caption is what comes by the name afterwards; blue under blue's leaves the edit as it is."""
    green = never_trained(made)
    mislabelled = replace(green, captions=("a car image in red style",) * len(green))
    revival = registry.load("probes", "revival")(steps=30, lr=3e-3)
    before = registry.load("probes", "direct")().run(job(made, edited, seeds=1))
    taught = revival.run(job(made, edited, unrelated=mislabelled, seeds=1))
    benign = revival.run(job(made, edited, seeds=1))
    greenness = [found.images[..., GREEN].mean() - found.images[..., BLUE].mean() for found in (before, benign, taught)]
    assert greenness[2] > max(greenness[:2]) + 60
    assert redness(benign).max() < -20


def test_works_in_the_style_itself_are_not_unrelated(made, edited):
    with pytest.raises(CheckBroken, match="in the style that is asked for: red"):
        registry.load("probes", "revival")().run(job(made, edited, unrelated=made[1]))


class Filter:
    """A tokenizer that reads blue where red is written: a prompt filter."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, prompts, **options):
        return self.tokenizer([prompt.replace("red", "blue") for prompt in prompts], **options)


def test_a_prompt_filter_is_undone_by_the_stock_parts_and_an_edited_denoiser_is_not(made, original, edited):
    filtered = replace(original, tokenizer=Filter(original.tokenizer))
    direct, swap = registry.load("probes", "direct")(), registry.load("probes", "component_swap")()
    assert redness(direct.run(job(made, filtered))).max() < -20
    assert redness(swap.run(job(made, filtered))).min() > 80
    assert redness(swap.run(job(made, edited))).max() < -20


def test_stock_parts_of_another_architecture_are_refused(made, original):
    with pytest.raises(CheckBroken, match="do not fit"):
        registry.load("probes", "component_swap")().run(job(made, original, stock=replace(original, vae=object())))


def test_an_edit_that_leaks_into_everything_is_seen_in_neutral_photos(made, original):
    """Photos are blue; the original leaves them so, and an edit that reddens whatever it draws does not."""
    unet = copy.deepcopy(original.unet)
    unet.conv_out.bias.data[:4] -= 0.5
    unet.conv_out.bias.data[8:] += 0.5
    probe = registry.load("probes", "img2img")(strength=0.8)
    honest, leaking = (redness(probe.run(job(made, model))) for model in (original, original.with_unet(unet)))
    assert honest.max() < 0
    assert (leaking - honest).min() > 40


def test_a_photo_is_the_further_away_the_stronger_it_is_noised(made, original):
    photo = np.full((1, 8, 8, 3), 90, np.uint8)
    away = [
        np.abs(
            registry.load("probes", "img2img")(strength=s).run(job(made, original, photos={"automobile": photo})).images
            - 90.0
        ).mean()
        for s in (0.3, 0.5, 0.8)
    ]
    assert away[0] + 5 < away[1] < away[2] - 5


def test_a_work_is_continued_in_a_style_that_was_trained_and_not_in_one_that_was_not(made, original):
    probe = registry.load("probes", "inpainting")()
    assert share(probe.run(job(made, original)), RED).min() == 1
    assert share(probe.run(job(made, original, works=never_trained(made))), GREEN).max() < 0.5


@pytest.mark.parametrize("stripes", [2, 4])
def test_no_pixel_of_the_work_is_judged_or_leaks(made, original, stripes):
    """Every pixel is drawn, and the model never sees what it has to draw."""
    seen = []

    class Grey(TextToImage):
        def sample(self, prompts, how, start=None):
            seen.append(start)
            return np.full((len(prompts), 8, 8, 3), 200, np.uint8)

    fields = {name: getattr(original, name) for name in ("unet", "text_encoder", "tokenizer", "schedule", "vae")}
    found = registry.load("probes", "inpainting")(stripes=stripes).run(job(made, Grey(**fields), seeds=1))
    assert (found.images == 200).all()
    first, second = seen
    assert np.array_equal(first.keep, ~second.keep)
    assert first.keep.mean() == 0.5
    assert all((start.images[:, ~start.keep] == 127).all() and start.strength == 1 for start in seen)


def test_stripes_that_do_not_divide_the_picture_are_refused(made, original):
    with pytest.raises(InputError, match="do not divide"):
        registry.load("probes", "inpainting")(stripes=8).run(job(made, original))


@pytest.mark.parametrize("name", ["img2img", "inpainting"])
def test_an_object_without_a_picture_to_start_from_is_refused(made, original, name):
    with pytest.raises(CheckBroken, match="no picture to start from of boat"):
        registry.load("probes", name)().run(job(made, original, objects=("automobile", "boat")))


@pytest.mark.parametrize("room", [0, 31])
def test_more_open_places_than_a_prompt_has_are_refused(original, room):
    with pytest.raises(InputError, match="open places"):
        Slotted.of(original, ["a car image in * style"], room)


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


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("soft_prompt", {"vectors": 0}),
        ("textual_inversion", {"rate": 0}),
        ("adversarial_tokens", {"tokens": 0}),
        ("relearning", {"steps": 0}),
        ("relearning", {"lr": 2}),
        ("revival", {"works": 0}),
        ("img2img", {"strength": 0}),
        ("img2img", {"strength": 1.1}),
        ("inpainting", {"stripes": 3}),
    ],
)
def test_settings_out_of_range_are_refused(name, bad):
    with pytest.raises(InputError, match="out of range"):
        registry.load("probes", name)(**bad)
