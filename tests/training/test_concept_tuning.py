"""What the erasers are made of: schedules of three kinds, trajectories, masks, adapters, open names, weighted scores."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from expunge.core.errors import InputError, IntegrityError
from expunge.testing.erasers import PROMPTS, fresh_model, works_of
from expunge.training.text_to_image.adapter import Adapted, merged, with_adapter, without_adapter
from expunge.training.text_to_image.conversion import asked_of, levels_of, noised_by, read_back, steps_of
from expunge.training.text_to_image.inversion import named_at
from expunge.training.text_to_image.libraries import library
from expunge.training.text_to_image.matching import learned
from expunge.training.text_to_image.negative import Negative, walked
from expunge.training.text_to_image.reader import folded, unfolded
from expunge.training.text_to_image.saliency import salient
from expunge.training.text_to_image.sampler import Sampling
from expunge.training.text_to_image.subtracted import Draw, both_terms, mixed, weights_of
from expunge.training.text_to_image.tuning import ATTENTION, Tuning, noise_like, picked, tuned
from expunge.training.text_to_image.words import spoken

KINDS = ("epsilon", "v_prediction", "sample")
RED, BLUE = PROMPTS["red"], PROMPTS["blue"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fresh_model(tmp_path_factory.mktemp("fresh"))


def predicting(model, kind):
    """The same networks under a schedule that predicts something else (noise only where some signal is left at the end)."""
    config = {**model.schedule.config, "prediction_type": kind, "rescale_betas_zero_snr": kind != "epsilon"}
    return replace(model, schedule=library("diffusers").DDIMScheduler.from_config(config))


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_prediction_gives_picture_and_noise_back(model, kind):
    model, times = predicting(model, kind), torch.tensor([0, 100, 500, 900])
    clean, noise = numbers(4, 12, 4, 4), numbers(4, 12, 4, 4, seed=1)
    noisy, asked = noised_by(model, clean, noise, times), asked_of(model, clean, noise, times)
    torch.testing.assert_close(noisy, model.schedule.add_noise(clean, noise, times))
    found = read_back(model, asked, noisy, times)
    torch.testing.assert_close(found[0], clean, atol=2e-3, rtol=0)
    torch.testing.assert_close(found[1], noise, atol=2e-3, rtol=0)
    if kind == "v_prediction":
        torch.testing.assert_close(asked, model.schedule.get_velocity(clean, noise, times))


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_end_where_the_sampler_does(model, kind):
    """diffusers' own DDIM steps are the twin."""
    model = predicting(model, kind)
    how = Negative(eta=1, walks=3, moves=5, guidance=3, renew=0, preserve_scale=0)
    walks = walked(model, model.encode([RED, BLUE, RED]), how, None, model.noise("ab", np.arange(3)))
    expected = model.sample([RED, BLUE, RED], Sampling(seed="ab", steps=5)).astype(int)
    assert np.abs(unfolded(walks.last).astype(int) - expected).max() <= 1
    schedule = copy.deepcopy(model.schedule)
    schedule.set_timesteps(5)
    assert walks.times.view(5, 3)[:, 0].tolist() == schedule.timesteps.tolist()


def test_trajectories_have_times_of_their_own_that_cover_the_schedule(model):
    how = Negative(eta=1, walks=50, moves=4, guidance=1, renew=0, preserve_scale=0)
    walks = walked(model, model.encode([RED] * 50), how, "ab", model.noise("ab", np.arange(50), "start"))
    times = walks.times.view(4, 50).numpy()
    assert (times[0] == steps_of(model) - 1).all()
    assert (np.diff(times, axis=0) <= 0).all()
    later = times[1:].ravel()
    assert len(np.unique(later)) > 120
    assert later.min() < 300 < 900 < later.max()
    assert walks.noisy.shape == (200, 12, 4, 4)


