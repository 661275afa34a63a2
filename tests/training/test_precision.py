import pytest

from expunge.training.precision import suited
from expunge.training.recipe import load_recipe


def test_bf16_becomes_fp32_where_the_cpu_would_emulate_it_and_nothing_else_changes():
    recipe = load_recipe("cifar10-w16")
    changed, said = suited(recipe, "AVX2")
    assert "fp32" in said
    assert recipe.model_dump() == {**changed.model_dump(), "precision": "bf16"}


@pytest.mark.parametrize(
    ("name", "capability"), [("cifar10-w16", "AVX512"), ("digits", "AVX2"), ("cifar10-gpu", "AVX2")]
)
def test_what_is_fast_here_is_left_alone(name, capability):
    recipe = load_recipe(name)
    assert suited(recipe, capability) == (recipe, "")
