"""What every kind of artefact must obey: it sees what was planted, it takes out what it says, it touches nothing else."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core import registry
from expunge.core.errors import ExpungeError
from expunge.core.places import PlaceKind, Traces
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.testing.world import tree_digest

ITEMS = 8
NOBODY = Traces(
    names=("9000001", "9000002"),
    slots=(5, 7),
    columns=(np.array([0, 3, 6], np.int32), np.array([1, 2, 4, 7], np.int32)),
    values=(np.array([1, 1, 1]), np.array([1, 2, 1, 2])),
    items=ITEMS,
    model="sha256:" + "0f" * 32,
)
"""Two users who are in none of the samples."""


def _saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    made = io.BytesIO()
    save(made, *arrays, **named)
    return made.getvalue()


def _csr() -> dict[str, Any]:
    return {
        "data": np.ones(5, np.float32),
        "indices": np.array([0, 1, 2, 4, 5], np.int32),
        "indptr": np.array([0, 2, 3, 5], np.int32),
        "shape": np.array([3, ITEMS], np.int64),
    }


def samples() -> Mapping[str, bytes]:
    """Small artefacts by file name. A kind need not take all of them, but one."""
    other = "ab" * 32
    rows = np.arange(1, 33, dtype=np.float32).reshape(4, ITEMS)
    flat = b"IxF2" + (ITEMS).to_bytes(4, "little") + (4).to_bytes(8, "little") + bytes(29) + rows.tobytes()
    return {
        "events.csv": b"user_id,item_id,rating\r\n17,3,4.5\r\n117,5,2\r\n",
        "events.inter": b"user_id:token\titem_id:token\n17\t3\n117\t5",
        "map.json": b'{"users": {"17": 0, "117": 1}, "items": ["a", "b"]}\n',
        "encoder.json": b'["17", "117"]',
        "lists.json": f'{{\n "17": {{"model": "{other}", "items": [1, 2]}}\n}}\n'.encode(),
        "lists.jsonl": f'{{"user": "17", "model": "{other}", "items": [1]}}\n'.encode(),
        "app.log": b"12:00:01 served user 17\n12:00:02 served user 117\n",
        "factors.npy": _saved(np.save, rows),
        "user_items.npz": _saved(np.savez, **_csr()),
        "flat.index": flat,
    }


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A kind with its own defaults, and the samples it takes."""

    name: str
    plugin: Any
    folder: Path

    @cached_property
    def probe(self) -> Any:
        """An instance."""
        return self.plugin(self.plugin.Config())

    @cached_property
    def taken(self) -> tuple[Path, ...]:
        """The samples that it reads."""
        home = self.folder / "samples"
        home.mkdir()
        for name, data in samples().items():
            (home / name).write_bytes(data)
        return tuple(path for path in sorted(home.iterdir()) if self._reads(path))

    def _reads(self, path: Path) -> bool:
        try:
            self.probe.count(path, NOBODY)
        except ExpungeError:
            return False
        return True

    def planted(self, path: Path) -> tuple[Path, int]:
        """A copy with the users in it, and how many traces that are."""
        out = self.folder / f"planted-{path.name}"
        return out, self.probe.plant(path, out, NOBODY)

    def scrubbed(self, path: Path) -> tuple[Path, int]:
        """The planted copy without them, and how many went."""
        out = self.folder / f"scrubbed-{path.name}"
        return out, self.probe.scrub(self.planted(path)[0], out, NOBODY)


def is_a_kind_with_settings(subject: Subject) -> str | None:
    """A card, the protocol, and a frozen Config whose fields all have defaults."""
    settings = subject.plugin.Config
    frozen: Any = getattr(settings, "__dataclass_params__", None)
    if not dataclasses.is_dataclass(settings) or not getattr(frozen, "frozen", False):
        return "Config is no frozen dataclass"
    if not isinstance(subject.probe, PlaceKind) or not isinstance(subject.plugin.scrubs, bool):
        return "not a PlaceKind"
    return has_card(subject.plugin)