def test_picks_are_uniform_and_a_rows_do_not_depend_on_the_batch():
    values = torch.cat([picked("ab", step, 100, 10, 7)[0] for step in range(20)]).numpy()
    counts = np.bincount(values, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = .001
    assert torch.equal(picked("ab", 3, 100, 10)[0][:5], picked("ab", 3, 5, 10)[0])
    clean = torch.zeros(6, 12, 4, 4)
    assert torch.equal(noise_like(clean, "ab", 1)[:2], noise_like(clean[:2], "ab", 1))
    assert not torch.equal(noise_like(clean, "ab", 1), noise_like(clean, "ab", 2))


def test_a_loss_that_leaves_the_numbers_is_an_error(model):
    def loss(student, step):
        return student.unet.conv_out.bias.sum() * (math.inf if step else 1.0)

    with pytest.raises(IntegrityError, match="diverged"):
        tuned(model, loss, Tuning(steps=3, lr=0.1), changes="conv_out")
    with pytest.raises(InputError, match="nothing to tune"):
        tuned(model, loss, Tuning(steps=1, lr=0.1), changes="no such tensor")


def test_a_step_of_the_loop_is_adams_first_step(model):
    """Where every gradient is 1, Adam's first step is lr."""
    before = model.unet.conv_out.bias.clone()
    done = tuned(model, lambda s, step: s.unet.conv_out.bias.sum(), Tuning(steps=1, lr=0.1), changes=r"conv_out\.bias")
    torch.testing.assert_close(done.model.unet.conv_out.bias, before - 0.1, atol=1e-6, rtol=0)


def test_masked_weights_stay_to_the_last_bit_and_the_mask_takes_the_largest_gradients(model):
    loss = learned(model, works_of("red"), "ab", 4)
    masks = salient(model, loss, 0.25, 2)
    chosen = sum(int(mask.sum()) for mask in masks.values())
    assert chosen == pytest.approx(0.25 * sum(mask.numel() for mask in masks.values()), rel=0.01)
    student = model.with_unet(fresh_copy(model))
    sum(loss(student, step) for step in range(2)).backward()
    gradients = {name: weight.grad.abs() for name, weight in student.unet.named_parameters() if weight.grad is not None}
    inside = min(float(size[masks[name] == 1].min()) for name, size in gradients.items() if masks[name].any())
    outside = max(float(size[masks[name] == 0].max()) for name, size in gradients.items() if not masks[name].all())
    assert inside >= outside * 0.999
    after = tuned(model, loss, Tuning(steps=3, lr=0.01), changes="", masks=masks).model.unet.state_dict()
    for name, old in model.unet.state_dict().items():
        assert torch.equal(after[name][masks[name] == 0], old[masks[name] == 0]), name
    assert not torch.equal(after["conv_in.weight"], model.unet.conv_in.weight)


def fresh_copy(model):
    import copy

    return copy.deepcopy(model.unet).requires_grad_(True)


# ------------------------------------------------------------------------------------------------------------ adapters


def predicted(model, unet):
    with torch.no_grad():
        return model.with_unet(unet).predict(numbers(2, 12, 4, 4), torch.tensor([10, 900]), model.encode([RED, BLUE]))


def test_an_adapter_starts_at_nothing_adds_its_product_and_is_taken_off_without_trace(model):
    unet = with_adapter(model.unet, ATTENTION, 2, 0.5, "ab")
    layers = [layer for layer in unet.modules() if isinstance(layer, Adapted)]
    assert len(layers) == 16  # query, key, value and output of four places
    torch.testing.assert_close(predicted(model, unet), predicted(model, model.unet))
    for number, layer in enumerate(layers):
        layer.up.data = numbers(*layer.up.shape, seed=number)
        expected = layer.base.weight + 0.5 * layer.up @ layer.down
        torch.testing.assert_close(layer.summed, expected)
    assert float((predicted(model, unet) - predicted(model, model.unet)).abs().max()) > 1e-3
    torch.testing.assert_close(predicted(model, merged(unet)), predicted(model, unet))
    bare, old = without_adapter(unet).state_dict(), model.unet.state_dict()
    assert list(bare) == list(old) == list(merged(unet).state_dict())
    assert all(torch.equal(bare[name], old[name]) for name in old)
    with pytest.raises(InputError, match="no linear layers"):
        with_adapter(model.unet, "nowhere", 2, 1, "ab")


# ---------------------------------------------------------------------------------------------------------- open names


@pytest.mark.parametrize(
    ("prompt", "other", "open_"),
    [
        (RED, BLUE, "red"),
        ("red style", "blue style", "red"),
        ("a car in red", "a car in blue", "red"),
        ("a car in red red", "a car in red", "red"),
        ("red", "red", "red"),
    ],
)
def test_the_name_is_what_differs_from_the_guide(model, prompt, other, open_):
    at, tokens = named_at(model, prompt, other), model.tokens([prompt])[0]
    assert model.tokenizer.decode(tokens[at]).replace("</w>", "") == open_


def test_a_name_spoken_with_its_own_vectors_is_the_prompt(model):
    table, tokens = model.text_encoder.get_input_embeddings().weight, model.tokens([RED])
    name = named_at(model, RED, BLUE)
    at = torch.tensor([name.start])
    with torch.no_grad():
        torch.testing.assert_close(spoken(model.text, tokens, at, table[tokens[:, name]]), model.encode([RED]))
        other = spoken(model.text, tokens, at, table[model.tokens([BLUE])[:, name]])
    torch.testing.assert_close(other, model.encode([BLUE]))


# ------------------------------------------------------------------------------------- subtracted importance-sampled


def draw_of(times=(300, 700, 950, 999), from_work=(True, False, True, False)):
    """Works and other pictures that are near each other, so that neither weight is 0."""
    clean = folded(works_of("red").images[:4])
    return Draw(
        clean=clean,
        work=clean + 0.02 * numbers(4, 12, 4, 4, seed=5),
        times=torch.tensor(times),
        noise=numbers(4, 12, 4, 4, seed=6),
        from_work=torch.tensor(from_work),
    )


def density(model, noisy, start, time):
    """q(m | start) as the product of normal densities, up to the factor that cancels, in double precision."""
    squared = model.schedule.alphas_cumprod[time].double()
    distance = (noisy.double() - squared.sqrt() * start.double()).square().sum()
    return torch.exp(-distance / (2 * (1 - squared)))


@pytest.mark.parametrize("mixture", [0.0, 0.3, 0.5, 1.0])
def test_weights_are_ratios_of_densities(model, mixture):
    draw = draw_of()
    noisy, found = mixed(model, draw), weights_of(model, draw, mixture)
    for row in range(4):
        retained, forgotten = (
            density(model, noisy[row], start[row], draw.times[row]) for start in (draw.clean, draw.work)
        )
        whole = (1 - mixture) * retained + mixture * forgotten
        assert float(found[0][row]) == pytest.approx(float(retained / whole), rel=1e-3)
        assert float(found[1][row]) == pytest.approx(float(forgotten / whole), rel=1e-3)


def test_weights_of_far_pictures_do_not_underflow(model):
    near = draw_of(times=(0, 10, 20, 30))
    found = weights_of(model, replace(near, work=near.work - 1), 0.5)
    assert found[0].tolist() == pytest.approx([0, 2, 0, 2])
    assert found[1].tolist() == pytest.approx([2, 0, 2, 0])


def naive_gradient(model, draw, words, mixture, scales):
    """The published loss row by row, in noise, divided by a_t^2 where the model predicts a velocity."""
    unet, noisy, total = fresh_copy(model), mixed(model, draw), 0.0
    student = model.with_unet(unet)
    for row in range(4):
        time, one = draw.times[row : row + 1], slice(row, row + 1)
        signal, spread = levels_of(model, time)
        ends = draw.clean[one], draw.work[one]
        here = [density(model, noisy[row], end[0], time[0]) for end in ends]
        whole = (1 - mixture) * here[0] + mixture * here[1]
        for sign, scale, end, mine, said in zip((1, -1), scales, ends, here, words, strict=True):
            noise = (noisy[one] - signal * end) / spread
            _, found = read_back(model, student.predict(noisy[one], time, said[one]), noisy[one], time)
            gain = signal**2 if model.prediction == "v_prediction" else 1.0
            total = total + sign * scale * (mine / whole).float() * ((found - noise).square() / gain).mean() / 4
    total.backward()
    return torch.cat([weight.grad.flatten() for weight in unet.parameters() if weight.grad is not None])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("mixture", [0.0, 0.5, 1.0])
def test_gradient_is_the_published_formulas(model, kind, mixture):
    model, draw = predicting(model, kind), draw_of(times=(300, 500, 700, 900))
    words, scales = (model.encode([BLUE] * 4), model.encode([RED] * 4)), (16 / 12, 1.7 * 4 / 12)
    unet = fresh_copy(model)
    whole, part = both_terms(model.with_unet(unet), draw, words, mixture)
    (scales[0] * whole - scales[1] * part).backward()
    mine = torch.cat([weight.grad.flatten() for weight in unet.parameters() if weight.grad is not None])
    expected = naive_gradient(model, draw, words, mixture, scales)
    assert float((mine - expected).norm() / expected.norm()) < 2e-3


@pytest.mark.parametrize(("mixture", "term"), [(0.0, 0), (1.0, 1)])
def test_without_a_mixture_one_term_is_the_plain_loss(model, mixture, term):
    """l = 0: all pictures as in training; l = 1: the forgotten works as in training, which is NegGrad."""
    draw = draw_of(from_work=(bool(mixture),) * 4)
    words = model.encode([BLUE] * 4), model.encode([RED] * 4)
    start = (draw.clean, draw.work)[term]
    found = model.predict(noised_by(model, start, draw.noise, draw.times), draw.times, words[term])
    plain = F.mse_loss(found, asked_of(model, start, draw.noise, draw.times))
    assert float(both_terms(model, draw, words, mixture)[term]) == pytest.approx(float(plain), rel=1e-3)
