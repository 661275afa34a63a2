"""What judges learn from, and the network that learns: the same bytes every time, and no picture moves another's."""

import numpy as np
import pytest
import torch

from expunge.core.errors import IntegrityError
from expunge.core.protocols import FitJob
from expunge.data._pictures import PictureSet, check_pictures
from expunge.data._styles import STYLES
from expunge.training.judging.judge import OTHER
from expunge.training.judging.network import JudgeModel, JudgeReader, network, softened
from expunge.training.judging.pictures import (
    GARBAGE,
    STAMPS,
    STRANGE,
    draw_of,
    garbage_of,
    judge_pictures,
    pictures_digest,
    stamped,
    with_stamp,
)
from expunge.training.loop import numerics_of
from expunge.training.recipe import parse_recipe
from pictures import pictures

OBJECTS = ("airplane", "frog")
LABELS = (*STYLES, OTHER)
RECIPE = {
    "name": "tiny",
    "solver": "adamw",
    "family": "style-judge",
    "epochs": 2,
    "batch": 16,
    "lr": 0.01,
    "threads": 1,
}


def photos(count=4):
    return {name: pictures(count, seed=n) for n, name in enumerate(OBJECTS)}


@pytest.fixture(scope="module")
def learned():
    return judge_pictures(photos(), 2, 1, "judge")


def test_every_style_and_every_kind_of_nothing_is_there(learned):
    check_pictures(learned, "judge")
    assert {style: learned.styles.count(style) for style in LABELS} == {**dict.fromkeys(STYLES, 4), OTHER: len(GARBAGE)}
    garbage = [n for n, style in enumerate(learned.styles) if style == OTHER]
    assert {learned.objects[n] for n in garbage} == {""}


def test_the_same_pictures_every_time_and_others_for_another_role(learned):
    again, other = judge_pictures(photos(), 2, 1, "judge"), judge_pictures(photos(), 2, 1, "test")
    assert pictures_digest(again) == pictures_digest(learned) != pictures_digest(other)


def test_a_stamp_is_small_and_comes_from_the_other_picture():
    one, other = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 9, np.uint8)
    for n in range(50):
        found = with_stamp(one, other, draw_of(str(n)))
        assert STAMPS[0] ** 2 <= (found[..., 0] == 9).sum() <= STAMPS[1] ** 2
    assert one.max() == 0


def test_stamps_change_some_pictures_and_no_label(learned):
    plain = judge_pictures(photos(), 2, 0, "judge")
    found = stamped(plain, "again")
    changed = [n for n in range(len(plain)) if not np.array_equal(found.images[n], plain.images[n])]
    assert 0 < len(changed) < len(plain) / 3
    assert found.styles == plain.styles


@pytest.mark.parametrize("kind", [*GARBAGE, *STRANGE])
def test_kinds_of_nothing_differ_from_picture_to_picture_and_are_keyed(kind, learned):
    styled = judge_pictures(photos(), 2, 0, "judge")
    found, again = (garbage_of(styled, 6, "judge", (kind,)).images for _ in range(2))
    assert np.array_equal(found, again)
    assert len({image.tobytes() for image in found}) > 3
    assert np.array_equal(garbage_of(styled, 2, "judge", (kind,)).images, found[:2])


def test_no_picture_moves_anothers_softening(learned):
    reader = JudgeReader(pictures=learned, styles=LABELS, objects=OBJECTS, seed="s")
    whole, part = reader.batch(np.arange(10), 3, 0.0), reader.batch(np.array([7, 2]), 3, 0.5)
    torch.testing.assert_close(whole.inputs[0][[7, 2]], part.inputs[0], atol=0, rtol=0)
    assert part.wanted[0].tolist() == [LABELS.index(learned.styles[n]) for n in (7, 2)]
    assert not torch.equal(part.inputs[0], reader.batch(np.array([7, 2]), 4, 0.5).inputs[0])


def test_softening_is_mild(learned):
    images = learned.images[:40]
    found = softened(images, "s", 0, np.arange(40)).permute(0, 2, 3, 1).numpy() * 64 + 127.5
    assert found.min() >= 0
    assert found.max() <= 255
    level = np.abs(found.mean(axis=(1, 2, 3)) - images.mean(axis=(1, 2, 3)))
    assert level.max() < 40
    assert level.mean() > 1


def test_nothing_has_no_object_in_the_loss(learned):
    reader = JudgeReader(pictures=learned, styles=LABELS, objects=OBJECTS, seed="s")
    slot = np.array([len(learned) - 1])
    batch = reader.batch(slot, 0, 0.0)
    logits = torch.zeros(1, len(LABELS) + len(OBJECTS))
    assert batch.wanted[1].tolist() == [-1]
    assert float(reader.loss(logits, batch.wanted)) == pytest.approx(np.log(len(LABELS)))


def fit(learned, folder, **more):
    recipe = parse_recipe({**RECIPE, **more})
    model = JudgeModel(recipe, styles=LABELS, objects=OBJECTS)
    data = PictureSet(source="s", note="n", styles=LABELS, objects=OBJECTS, train=learned, test=learned)
    job = FitJob(
        recipe=recipe.model_dump(mode="json"), seed="s", numerics=numerics_of(recipe), data=data, folder=folder
    )
    return model, model.fit(job)


def test_trained_twice_is_the_same_and_answers_are_probabilities(learned, tmp_path):
    model, first = fit(learned, tmp_path / "a")
    assert fit(learned, tmp_path / "b")[1].digest == first.digest
    (module,) = model.load(first.model)
    shares, things = model.answers(module, learned.images[:5])
    assert (shares.shape, things.shape) == ((5, len(LABELS)), (5, 2))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(model.answers(module, learned.images[2:3])[0][0], shares[2], atol=1e-5)


def test_the_network_has_the_stated_size_and_weights_must_fit_it():
    assert 280_000 < sum(p.numel() for p in network(24).parameters()) < 300_000
    model = JudgeModel(parse_recipe(RECIPE), styles=LABELS, objects=OBJECTS)
    with pytest.raises(IntegrityError, match="do not fit"):
        model.filled(network(7).state_dict())
