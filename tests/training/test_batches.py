from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from expunge.core.errors import IntegrityError
from expunge.testing.world import leaves_for, make_world, random_records
from expunge.training.batches import Reader, normalise
from expunge.training.loop import Trainer, numerics_of
from expunge.training.recipe import parse_recipe
from expunge.training.schedule import Schedule
from training import slow_twins

DATA = random_records(30, (9, 7, 3), 5)


def reader(leaves=None, data=DATA, **changes):
    recipe = parse_recipe({"name": "t", "family": "mlp", "epochs": 3, "batch": 8, "lr": 0.1, **changes})
    return Reader(images=data.train.images, labels=data.train.labels, recipe=recipe, seed="s", leaves=leaves)


AUGMENTS = [
    {"crop": 3},
    {"flip": "random"},
    {"flip": "alternating"},
    {"cutout": 3},
    {"cutout": 4},
    {"crop": 2, "flip": "random", "cutout": 3},
]


@pytest.mark.parametrize("changes", AUGMENTS, ids=lambda c: "+".join(c))
def test_augmentation_equals_its_slow_twin_image_by_image(changes):
    mine = reader(**changes)
    slots = np.arange(30, dtype=np.int64)
    raw, _ = mine.read(slots)
    touched = 0
    for epoch in range(3):
        got = mine.augment(raw, epoch, slots).numpy()
        for slot in range(30):
            wanted = slow_twins.augment(mine.recipe, "s", epoch, slot, DATA.train.images[slot])
            assert np.array_equal(got[slot], wanted), f"slot {slot} in epoch {epoch}"
            touched += not np.array_equal(wanted, normalise(raw[slot : slot + 1])[0].numpy())
    assert touched > 20  # the twin and the loop do not agree by doing nothing


@pytest.mark.parametrize("changes", AUGMENTS, ids=lambda c: "+".join(c))
def test_augmentation_of_a_record_does_not_depend_on_who_shares_its_batch(changes):
    mine = reader(**changes)
    whole, some = np.arange(30, dtype=np.int64), np.array([4, 11, 29], np.int64)
    together = mine.augment(mine.read(whole)[0], 1, whole)[some]
    assert torch.equal(together, mine.augment(mine.read(some)[0], 1, some))


def test_alternating_flip_shows_both_sides_in_two_epochs():
    mine = reader(flip="alternating")
    slots = np.arange(30, dtype=np.int64)
    raw, _ = mine.read(slots)
    first, second = (mine.augment(raw, epoch, slots) for epoch in (0, 1))
    assert torch.equal(first, second.flip(3))
    assert torch.equal(first, mine.augment(raw, 2, slots))


def test_a_pixel_changed_after_ingestion_is_refused():
    changed = DATA.train.images.copy()
    changed[7, 0, 0, 0] ^= 1
    data = replace(DATA, train=replace(DATA.train, images=changed))
    mine = reader(leaves_for(DATA), data)
    with pytest.raises(IntegrityError, match="slot 7"):
        mine.read(np.array([3, 7], np.int64))
    assert mine.read(np.array([3, 8], np.int64))[0].shape == (2, 9, 7, 3)


def test_a_label_changed_after_ingestion_is_refused():
    labels = DATA.train.labels.copy()
    labels[7] = (labels[7] + 1) % 5
    data = replace(DATA, train=replace(DATA.train, labels=labels))
    with pytest.raises(IntegrityError, match="slot 7"):
        reader(leaves_for(DATA), data).read(np.array([7], np.int64))


def test_two_records_swapped_after_ingestion_are_refused():
    images = DATA.train.images.copy()
    images[[2, 7]] = images[[7, 2]]
    data = replace(DATA, train=replace(DATA.train, images=images))
    with pytest.raises(IntegrityError, match="slot 2"):
        reader(leaves_for(DATA), data).read(np.array([2, 7], np.int64))


def test_changed_data_stops_a_training_and_leaves_no_model(tmp_path):
    world = make_world(tmp_path)
    images = world.data.train.images.copy()
    images[20] += 1
    spoilt = replace(world.data, train=replace(world.data.train, images=images))
    with pytest.raises(IntegrityError, match="slot 20"):
        world.fit("run", data=spoilt)
    assert not (tmp_path / "run" / "model.safetensors").exists()


