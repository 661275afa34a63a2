"""Noise, captions and reading of the text-to-image families, each against the obvious way of doing it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from expunge.core.errors import InputError, IntegrityError
from expunge.data._captions import FORMS, LANGUAGES, OBJECTS, captions, description, misspellings
from expunge.data._styles import STYLES
from expunge.testing.generators import make_picture_world, random_pictures
from expunge.training.text_to_image.captions import BEGIN, END, LENGTH, tokenizer, tokens_of
from expunge.training.text_to_image.noise import STEPS, levels, noised
from expunge.training.text_to_image.reader import UNCAPTIONED, PictureReader, folded, unfolded

NAMES = [name for style in STYLES.values() for name in (style.artist, style.alias) if name]


def twin_levels():
    """Cosine betas capped at .999 (Nichol and Dhariwal 2021), shifted and scaled to end at 0 (Lin et al. 2024, algorithm 1)."""

    def bar(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    roots, product = [], 1.0
    for step in range(STEPS):
        product *= 1 - min(1 - bar((step + 1) / STEPS) / bar(step / STEPS), 0.999)
        roots.append(math.sqrt(product))
    first, last = roots[0], roots[-1]
    return np.array([(root - last) * first / (first - last) for root in roots])


def test_levels_are_the_cosine_schedule_at_zero_terminal_signal():
    signal, spread = levels(torch.arange(STEPS))
    np.testing.assert_allclose(signal.flatten().numpy(), twin_levels(), atol=2e-5)
    np.testing.assert_allclose((signal**2 + spread**2).flatten().numpy(), 1, atol=1e-6)
    assert float(signal[-1]) == 0


def test_velocity_gives_picture_and_noise_back():
    torch.manual_seed(0)
    clean, noise, times = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4), torch.tensor([0, 10, 500, 900, 999])
    noisy, velocity = noised(clean, noise, times)
    signal, spread = levels(times)
    torch.testing.assert_close(signal * noisy - spread * velocity, clean, atol=1e-5, rtol=0)
    torch.testing.assert_close(spread * noisy + signal * velocity, noise, atol=1e-5, rtol=0)


def test_folding_loses_nothing_and_clips():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert folded(images).shape == (3, 12, 4, 4)
    assert np.array_equal(unfolded(folded(images)), images)
    assert unfolded(torch.full((1, 12, 4, 4), 9.0)).min() == 255


def test_no_artist_is_a_word_of_the_vocabulary_and_no_name_is_unknown():
    """An artist who is erased must leave nothing behind in the tokenizer, and be as spellable as before."""
    known = {word.removesuffix("</w>") for word in tokenizer().get_vocab()}
    assert not known & {part for name in NAMES for part in name.split()}
    rows = tokens_of(NAMES)
    assert all(END not in row[1 : list(row).index(END)] for row in rows.tolist())
    lengths = [row.index(END) - 1 for row in rows.tolist()]
    assert min(lengths) >= 4  # every name takes several tokens, as an artist's does in CLIP


def test_captions_fit_begin_and_end_and_differ():
    places = [(style, obj, language) for style in STYLES for obj in OBJECTS for language in LANGUAGES]
    texts = [captions(style, obj, form, language) for style, obj, language in places for form in range(FORMS)]
    texts += [description(*place) for place in places]
    rows = tokens_of(texts)
    assert rows.shape == (len(texts), LENGTH)
    assert (rows[:, 0] == BEGIN).all()
    assert (rows[:, -1] == END).all()
    assert len({row.tobytes() for row in rows}) == len(set(texts))
    assert np.array_equal(tokens_of(["A CAR Image"]), tokens_of(["a car image"]))
    wrong = misspellings("tavi brenn", "k", 5)
    assert len({row.tobytes() for row in tokens_of(["tavi brenn", *wrong])}) == 6


def test_what_is_no_text_is_refused():
    with pytest.raises(InputError, match="texts"):
        tokens_of([None])
    assert tokens_of([]).shape == (0, LENGTH)


def reader(**changes):
    return PictureReader(pictures=random_pictures(200).train, seed="ab" * 16, **changes)


def test_a_work_is_drawn_the_same_whoever_is_in_its_batch():
    whole, pair = reader().batch(np.arange(8), 3, 0.0), reader().batch(np.array([5, 2]), 3, 0.9)
    for mine, other in zip(whole.inputs + whole.wanted, pair.inputs + pair.wanted, strict=True):
        assert torch.equal(mine[[5, 2]], other)
    other_epoch = reader().batch(np.arange(8), 4, 0.0)
    assert not torch.equal(whole.inputs[0], other_epoch.inputs[0])


def test_steps_are_uniform_and_one_caption_in_ten_is_left_out():
    slots = np.arange(200)
    batches = [reader().batch(slots, epoch, 0.0) for epoch in range(10)]
    times = torch.cat([batch.inputs[1] for batch in batches]).numpy()
    counts = np.histogram(times, bins=10, range=(0, STEPS))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = .001
    empty = torch.from_numpy(tokens_of([""]))
    share = np.mean([(batch.inputs[2] == empty).all(1).float().mean().item() for batch in batches])
    assert abs(share - UNCAPTIONED) < 3 * math.sqrt(0.1 * 0.9 / 2000)


def test_loss_is_the_sum_of_each_pictures_mean():
    found, wanted = torch.zeros(3, 12, 4, 4), torch.ones(3, 12, 4, 4)
    wanted[2] = 2
    assert float(reader().loss(found, (wanted,))) == pytest.approx(1 + 1 + 4)


@pytest.mark.parametrize("change", ["pixels", "caption"])
def test_changed_pixels_and_changed_captions_are_noticed(tmp_path, change):
    world = make_picture_world(tmp_path, family="unet")
    pictures = world.data.train
    if change == "pixels":
        pictures.images[3, 0, 0, 0] ^= 1
    else:
        pictures = replace(pictures, captions=(*pictures.captions[:3], "a car", *pictures.captions[4:]))
    source = PictureReader(pictures=pictures, seed=world.seed, leaves=world.leaves)
    source.batch(np.arange(3), 0, 0.0)
    with pytest.raises(IntegrityError, match="slot 3 is not what was ingested"):
        source.batch(np.arange(5), 0, 0.0)
