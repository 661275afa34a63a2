"""Plug-ins by file name and by entry point; an outside package may add, never replace."""

import importlib
import sys
from pathlib import Path

import pytest

from expunge.core import registry
from expunge.core.codec import sha256_hex
from expunge.core.errors import MissingExtra, RegistryError

OUTSIDE = Path(__file__).resolve().parents[1] / "packages" / "expunge_outside"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a distribution on sys.path as pip would leave it: its modules and a dist-info folder, no network needed."""

    def install(points, *, name="expunge-outside", version="0.1", source=OUTSIDE):
        site = tmp_path / name
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = []
        for group in sorted({group for group, _, _ in points}):
            lines.append(f"[expunge.{group}]")
            lines += [f"{point} = {target}" for found, point, target in points if found == group]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for file in source.glob("*.py") if source else ():
            (site / file.name).write_bytes(file.read_bytes())
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        registry.plugins.cache_clear()
        return site

    yield install
    registry.plugins.cache_clear()
    for module in ("expunge_outside", "broken_outside"):
        sys.modules.pop(module, None)


def declared():
    """The entry points of the package's own pyproject.toml."""
    import tomllib

    project = tomllib.loads((OUTSIDE / "pyproject.toml").read_text())["project"]
    return [
        (group.removeprefix("expunge."), name, target)
        for group, points in project["entry-points"].items()
        for name, target in points.items()
    ]


def test_built_in_names_are_file_names_and_nothing_is_imported(monkeypatch):
    registry.plugins.cache_clear()
    imported = []
    monkeypatch.setattr(registry.importlib, "import_module", imported.append)
    for kind in registry.KINDS:
        home = Path(registry.__file__).parents[1].joinpath(*registry._home(kind).split(".")[1:])
        files = {file.stem for file in home.glob("*.py") if not file.stem.startswith("_")}
        assert set(registry.names(kind)) == files
    assert imported == []


def test_the_outside_package_declares_a_method_an_attack_and_a_check():
    assert sorted(kind for kind, _, _ in declared()) == ["attacks", "checks", "methods"]


def test_outside_plugins_are_absent_until_installed_and_found_afterwards(installed):
    before = {kind: registry.names(kind) for kind in registry.KINDS}
    assert not any(name in before[kind] for kind, name, _ in declared())
    installed(declared())
    for kind, name, target in declared():
        assert registry.names(kind) == tuple(sorted((*before[kind], name)))
        plugin = registry.find(kind, name)
        assert (plugin.target, plugin.built_in) == (target, False)
        assert registry.load(kind, name).__name__ == target.partition(":")[2]


def test_origin_carries_distribution_version_and_digest_of_the_code(installed):
    site = installed(declared(), version="3.7")
    digest = sha256_hex((site / "expunge_outside.py").read_bytes())
    for kind, name, _ in declared():
        assert registry.find(kind, name).origin == f"expunge-outside==3.7 sha256:{digest}"
    assert registry.find("methods", "retrain").origin == "expunge"


def test_origin_changes_with_one_byte_of_code(installed):
    site = installed(declared())
    before = registry.find("methods", declared_name("methods")).origin
    file = site / "expunge_outside.py"
    file.write_bytes(file.read_bytes() + b"\n")
    registry.plugins.cache_clear()
    assert registry.find("methods", declared_name("methods")).origin != before


def declared_name(kind):
    return next(name for found, name, _ in declared() if found == kind)


def test_missing_source_of_an_outside_plugin_is_said(installed):
    installed([("methods", "ghost", "no_such_module_at_all:Ghost")])
    assert "source not found" in registry.find("methods", "ghost").origin
    with pytest.raises(MissingExtra):
        registry.load("methods", "ghost")


@pytest.mark.parametrize("kind", ["methods", "attacks", "checks"])
def test_taking_a_built_in_name_is_refused(installed, kind):
    taken = registry.names(kind)[0]
    target = next(target for found, _, target in declared() if found == kind)
    installed([(kind, taken, target)])
    with pytest.raises(RegistryError, match=taken):
        registry.names(kind)
    with pytest.raises(RegistryError, match=taken):
        registry.load(kind, taken)


def test_two_outside_packages_with_one_name_are_refused(installed):
    installed(declared())
    installed(declared(), name="expunge-copycat")
    with pytest.raises(RegistryError, match=declared_name("methods")):
        registry.names("methods")


def test_entry_point_that_is_no_class_is_refused(installed):
    installed([("methods", "wrong", "expunge_outside:nothing_there"), ("methods", "text", "expunge_outside:__name__")])
    for name in ("wrong", "text"):
        with pytest.raises(RegistryError, match="not a class"):
            registry.load("methods", name)


def test_file_with_two_public_classes_is_refused(installed, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "broken_outside.py").write_text("class A: ...\nclass B: ...\nclass _C: ...\n")
    installed([("methods", "broken", "broken_outside")], source=folder)
    with pytest.raises(RegistryError) as caught:
        registry.load("methods", "broken")
    assert caught.value.got == "A, B"


def test_module_with_one_public_class_needs_no_attribute(installed, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "broken_outside.py").write_text("from pathlib import Path\nclass A: ...\nclass _C: ...\n")
    installed([("methods", "single", "broken_outside")], source=folder)
    assert registry.load("methods", "single").__name__ == "A"


@pytest.mark.parametrize("kind", registry.KINDS)
def test_unknown_name_lists_what_there_is(kind):
    with pytest.raises(RegistryError) as caught:
        registry.find(kind, "no-such-plugin")
    assert all(name in caught.value.expected for name in registry.names(kind))


def test_unknown_kind_is_refused():
    with pytest.raises(RegistryError, match="methodz"):
        registry.names("methodz")


def test_missing_dependency_becomes_one_error_that_names_the_command(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(registry.importlib, "import_module", missing)
    with pytest.raises(MissingExtra) as caught:
        registry.load("methods", "retrain")
    assert "pip install" in caught.value.hint


def test_missing_module_of_our_own_is_a_bug_and_not_an_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'expunge.gone'", name="expunge.gone")

    monkeypatch.setattr(registry.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        registry.load("methods", "retrain")


def test_outside_plugins_pass_the_conformance_suites_by_name(installed):
    from expunge.testing import check_attack, check_check, check_unlearner

    installed(declared())
    check_unlearner(declared_name("methods"))
    check_attack(declared_name("attacks"))
    check_check(declared_name("checks"))
