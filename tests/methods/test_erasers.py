"""Erasers of concepts on a model that knows two colours: erase red towards blue, and see what red and blue then draw.

The model is tiny, so learning rates are larger than the defaults; nothing else was tried out on it.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.testing.erasers import PROMPTS, colour_job, fresh_model, works_of
from expunge.testing.generators import random_pictures
from expunge.training.text_to_image.adapter import merged, without_adapter
from expunge.training.text_to_image.conversion import asked_of, noised_by, read_back
from expunge.training.text_to_image.libraries import library
from expunge.training.text_to_image.sampler import Sampling

NAMES = registry.names("erasers")
HOW = Sampling(seed="cd", steps=10)
FEW = {"steps": 2, "pictures": 2, "walks": 2, "moves": 2, "rounds": 1, "search_steps": 1, "saliency_steps": 1}


def eraser(name, **settings):
    return registry.load("erasers", name)(**settings)


def quick(name):
    import inspect

    known = inspect.signature(registry.load("erasers", name)).parameters
    return eraser(name, **{key: value for key, value in FEW.items() if key in known})


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The networks are too small to share; threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Taught red and blue."""
    fresh = fresh_model(tmp_path_factory.mktemp("fresh"))
    job = replace(colour_job(fresh), retained=random_pictures().train)
    return eraser("purged_finetune", steps=300, lr=0.005, batch=16).erase(job).model


def colour(model, artist):
    return model.sample([PROMPTS[artist]] * 12, HOW).mean((0, 1, 2))


def shares(model, before):
    """How far from red to blue, 0 to 1, the mean colours of red's and blue's pictures are."""
    red, blue = (colour(before, artist) for artist in ("red", "blue"))
    way = blue - red
    return tuple(float((colour(model, artist) - red) @ way / (way @ way)) for artist in ("red", "blue"))


def test_control_the_model_knows_both_colours(model):
    red, blue = (colour(model, artist) for artist in ("red", "blue"))
    assert red[0] - red[2] > 100
    assert blue[2] - blue[0] > 100


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("uce", {}),
        ("rece", {}),
        ("concept_ablation", {"steps": 120, "lr": 0.01, "pictures": 32}),
        ("lora", {"steps": 100, "lr": 0.01, "pictures": 32}),
        ("salun", {"steps": 80, "lr": 0.003}),
        ("robust", {"steps": 80, "lr": 0.01, "rounds": 1, "searches": 1, "search_steps": 20, "pictures": 32}),
    ],
)
def test_red_becomes_its_guide_and_blue_stays(model, name, settings):
    erased = eraser(name, **settings).erase(colour_job(model))
    red, blue = shares(erased.model, model)
    assert red > 0.7, (red, blue)
    assert abs(blue - 1) < 0.3, (red, blue)
    if "final_loss" in erased.figures and name != "salun":
        assert erased.figures["final_loss"] < erased.figures["first_loss"] / 3


def first_guess(model, prompt):
    """The mean blue minus red of the picture that the model expects before it has seen anything but noise, in -1..1."""
    noise, times = torch.randn(16, 12, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((16,), 999)
    with torch.no_grad():
        found = model.predict(noise, times, model.encode([prompt] * 16))
    clean = read_back(model, found, noise, times)[0]
    channels = torch.nn.functional.pixel_shuffle(clean, 2).mean((0, 2, 3))
    return float(channels[2] - channels[0])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("esd_x", {"lr": 0.01, "preserve_scale": 1}),
        ("esd_u", {"lr": 0.001, "preserve_scale": 1}),
        ("esd_x", {"lr": 0.01}),
    ],
)
def test_red_is_answered_as_negative_guidance_would(model, name, settings):
    """Known: at pure noise the answer is bare - (red - bare), beyond the bare prompt's; it goes most of the way there."""
    erased = eraser(name, steps=100, walks=16, moves=10, **settings).erase(colour_job(model))
    red, bare = first_guess(model, PROMPTS["red"]), first_guess(model, "")
    wanted = bare - (red - bare)
    assert abs(first_guess(erased.model, PROMPTS["red"]) - wanted) < 0.5 * abs(red - wanted)
    assert erased.figures["final_loss"] < erased.figures["first_loss"]
    if "preserve_scale" in settings:
        assert abs(shares(erased.model, model)[1] - 1) < 0.3


def test_tuning_on_blue_alone_leaves_red_where_it_was(model):
    """The baseline's honest answer: nothing that is retained contradicts red."""
    erased = eraser("purged_finetune", steps=60, lr=0.001).erase(colour_job(model))
    red, blue = shares(erased.model, model)
    assert red < 0.5
    assert abs(blue - 1) < 0.2


