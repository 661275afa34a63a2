"""What a bank's models are asked about works: one number each, the same noise for every model, against a slow twin."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from expunge.core.errors import CheckBroken
from expunge.farm.asked import askable, denoised, record_answers, sketch_of
from expunge.models.generators.unet import TextUNet
from expunge.stats.likelihood import on_both
from expunge.testing.generators import random_pictures
from expunge.training.recipe import parse_recipe
from expunge.training.rng import normals
from expunge.training.text_to_image.captions import tokens_of
from expunge.training.text_to_image.family import LEVELS
from expunge.training.text_to_image.noise import STEPS, levels
from expunge.training.text_to_image.reader import folded
from picture_files import TINY

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = random_pictures(6)


@pytest.fixture(scope="module")
def adapter():
    return TextUNet(parse_recipe(TINY), size=8)


def untrained(adapter, seed):
    return [adapter.module(torch.Generator().manual_seed(seed)).eval()]


class Listening(torch.nn.Module):
    """Answers with the noisy picture, and keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def forward(self, noisy, times, tokens):
        self.heard.append((noisy.clone(), times.clone(), tokens.clone()))
        return noisy


def slow_loss(module, works, slot):
    """One work, one level at a time: v = a e - s x against the answer, mean over pixels, mean over levels."""
    clean = folded(works.images[slot : slot + 1])
    tokens = torch.from_numpy(tokens_of([works.captions[slot]]))
    errors = []
    for level in range(LEVELS):
        time = torch.tensor([(2 * level + 1) * STEPS // (2 * LEVELS)])
        drawn = normals("denoise", "noise", level, np.array([slot]), clean.numel()).astype(np.float32)
        noise = torch.from_numpy(drawn).view_as(clean)
        signal, spread = levels(time)
        with torch.no_grad():
            answer = module(signal * clean + spread * noise, time, tokens)
        errors.append(float(((answer - (signal * noise - spread * clean)) ** 2).mean()))
    return sum(errors) / len(errors)


def test_the_number_is_minus_the_mean_denoising_loss(adapter):
    model = untrained(adapter, 1)
    found = record_answers(adapter, model, DATA.train, range(6))
    assert found.dtype == np.float32
    assert (found < 0).all()
    np.testing.assert_allclose(found, [-slow_loss(model[0], DATA.train, slot) for slot in range(6)], rtol=1e-4)


def test_some_works_answer_as_they_do_among_all(adapter):
    model = untrained(adapter, 2)
    whole = denoised(adapter, model, DATA.train, range(6))
    np.testing.assert_allclose(denoised(adapter, model, DATA.train, [4, 1]), whole[[4, 1]], rtol=1e-5)


def test_every_model_is_asked_at_the_same_levels_with_the_same_noise(adapter):
    one, other = Listening(), Listening()
    denoised(adapter, [one], DATA.train, [2, 5])
    denoised(adapter, [other], DATA.train, [2, 5])
    assert len(one.heard) == LEVELS
    for mine, theirs in zip(one.heard, other.heard, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(mine, theirs, strict=True))
    levels_asked = [int(times[0]) for _, times, _ in one.heard]
    assert levels_asked == sorted(set(levels_asked))
    noisy = one.heard[-1][0]  # almost nothing but noise: that of two works differs
    assert not torch.allclose(noisy[0], noisy[1], atol=0.5)


def test_a_work_that_was_learned_better_scores_higher(adapter):
    """Direction: an answer nearer to the velocity is a smaller loss and a larger number."""

    class Right(torch.nn.Module):
        def __init__(self, share):
            super().__init__()
            self.share, self.level = share, 0

        def forward(self, noisy, times, tokens):
            clean = folded(DATA.train.images[:1])
            signal, spread = levels(times)
            noise = (noisy - signal * clean) / spread
            return self.share * (signal * noise - spread * clean)

    none, half, all_of_it = (denoised(adapter, [Right(share)], DATA.train, [0])[0] for share in (0.0, 0.5, 1.0))
    assert none < half < all_of_it
    assert all_of_it == pytest.approx(0, abs=1e-6)


def test_a_sketch_holds_all_works_and_all_test_works_and_nothing_that_is_right_or_wrong(adapter):
    model = untrained(adapter, 3)
    sketch = sketch_of(adapter, model, DATA)
    assert {name: array.shape for name, array in sketch.items()} == {"train": (6,), "test": (6,), "correct": (0,)}
    assert askable(DATA) == list(range(6))
    np.testing.assert_allclose(sketch["test"], denoised(adapter, model, DATA.test, range(6)), rtol=1e-6)


def test_a_probe_that_asks_for_labels_is_broken_on_works_and_counts_as_not_measured():
    job = SimpleNamespace(data=DATA, block=(0,), population=(0,))
    with pytest.raises(CheckBroken, match="no labels"):
        on_both(job, lambda images, labels: np.zeros(len(images)))
