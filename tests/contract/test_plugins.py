"""Every plug-in there is, by name from the registry: a new file is held to its suite without an edit here."""

import inspect
import sys
from pathlib import Path

import pytest

import expunge
from expunge.core import registry
from expunge.core.protocols import Attack, Check, Executor, Unlearner
from expunge.testing import (
    check_adapter,
    check_attack,
    check_check,
    check_eraser,
    check_generator,
    check_judge,
    check_place,
    check_probe,
    check_recommender,
    check_unlearner,
)

SUITES = {
    "methods": check_unlearner,
    "attacks": check_attack,
    "checks": check_check,
    "models": check_adapter,
    "recommenders": check_recommender,
    "generators": check_generator,
    "erasers": check_eraser,
    "judges": check_judge,
    "places": check_place,
    "probes": check_probe,
}
HELD = [(kind, name) for kind in SUITES for name in registry.names(kind)]
ALL = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]


def test_no_kind_is_empty():
    assert {kind for kind, _ in ALL} == set(registry.KINDS)


@pytest.mark.parametrize(("kind", "name"), HELD)
def test_plugin_obeys_its_suite(kind, name):
    SUITES[kind](name)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_plugin_is_one_public_class_with_a_docstring_in_a_file_of_its_name(kind, name):
    plugin = registry.load(kind, name)  # refuses a file without exactly one public class
    assert inspect.isclass(plugin)
    assert (plugin.__doc__ or "").strip()
    module = sys.modules[plugin.__module__]
    assert (module.__doc__ or "").strip()
    assert Path(module.__file__).stem == name
    assert registry.find(kind, name).origin == "expunge"


@pytest.mark.parametrize(
    ("kind", "protocol"), [("methods", Unlearner), ("attacks", Attack), ("checks", Check), ("executors", Executor)]
)
def test_plugins_without_arguments_meet_their_protocol(kind, protocol):
    for name in registry.names(kind):
        assert isinstance(registry.load(kind, name)(), protocol), name


def test_files_and_functions_of_the_house_stay_small():
    """A file has one idea (500 lines at most), a function fits a screen (60)."""
    import ast

    too_long = []
    for file in sorted(Path(expunge.__file__).parent.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > 500:
            too_long.append(f"{file.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                too_long.append(f"{file.name}:{node.name}: {node.end_lineno - node.lineno + 1} lines")
    assert too_long == []
