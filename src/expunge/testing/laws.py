"""A law is a function that says what is wrong, or None; a suite tries all of them and reports every broken one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from expunge.core.errors import RegistryError

S = TypeVar("S")
Law = Callable[[S], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One law that does not hold. `law` is the function's name, `why` what was seen."""

    law: str
    why: str


class Nonconforming(RegistryError):
    """A plug-in breaks laws of its suite; `broken` lists all of them."""

    code = "nonconforming"

    def __init__(self, kind: str, name: str, broken: Sequence[Broken]) -> None:
        self.broken = tuple(broken)
        shown = "; ".join(f"{item.law}: {item.why}" for item in self.broken)
        super().__init__(f"{kind}/{name} breaks {len(self.broken)} laws: {shown}")


def examine(laws: Sequence[Law[S]], subject: S) -> tuple[Broken, ...]:
    """Every law that does not hold of the subject. A law that raises is broken: the plug-in failed under it."""
    broken = []
    for law in laws:
        try:
            why = law(subject)
        except Exception as error:  # noqa: BLE001 - whatever a plug-in raises is the finding
            why = f"raised {type(error).__name__}: {error}"
        if why is not None:
            broken.append(Broken(law=law.__name__, why=why[:400]))
    return tuple(broken)


def require(kind: str, name: str, broken: Sequence[Broken]) -> None:
    """Raise Nonconforming unless nothing is broken."""
    if broken:
        raise Nonconforming(kind, name, broken)


def has_card(plugin: type) -> str | None:
    """Every plug-in says in its docstring what it is."""
    return None if (plugin.__doc__ or "").strip() else f"{plugin.__name__} has no docstring"
