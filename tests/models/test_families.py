"""What each family's network is, beyond what the conformance suite asks of all of them."""

import numpy as np
import pytest
import torch
from torch import nn

from expunge.core.errors import InputError
from expunge.testing.world import make_world, random_records
from expunge.training.batches import normalise

COLOUR = random_records(20, (16, 16, 3), 4)


def module(tmp_path, family, seed=1, **model):
    world = make_world(tmp_path, family=family, data=COLOUR, model=model)
    return world.adapter.module(torch.Generator().manual_seed(seed))


def parameters(net):
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize(("depth", "convolutions"), [(8, 7), (20, 19), (32, 31)])
def test_resnet_of_depth_6n_plus_2_has_that_many_layers(tmp_path, depth, convolutions):
    net = module(tmp_path, "resnet", depth=depth, width=4)
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == convolutions
    assert sum(isinstance(m, nn.Linear) for m in net.modules()) == 1


def test_resnet20_has_the_parameters_of_the_paper(tmp_path):
    """He et al. 2016, table 6: 0.27 M for ResNet-20 of width 16 and ten classes."""
    world = make_world(
        tmp_path, family="resnet", data=random_records(20, (32, 32, 3), 10), model={"depth": 20, "width": 16}
    )
    net = world.adapter.module(torch.Generator().manual_seed(1))
    assert parameters(net) == 269_722


def test_resnet9_has_eight_convolutions_and_its_scale(tmp_path):
    net = module(tmp_path, "resnet", depth=9, width=4)
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 8
    images = normalise(torch.from_numpy(COLOUR.train.images[:4]))
    doubled = module(tmp_path, "resnet", depth=9, width=4, scale="0.25")
    torch.testing.assert_close(doubled.eval()(images), 2 * net.eval()(images))


def test_residual_block_adds_its_input(tmp_path):
    from expunge.models.resnet import _Residual

    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    zero = nn.Conv2d(4, 4, 1, bias=False)
    nn.init.zeros_(zero.weight)
    assert torch.equal(_Residual(zero)(x), x)
    wider = nn.Conv2d(4, 8, 1, stride=2, bias=False)
    nn.init.zeros_(wider.weight)
    short = _Residual(wider, stride=2, grow=4, last=True)(x)
    assert torch.equal(short[:, 2:6], x[:, :, ::2, ::2].clamp_min(0))
    assert (short[:, :2] == 0).all()
    assert (short[:, 6:] == 0).all()


def test_group_norm_couples_no_records_and_batch_norm_does(tmp_path):
    images = normalise(torch.from_numpy(COLOUR.train.images[:6]))
    for norm, coupled in (("group", False), ("batch", True)):
        net = module(tmp_path, "resnet", depth=8, width=8, norm=norm).train()
        alone, together = net(images[:2]), net(images)[:2]
        assert torch.allclose(alone, together, atol=1e-5) != coupled
        assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == coupled


def test_convnet_freezes_its_first_layer_and_no_record_touches_it(tmp_path):
    world = make_world(tmp_path, family="convnet", data=COLOUR, model={"width": 8, "wide": 8})
    before = world.adapter.module(torch.Generator().manual_seed(1))[0].weight
    other = world.adapter.module(torch.Generator().manual_seed(2))[0].weight
    (trained,) = world.adapter.load(world.fit("run").model)
    assert torch.equal(before, other)
    assert torch.equal(before, trained[0].weight)
    assert trained[0].bias.abs().max() > 0
    filters = before[:12].flatten(1)
    gram = filters @ filters.T
    assert torch.allclose(gram - torch.diag(gram.diagonal()), torch.zeros(12, 12), atol=1e-4), "orthogonal filters"
    assert torch.equal(before[12:], -before[:12])


