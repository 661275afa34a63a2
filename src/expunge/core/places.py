"""Places outside the model in which a user may sit: files that the owner declares, each under the probe of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Array = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a user would leave behind. Per user, in parallel: F users.

    `names`: ids as files outside have them (`17`); `slots`: rows of tables and numbers of encoders; `columns`, `values`:
    the history as item numbers (d,) int32 ascending and integers (d,); `items`: how many items there are. `model`: digest
    of the model that was trained on them: what names it was made from it; `earlier`: those of older models that saw them
    too. `users`: how many slots there are, which a table with a row a slot has to have; 0 where that is not known.
    `events`: where only these go and the users stay, pairs of a user's name, or "" for anybody, and an item's, as files
    outside have them.
    """

    names: tuple[str, ...]
    slots: tuple[int, ...]
    columns: tuple[Array, ...]
    values: tuple[Array, ...]
    items: int
    model: str
    earlier: tuple[str, ...] = ()
    users: int = 0
    events: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class PlaceKind(Protocol):
    """One kind of artefact; one file in `connect/places`. Reads hostile files: no pickle, bounded memory, typed errors.

    `Config` is a frozen dataclass of its settings, all with defaults; the class is called with one. `scrubs`: whether it
    can write a copy without the users; other artefacts have to be rebuilt by their owner before a deletion is accepted.
    A kind that can tell single events (`Traces.events`) from their users says so by `shortens = True`, and one that holds
    no events at all by `holds_events = False` beside it; with any other kind declared, a request for events is refused.
    `names_model = True`: what it holds was made from a model that it names, whoever it is about.
    """

    Config: type
    scrubs: bool

    def count(self, path: Path, traces: Traces) -> int:
        """How many traces of the users the file holds; 0 = none. Raises DataError on a file that is not of this kind."""

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Write a copy to `out` in which these made-up users, who are not in the file, sit as real ones would; returns
        how many were planted. The control: `count(out)` has to find them."""

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """Write a copy to `out` without the users, everything else as it was; returns how many traces went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One line of the owner's list. `path` is taken from the workspace if relative."""

    name: str
    kind: str
    path: str
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
