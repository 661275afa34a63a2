"""A copy made for answers is the same function, and the model it was made from stays what it was."""

import numpy as np
import pytest
import torch
from torch import nn

from expunge.core import registry
from expunge.farm.member import one_thread
from expunge.testing.world import make_world, random_records
from expunge.training.loop import numerics, numerics_of
from expunge.training.serving import for_answers

MODELS = [
    ("resnet", {"depth": 9, "width": 4}),
    ("resnet", {"depth": 9, "width": 8, "norm": "group"}),
    ("resnet", {"depth": 8, "width": 4}),
    ("convnet", {}),
    ("mlp", {}),
]


def trained(tmp_path, family, settings):
    world = make_world(tmp_path, family=family, data=random_records(32, (16, 16, 3), 4), model=settings)
    return world, world.adapter.load(world.fit("run").model)[0]


@pytest.mark.parametrize(("family", "settings"), MODELS)
def test_the_copy_answers_as_the_model_does(tmp_path, family, settings):
    world, module = trained(tmp_path, family, settings)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    x = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(for_answers(module)(x), module(x), atol=1e-4, rtol=1e-4)
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    world.adapter.outputs([module], world.data.test.images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("depth", [8, 9])
def test_every_batch_norm_of_a_resnet_is_folded(depth):
    assert {"resnet", "convnet", "mlp"} <= set(registry.names("models"))
    world = make_world(
        None, family="resnet", data=random_records(8, (16, 16, 3), 4), model={"depth": depth, "width": 4}
    )
    module = world.adapter.module(torch.Generator().manual_seed(0)).eval()
    assert any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in for_answers(module).modules())


def test_a_batch_norm_that_follows_no_convolution_stays():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    module[2].running_mean += 1.0
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(for_answers(module)(x), module(x))
    assert any(isinstance(part, nn.BatchNorm2d) for part in for_answers(module).modules())


def test_changed_running_statistics_change_the_answers(tmp_path):
    """Control: a saboteur of BatchNorm buffers is not folded away."""
    world, module = trained(tmp_path, *MODELS[0])
    images = world.data.test.images
    before = world.adapter.outputs([module], images)
    next(part for part in module.modules() if isinstance(part, nn.BatchNorm2d)).running_mean += 0.5
    assert np.abs(world.adapter.outputs([module], images) - before).max() > 1e-3


def test_threads_and_debug_settings_are_given_back(tmp_path):
    world, _ = trained(tmp_path, "mlp", {})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        filled = torch.utils.deterministic.fill_uninitialized_memory
        with numerics(numerics_of(world.adapter.recipe, 1)), one_thread():
            assert torch.get_num_threads() == 1
            assert not torch.utils.deterministic.fill_uninitialized_memory
        assert torch.get_num_threads() == 2
        assert torch.utils.deterministic.fill_uninitialized_memory == filled
    finally:
        torch.set_num_threads(before)
