"""AdamW on the loop: held to its formula, and everything it keeps comes back after a kill or in a replay."""

import numpy as np
import pytest
import torch

from expunge.core.errors import InputProblems
from expunge.testing.world import make_world
from expunge.training.optimisers import optimiser_of, restore_state, state_of
from expunge.training.recipe import AdaptiveRecipe, Recipe, parse_any_recipe, parse_recipe

ADAMW = {"solver": "adamw", "lr": 0.01, "weight_decay": 0.1, "momentum": 0.9, "second_momentum": 0.99}


def recipe(**changes):
    return parse_recipe({"name": "tiny", "family": "mlp", "epochs": 1, "batch": 4, **ADAMW, **changes})


def test_a_solver_makes_it_adaptive_and_plain_recipes_keep_their_digest():
    plain = {"name": "tiny", "family": "mlp", "epochs": 1, "batch": 4, "lr": 0.1}
    assert type(parse_any_recipe(plain)) is Recipe
    assert "solver" not in parse_any_recipe(plain).model_dump()
    assert type(parse_any_recipe({**plain, "solver": "adamw"})) is AdaptiveRecipe
    assert parse_any_recipe({**plain, "solver": "adamw"}).digest != parse_any_recipe(plain).digest
    with pytest.raises(InputProblems, match="solver"):
        parse_recipe({**plain, "solver": "adam"})
    with pytest.raises(InputProblems, match="second_momentum"):
        parse_recipe({**plain, "second_momentum": 0.9})


def test_adamw_is_its_formula():
    """Loshchilov and Hutter 2019, algorithm 2, by hand in double precision: a matrix decays, a vector does not."""
    start = {"matrix": np.array([[1.0, -2.0]]), "vector": np.array([0.5, 3.0])}
    parameters = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in start.items()}
    optimiser = optimiser_of(recipe(bias_lr=2.0), parameters, torch.device("cpu"))
    weights = {name: value.copy() for name, value in start.items()}
    first = {name: np.zeros_like(value) for name, value in start.items()}
    second = {name: np.zeros_like(value) for name, value in start.items()}
    for step in range(1, 6):
        for group in optimiser.param_groups:
            group["lr"] = 0.01 * group["scale"]
        for name, value in parameters.items():
            gradient = np.sin(step + np.arange(2.0)).reshape(value.shape)
            value.grad = torch.from_numpy(gradient.copy())
            lr, decay = (0.01, 0.1) if name == "matrix" else (0.02, 0.0)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.99 * second[name] + 0.01 * gradient**2
            move = first[name] / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.99**step)) + 1e-8)
            weights[name] = weights[name] * (1 - lr * decay) - lr * move
        optimiser.step()
    for name, value in parameters.items():
        np.testing.assert_allclose(value.detach().numpy(), weights[name], rtol=1e-12)


@pytest.mark.parametrize("lost", [None, "momentum.", "square.", "steps."])
def test_what_is_kept_comes_back_and_each_part_is_needed(lost):
    def trained(steps, optimiser, layer):
        for step in steps:
            optimiser.zero_grad()
            layer(torch.full((2, 3), float(step))).square().sum().backward()
            optimiser.step()

    def fresh():
        torch.manual_seed(3)
        layer = torch.nn.Linear(3, 2)
        return layer, optimiser_of(recipe(), dict(layer.named_parameters()), torch.device("cpu"))

    layer, optimiser = fresh()
    trained(range(4), optimiser, layer)
    again, other = fresh()
    trained(range(2), other, again)
    kept = state_of(other, dict(again.named_parameters()))
    assert {name.split(".")[0] for name in kept} == {"momentum", "square", "steps"}
    resumed, third = fresh()
    resumed.load_state_dict(again.state_dict())
    some = {name: tensor for name, tensor in kept.items() if lost is None or not name.startswith(lost)}
    if lost is not None:
        some |= {name: torch.zeros_like(tensor) for name, tensor in kept.items() if name.startswith(lost)}
    restore_state(third, dict(resumed.named_parameters()), some)
    trained(range(2, 4), third, resumed)
    assert torch.equal(layer.weight, resumed.weight) == (lost is None)


def test_a_parameter_that_is_not_there_is_refused():
    layer = torch.nn.Linear(3, 2)
    parameters = dict(layer.named_parameters())
    with pytest.raises(KeyError, match="other"):
        restore_state(
            optimiser_of(recipe(), parameters, torch.device("cpu")), parameters, {"square.other": torch.ones(2)}
        )


def test_replay_with_adamw_is_retraining(tmp_path):
    world = make_world(tmp_path, **ADAMW)
    original = world.fit("original")
    late = next(s for s in range(48) if world.adapter.first_use(world.job("original"), frozenset({s})) > 0)
    forget = frozenset({late})
    replayed = world.adapter.replay(world.job("replayed", forget), world.folder / "original", forget)
    retrained = world.fit("retrained", forget)
    assert replayed.resumed_at > 0
    assert replayed.digest == retrained.digest != original.digest