def test_convnet_starts_from_partial_identity(tmp_path):
    net = module(tmp_path, "convnet", width=32, wide=32)
    weight = net[2].weight  # 24 -> 32 channels
    x = torch.randn(1, 24, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(nn.functional.conv2d(x, weight, padding=1)[:, :24], x, atol=1e-5)


@pytest.mark.parametrize(("family", "width", "depth", "layers"), [("mlp", 7, 1, 2), ("mlp", 7, 3, 4), ("mlp", 7, 0, 1)])
def test_mlp_has_the_layers_it_was_asked_for(tmp_path, family, width, depth, layers):
    net = module(tmp_path, family, width=width, depth=depth)
    linear = [m for m in net if isinstance(m, nn.Linear)]
    assert len(linear) == layers
    assert linear[0].in_features == 16 * 16 * 3
    assert linear[-1].out_features == 4


@pytest.mark.parametrize("family", ["mlp", "resnet", "convnet"])
def test_initial_weights_come_from_the_generator_alone(tmp_path, family):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = module(tmp_path, family, seed=1).state_dict()
    torch.manual_seed(77)
    again, other = module(tmp_path, family, seed=1).state_dict(), module(tmp_path, family, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = [name for name, tensor in first.items() if tensor.ndim > 1]
    same = [name for name in matrices if torch.equal(first[name], other[name])]
    # The convnet's frozen stem and its square convolutions (Dirac) are the same for everybody; nothing else is.
    assert len(same) == (5 if family == "convnet" else 0)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


BAD = [
    ("mlp", {"widht": 7}),
    ("mlp", {"width": "wide"}),
    ("mlp", {"width": -3}),
    ("resnet", {"depth": 10}),
    ("resnet", {"depth": "nine"}),
    ("resnet", {"norm": "layer"}),
    ("resnet", {"blocks": 2}),
    ("resnet", {"scale": "big"}),
    ("convnet", {"depth": 9}),
    ("convnet", {"width": "x"}),
]


@pytest.mark.parametrize(("family", "model"), BAD)
def test_bad_model_settings_are_bad_input(tmp_path, family, model):
    world = make_world(tmp_path, family=family, data=COLOUR, model=model)
    with pytest.raises(InputError):
        world.fit("run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_images_too_small_for_convnet_are_bad_input(tmp_path):
    world = make_world(tmp_path, family="convnet", data=random_records(20, (8, 8, 3), 4))
    with pytest.raises(InputError, match="too small"):
        world.fit("run")


def test_recipe_of_another_family_is_refused(tmp_path):
    from expunge.models.mlp import Mlp

    recipe = make_world(tmp_path, family="resnet", data=COLOUR).adapter.recipe
    with pytest.raises(InputError, match="another family"):
        Mlp(recipe, classes=4, shape=(16, 16, 3))


@pytest.mark.parametrize("views", ["none", "flip", "flip+shift"])
def test_test_time_views_are_the_ones_the_recipe_states(tmp_path, views):
    world = make_world(tmp_path, family="mlp", data=COLOUR, test_augment=views)
    model = world.adapter.load(world.fit("run").model)
    images = COLOUR.test.images
    net = model[0]

    def logits(pixels):
        with torch.no_grad():
            return net(normalise(torch.from_numpy(np.ascontiguousarray(pixels)))).numpy()

    def both(pixels):
        return (logits(pixels) + logits(pixels[:, :, ::-1])) / 2

    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    wanted = {
        "none": logits(images),
        "flip": both(images),
        "flip+shift": both(images) / 2 + (both(padded[:, :-2, :-2]) + both(padded[:, 2:, 2:])) / 4,
    }[views]
    wanted = wanted - np.log(np.exp(wanted).sum(1, keepdims=True))
    np.testing.assert_allclose(world.adapter.outputs(model, images), wanted, atol=1e-4)


def test_averaged_model_is_the_moving_average_of_the_weights(tmp_path):
    """Twin: the checkpoints of an unaveraged run with one step an epoch are the weights to be averaged."""
    settings = {"data": random_records(8, (8, 8, 1), 4), "epochs": 5, "introduce": (0.0,)}
    plain = make_world(tmp_path / "plain", **settings)
    averaged = make_world(tmp_path / "averaged", averaging=0.7, **settings)
    from expunge.training.checkpoint import load_tensors

    steps = [
        {
            name.removeprefix("weights."): tensor
            for name, tensor in load_tensors(file)[0].items()
            if name.startswith("weights.")
        }
        for file in sorted((plain.fit("run").model.parent / "checkpoints").iterdir())[1:]
    ]
    steps.append(load_tensors(tmp_path / "plain" / "run" / "model.safetensors")[0])
    mean = steps[0]
    for weights in steps[1:]:
        mean = {name: 0.7 * mean[name] + 0.3 * weights[name] for name in mean}
    got = load_tensors(averaged.fit("run").model)[0]
    for name, tensor in mean.items():
        torch.testing.assert_close(got[name], tensor)
        assert not torch.equal(got[name], steps[-1][name])
