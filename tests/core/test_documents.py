"""YAML that somebody hands in: a policy, a recipe, a workspace's own file."""

import pytest

from expunge.core.documents import DEEPEST, strict_yaml
from expunge.core.errors import InputError
from expunge.training.recipe import load_any_recipe
from expunge.workflow.policy import parse_policy
from expunge.workflow.rights.policy import parse_rights_policy


def bomb(levels=9):
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def recipe_of(text, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    return load_any_recipe(str(file))


@pytest.mark.parametrize(
    "read",
    [lambda text, _: parse_policy(text), lambda text, _: parse_rights_policy(text), recipe_of],
    ids=["policy", "rights", "recipe"],
)
def test_a_yaml_bomb_is_refused_before_anything_is_built(read, tmp_path):
    with pytest.raises(InputError, match="anchors or aliases"):
        read(bomb(), tmp_path)


def test_what_no_attacker_needs_is_read():
    assert strict_yaml("a0: [lol, lol]\na1: [lol]", what="x") == {"a0": ["lol", "lol"], "a1": ["lol"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system ['true']", "tags"),
        ("a: !!binary aGVsbG8=", "tags"),
        ("a: 1\na: 2", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested"),
        ("[" * 1000, "nested"),
        ("a: " + "x" * (300 << 10), "too large"),
        ("a: [", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("a: 2026-02-31", "not YAML"),
    ],
)
def test_a_document_made_to_be_misread_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        strict_yaml(text, what="policy.yaml")