def reads_a_sample_and_finds_nobody_in_it(subject: Subject) -> str | None:
    """The users are in none of the samples."""
    for path in subject.taken:
        if found := subject.probe.count(path, NOBODY):
            return f"{found} traces in {path.name}, where nobody is"
    return None if subject.taken else f"none of {', '.join(samples())} is read"


def planted_users_are_found(subject: Subject) -> str | None:
    """All of them, and no more: a blind probe is seen."""
    for path in subject.taken:
        out, planted = subject.planted(path)
        found = subject.probe.count(out, NOBODY)
        if not planted or found != planted:
            return f"{found} of {planted} planted traces found in {path.name}"
    return None


def scrubbed_users_are_gone(subject: Subject) -> str | None:
    """And as many went as were there; a kind that cannot scrub refuses to."""
    for path in subject.taken:
        if not subject.plugin.scrubs:
            why = _refused(lambda path=path: subject.scrubbed(path))  # type: ignore[misc]
            return None if why is None else f"scrub of a kind that does not scrub {why}"
        out, gone = subject.scrubbed(path)
        left, planted = subject.probe.count(out, NOBODY), subject.planted(path)[1]
        if left or gone != planted:
            return f"{gone} of {planted} traces went, {left} are left in {path.name}"
    return None


def scrubbing_nobody_keeps_the_others(subject: Subject) -> str | None:
    """A file without the users is the same after a scrub, or at least for the kind's own eyes."""
    for path in subject.taken if subject.plugin.scrubs else ():
        out = subject.folder / f"same-{path.name}"
        if subject.probe.scrub(path, out, NOBODY):
            return f"somebody went out of {path.name}"
        if path.suffix != ".npz" and out.read_bytes() != path.read_bytes():
            return f"bytes of {path.name} changed though nobody went"
    return None


def the_artefact_is_not_touched(subject: Subject) -> str | None:
    """Whatever is asked, the file that was declared stays as it is."""
    before = tree_digest(subject.taken[0].parent) if subject.taken else ""
    for path in subject.taken:
        subject.probe.count(path, NOBODY)
        subject.planted(path)
        if subject.plugin.scrubs:
            subject.scrubbed(path)
    after = tree_digest(subject.taken[0].parent) if subject.taken else ""
    return None if before == after else "a sample changed"


def garbage_is_refused(subject: Subject) -> str | None:
    """Bytes of no format, a folder, a file that is not there, and a link, each with a typed error."""
    noise, link = subject.folder / "noise.bin", subject.folder / "link"
    noise.write_bytes(bytes(range(256)) * 64)
    link.symlink_to(subject.taken[0] if subject.taken else noise)
    for path in (noise, link, subject.folder, subject.folder / "none"):
        why = _refused(lambda path=path: subject.probe.count(path, NOBODY))  # type: ignore[misc]
        if why is not None:
            return f"count of {path.name} {why}"
    return None


def looking_for_nobody_is_refused(subject: Subject) -> str | None:
    """A probe that is given no users must not answer 0."""
    empty = dataclasses.replace(NOBODY, names=(), slots=(), columns=(), values=())
    for path in subject.taken[:1]:
        why = _refused(lambda path=path: subject.probe.count(path, empty))  # type: ignore[misc]
        return None if why is None else f"count without users {why}"
    return None


def _refused(act: Callable[[], object]) -> str | None:
    try:
        found = act()
    except ExpungeError:
        return None
    return f"answered {found!r:.80}"


PLACE_LAWS: tuple[Callable[[Subject], str | None], ...] = (
    is_a_kind_with_settings,
    reads_a_sample_and_finds_nobody_in_it,
    planted_users_are_found,
    scrubbed_users_are_gone,
    scrubbing_nobody_keeps_the_others,
    the_artefact_is_not_touched,
    garbage_is_refused,
    looking_for_nobody_is_refused,
)


def check_place(name: str) -> None:
    """Hold the registered kind `name` to every law; raises Nonconforming with all that are broken."""
    require("places", name, examine_place(registry.load("places", name), name=name))


def examine_place(plugin: type, *, name: str, laws: Sequence[Law[Subject]] = PLACE_LAWS) -> tuple[Broken, ...]:
    """The broken laws of a kind's class."""
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        return examine(laws, Subject(name=name, plugin=plugin, folder=Path(folder)))
