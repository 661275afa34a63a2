"""Plug-ins are found by file name, without importing them; outside packages come through entry points.

A new method is one new file in `methods/`; nothing else in the product is touched. A clash of names is an error,
never a shadowing.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from expunge.core.codec import sha256_hex
from expunge.core.errors import MissingExtra, RegistryError

KINDS = (
    "methods",
    "checks",
    "attacks",
    "models",
    "recommenders",
    "generators",
    "erasers",
    "judges",
    "probes",
    "data",
    "executors",
    "signers",
    "reports",
    "scores",
    "places",
    "foreign",
    "saboteurs",
    "style_saboteurs",
)
_HOMES = {
    "recommenders": "expunge.models.recommenders",
    "generators": "expunge.models.generators",
    "erasers": "expunge.methods.erasers",
    "executors": "expunge.farm.executors",
    "signers": "expunge.evidence.signers",
    "reports": "expunge.apps.reports",
    "scores": "expunge.connect.scores",
    "places": "expunge.connect.places",
    "foreign": "expunge.connect.recommenders",
    "saboteurs": "expunge.testing.saboteurs",
    "style_saboteurs": "expunge.testing.saboteurs.styles",
}
_EXTRA = "vision"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugIn:
    """Where a name comes from. `origin` goes into the plan: `expunge`, or `distribution==version sha256:...`."""

    kind: str
    name: str
    target: str
    built_in: bool
    origin: str


@cache
def plugins(kind: str) -> dict[str, PlugIn]:
    """Every plug-in of a kind by name; nothing is imported. Raises RegistryError on a clash."""
    if kind not in KINDS:
        raise RegistryError(f"unknown kind of plug-in {kind!r}", expected=", ".join(KINDS))
    found = {name: _built_in(kind, name) for name in _file_names(kind)}
    for point in metadata.entry_points(group=f"expunge.{kind}"):
        if point.name in found:
            raise RegistryError(
                f"plug-in {point.value} takes the name {kind}/{point.name}, which {found[point.name].target} has",
                hint="rename the outside plug-in; built-in names cannot be shadowed",
            )
        found[point.name] = PlugIn(
            kind=kind, name=point.name, target=point.value, built_in=False, origin=_origin(point)
        )
    return dict(sorted(found.items()))


def names(kind: str) -> tuple[str, ...]:
    """Sorted names of a kind."""
    return tuple(plugins(kind))


def find(kind: str, name: str) -> PlugIn:
    """One plug-in, or RegistryError that lists what there is."""
    known = plugins(kind)
    if name not in known:
        raise RegistryError(f"no {kind} named {name!r}", expected=", ".join(known) or "none installed", got=name)
    return known[name]


def split_name(name: str, kind: str) -> tuple[str, str]:
    """(kind, name) of `kind/name`, or of a plain name of the given kind."""
    before, slash, after = name.rpartition("/")
    return (before, after) if slash else (kind, name)


def load(kind: str, name: str) -> Any:
    """The plug-in's class; imports its file. A missing optional dependency becomes one typed error."""
    plugin = find(kind, name)
    module_name, _, attribute = plugin.target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "expunge":
            raise
        raise MissingExtra(f"{kind}/{name} (module {error.name})", _EXTRA) from error
    if attribute:
        if not inspect.isclass(getattr(module, attribute, None)):
            raise RegistryError(
                f"plug-in {kind}/{name} points at {plugin.target}, which is not a class",
                hint="correct the entry point of the outside package",
            )
        return getattr(module, attribute)
    return _only_class(module, plugin)


def _only_class(module: Any, plugin: PlugIn) -> Any:
    public = [
        item
        for name, item in vars(module).items()
        if inspect.isclass(item) and item.__module__ == module.__name__ and not name.startswith("_")
    ]
    if len(public) != 1:
        raise RegistryError(
            f"{plugin.target} must hold exactly one public class",
            got=", ".join(item.__name__ for item in public) or "none",
        )
    return public[0]


def _home(kind: str) -> str:
    return _HOMES.get(kind, f"expunge.{kind}")


def _file_names(kind: str) -> list[str]:
    root = Path(__file__).parent.parent.joinpath(*_home(kind).split(".")[1:])
    return [info.name for info in pkgutil.iter_modules([str(root)]) if not (info.ispkg or info.name.startswith("_"))]


def _built_in(kind: str, name: str) -> PlugIn:
    return PlugIn(kind=kind, name=name, target=f"{_home(kind)}.{name}", built_in=True, origin="expunge")


def _origin(point: metadata.EntryPoint) -> str:
    """Distribution, version and code digest of an outside plug-in: a relying party's policy may list it."""
    dist = point.dist
    label = f"{dist.name}=={dist.version}" if dist is not None else "unknown distribution"
    spec = importlib.util.find_spec(point.module)
    if spec is None or not spec.origin:
        return f"{label} (source not found)"
    return f"{label} sha256:{sha256_hex(Path(spec.origin).read_bytes())}"