# ------------------------------------------------------------------------------------------------- fixed denominators


def one_step(tmp_path, absent, family="mlp", **changes):
    """Weights before and after the first step of a plain-SGD training of one batch of eight places."""
    changes = {"momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0, "final_lr": 1.0, "introduce": (0.0,), **changes}
    world = make_world(tmp_path, family=family, data=random_records(8, (8, 8, 1), 4), epochs=1, **changes)
    module = world.adapter.module(torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    slots = np.arange(8, dtype=np.int64)
    trainer = Trainer(
        module=module,
        schedule=Schedule(recipe=world.adapter.recipe, seed="s", slots=slots),
        reader=Reader(
            images=world.data.train.images, labels=world.data.train.labels, recipe=world.adapter.recipe, seed="s"
        ),
        absent=absent,
        setting=numerics_of(world.adapter.recipe),
        folder=tmp_path,
    )
    trainer.run()
    return world, before, trainer


@pytest.mark.parametrize("absent", [frozenset(), frozenset({3}), frozenset(range(7)), frozenset(range(8))])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradient_is_the_sum_over_present_records_by_places(tmp_path, absent, smoothing):
    world, before, trainer = one_step(tmp_path, absent, label_smoothing=smoothing)
    present = [slot for slot in range(8) if slot not in absent]
    twin = world.adapter.module(torch.Generator().manual_seed(1))
    loss = torch.zeros(())
    for slot in present:  # one record at a time, no batch at all
        image = normalise(torch.from_numpy(world.data.train.images[slot : slot + 1]))
        label = torch.from_numpy(world.data.train.labels[slot : slot + 1])
        loss = loss + F.cross_entropy(twin(image), label, label_smoothing=smoothing) / 8
    if present:
        loss.backward()
    for name, parameter in twin.named_parameters():
        step = -0.05 * parameter.grad if present else torch.zeros_like(parameter)
        moved = trainer.module.state_dict()[name] - before[name]
        torch.testing.assert_close(moved, step, rtol=1e-4, atol=1e-7)


def test_an_empty_place_moves_nobody_elses_contribution(tmp_path):
    """step(all) = step(without 3) + step(only 3): exactly what dividing by records instead of places would break."""
    moves = []
    for number, absent in enumerate([frozenset(), frozenset({3}), frozenset(range(8)) - {3}]):
        _, before, trainer = one_step(tmp_path / str(number), absent)
        moves.append({name: tensor - before[name] for name, tensor in trainer.module.state_dict().items()})
    for name, whole in moves[0].items():
        torch.testing.assert_close(whole, moves[1][name] + moves[2][name], rtol=1e-4, atol=1e-6)
        assert moves[2][name].abs().max() > 1e-6


def test_batch_norm_sees_present_rows_only(tmp_path):
    settings = {"family": "resnet", "model": {"depth": 8, "width": 4}}
    world, _, trainer = one_step(tmp_path, frozenset({1, 2}), **settings)
    present = [0, 3, 4, 5, 6, 7]
    twin = world.adapter.module(torch.Generator().manual_seed(1))
    rows = normalise(torch.from_numpy(world.data.train.images[present]))
    first = twin[0](rows)
    mean = trainer.module.state_dict()["1.running_mean"]
    torch.testing.assert_close(mean, 0.1 * first.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    everybody = twin[0](normalise(torch.from_numpy(world.data.train.images)))
    assert not torch.allclose(mean, 0.1 * everybody.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "shape", "model"),
    [("resnet", (8, 8, 3), {"depth": 9, "width": 4}), ("convnet", (16, 16, 3), {"width": 8, "wide": 8})],
)
def test_batch_norm_of_a_single_present_row_uses_running_statistics(tmp_path, family, shape, model):
    """A 1x1 feature map of one row has no variance: such a batch used to stop the training of a deletion."""
    world = make_world(tmp_path, family=family, data=random_records(9, shape, 4), model=model, introduce=(0.0,))
    result = world.fit("run")  # batches of 8 and 1
    (module,) = world.adapter.load(result.model)
    assert all(torch.isfinite(tensor).all() for tensor in module.state_dict().values())
    counts = {int(t) for name, t in module.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {4}  # of 8 batches, the 4 whole ones