def known(model, pictures):
    """The mean error of the model on pictures under their captions, at fixed noise and steps."""
    clean, words = model.latents(pictures.images), model.encode(pictures.captions)
    errors = []
    with torch.no_grad():
        for time in (300, 600, 900):
            times = torch.full((len(clean),), time)
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(time))
            found = model.predict(noised_by(model, clean, noise, times), times, words)
            errors.append(float((found - asked_of(model, clean, noise, times)).square().mean()))
    return float(np.mean(errors))


def test_siss_makes_the_works_worse_known_and_not_the_others(model):
    erased = eraser("siss", steps=40, lr=0.001).erase(colour_job(model)).model
    works, others = works_of("red"), works_of("blue")
    assert known(erased, works) > 1.1 * known(model, works)
    assert known(erased, others) < 1.1 * known(model, others)
    naive = eraser("siss", steps=40, lr=0.001, share=0.0).erase(colour_job(model)).model
    assert known(naive, works) < known(erased, works)


def test_an_adapter_is_labelled_and_taken_off_it_leaves_the_original(model):
    erased = quick("lora").erase(colour_job(model))
    assert erased.removable == "adapter"
    bare = without_adapter(erased.model.unet).state_dict()
    assert all(torch.equal(bare[name], old) for name, old in model.unet.state_dict().items())
    adapted, flat = (
        colour(erased.model.with_unet(unet), "red") for unet in (erased.model.unet, merged(erased.model.unet))
    )
    assert np.abs(adapted - flat).max() < 0.1
    assert all(not quick(name).erase(colour_job(model)).removable for name in ("uce", "concept_ablation"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("uce", "rece")])
def test_another_seed_gives_other_weights(model, name):
    first, second = (quick(name).erase(colour_job(model, seed=seed)).model.unet.state_dict() for seed in ("ab", "cd"))
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("kind", ["epsilon", "sample"])
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_prediction_is_tuned(model, name, kind):
    config = {**model.schedule.config, "prediction_type": kind, "rescale_betas_zero_snr": kind != "epsilon"}
    other = replace(model, schedule=library("diffusers").DDIMScheduler.from_config(config))
    found = quick(name).erase(colour_job(other))
    assert all(np.isfinite(value) for value in found.figures.values())


def test_rece_is_its_formula_layer_by_layer(model):
    """Equation 9 by sums over layers, UCE by an inverse, on the weights that are sampled from."""
    erase, guide, keep = (model.encode([PROMPTS[artist]])[0].double().numpy() for artist in ("red", "blue", "blue"))
    old = {
        k: w.detach().double().numpy()
        for k, w in model.unet.named_parameters()
        if k.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
    eye = np.eye(16)

    def uce(weight, away, towards):
        left = 0.1 * eye + away.T @ away + keep.T @ keep
        return weight @ (0.1 * eye + towards.T @ away + keep.T @ keep) @ np.linalg.inv(left)

    once = {name: uce(weight, erase, guide) for name, weight in old.items()}
    left = 1e-3 * eye + sum(weight.T @ weight for weight in once.values())
    back = (np.linalg.solve(left, sum(once[name].T @ old[name] for name in old)) @ erase.T).T
    expected = {name: uce(w, np.concatenate([erase, back]), np.concatenate([guide, guide])) for name, w in old.items()}
    found = dict(eraser("rece").erase(colour_job(model)).model.unet.named_parameters())
    assert max(np.abs(found[name].numpy() - weight).max() for name, weight in expected.items()) < 1e-4


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("uce", {"lam": -1}),
        ("rece", {"rounds": 0}),
        ("esd_x", {"eta": 0}),
        ("esd_u", {"renew": -1}),
        ("esd_u", {"guidance": 51}),
        ("concept_ablation", {"steps": 0}),
        ("lora", {"rank": 0}),
        ("salun", {"share": 0}),
        ("siss", {"mixture": 1.1}),
        ("robust", {"searches": 0}),
        ("purged_finetune", {"lr": 0}),
        ("purged_finetune", {"batch": 0}),
    ],
)
def test_settings_out_of_range_are_refused(name, settings):
    with pytest.raises(InputError, match="out of range"):
        eraser(name, **settings)


@pytest.mark.parametrize("settings", [{"pictures": 0}, {"preserve_scale": -1}])
def test_settings_that_only_a_job_uses_are_refused_with_it(model, settings):
    with pytest.raises(InputError, match="out of range"):
        eraser("concept_ablation", **settings).erase(colour_job(model))
