"""Requests for events: which they are, exactly, and the data with the histories that are left.

The cut is a list of events (slot, column) of the training users; docs/adr/0012-histories-that-shrink.md. Whatever is
asked for and is not there is answered with `not_present` and with where it was looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.errors import InputError, InputProblems
from expunge.core.request import EventSelector, Unit
from expunge.core.shortened import Shortened
from expunge.evidence.manifest import leaves_of
from expunge.training.batches import Leaves

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

MOST = 4_000
"""Histories that one certificate can show as shortened: a proof takes some 5 kB, and absence.json at most 32 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Events to be deleted: (slot, column) ascending. `items`: columns that go from every history, also the test users'."""

    unit: Unit
    events: tuple[tuple[int, int], ...]
    items: tuple[int, ...] = ()

    @property
    def slots(self) -> tuple[int, ...]:
        """Histories that become shorter, ascending."""
        return tuple(sorted({slot for slot, _ in self.events}))

    @property
    def count(self) -> int | None:
        """Interactions or items; None of a time window, because it would say how much somebody had in it."""
        return {"interaction": len(self.events), "item": len(self.items)}.get(self.unit)


def cut_of(workspace: Workspace, wanted: EventSelector) -> Cut:
    """The events that a request names. Raises InputError on what is not there, or is more than can be shown."""
    find = {"interaction": _interactions, "window": _window, "item": _items}[wanted.unit]
    events = find(workspace, wanted)
    train = workspace.data.train
    slots = np.repeat(np.arange(len(train)), np.diff(train.indptr))[events]
    pairs = sorted(zip(slots.tolist(), train.indices[events].tolist(), strict=True))
    columns = _columns(workspace)
    gone = tuple(sorted(columns[name] for name in wanted.items)) if wanted.unit == "item" else ()
    cut = Cut(unit=wanted.unit, events=tuple(pairs), items=gone)
    _check_size(workspace, cut)
    return cut


def without(workspace: Workspace, cut: Cut) -> Any:
    """The data set as it is to be."""
    train, test = workspace.data.train, workspace.data.test
    return workspace.data.with_users(
        train.keep(~_mask(train, cut)), test.keep(~np.isin(test.indices, np.array(cut.items, np.int64)))
    )


def digests_after(workspace: Workspace, cut: Cut) -> dict[int, str]:
    """Content digests of the shortened histories, by slot."""
    train = without(workspace, cut).train
    return {slot: train.content_digest(slot) for slot in cut.slots}


def shortened(workspace: Workspace, cut: Cut) -> Shortened:
    """The data set and the leaves that a training without the events reads."""
    digests, book, key = digests_after(workspace, cut), workspace.book, workspace.key("data")
    now = book.leaves()
    contents, plain = list(now.contents), list(now.digests)
    for slot, digest in digests.items():
        contents[slot], plain[slot] = leaves_of(key, str(book.ids[slot]), digest)[1], digest
    return Shortened(data=without(workspace, cut), leaves=Leaves(ids=list(now.ids), contents=contents, digests=plain))


def content_leaves(workspace: Workspace, digests: Mapping[int, str]) -> dict[int, str]:
    """Content leaves of histories with these digests, by slot."""
    key = workspace.key("data")
    return {slot: leaves_of(key, str(workspace.book.ids[slot]), digest)[1] for slot, digest in digests.items()}


def named_pairs(workspace: Workspace, cut: Cut) -> list[tuple[int, str]]:
    """(slot, item id) of the events."""
    items = workspace.data.items
    return [(slot, items[column]) for slot, column in cut.events]


def kept_items(workspace: Workspace, cut: Cut) -> dict[int, list[str]]:
    """By slot, the items that are left of each shortened history; nothing for whole items, which are gone from all."""
    if cut.items:
        return {}
    train = without(workspace, cut).train
    return {slot: [train.items[column] for column in train.row(slot)[0].tolist()] for slot in cut.slots}


def same_content_stays(workspace: Workspace, slots: tuple[int, ...], cut: Cut | None) -> bool:
    """Would somebody be left with the very same history as one that goes? Then its content leaf cannot be shown to be gone."""
    after, book = {} if cut is None else digests_after(workspace, cut), workspace.book
    gone, touched = {book.digests[slot] for slot in slots}, frozenset(slots)
    left = [digest for slot, digest in enumerate(book.digests) if slot not in touched] + list(after.values())
    return bool(gone & {digest for digest in left if digest is not None})


# ------------------------------------------------------------------------------------------------------------ which ones


def _mask(train: Any, cut: Cut) -> NDArray[np.bool_]:
    """(E,) bool: the cut's events."""
    width = len(train.items)
    place = np.repeat(np.arange(len(train), dtype=np.int64), np.diff(train.indptr)) * width + train.indices
    found: NDArray[np.bool_] = np.isin(
        place, np.array([slot * width + column for slot, column in cut.events], np.int64)
    )
    return found


def _columns(workspace: Workspace) -> dict[str, int]:
    return {name: column for column, name in enumerate(workspace.data.items)}


def check_supported(workspace: Workspace, wanted: EventSelector) -> None:
    """What cannot be done here is said before anything is logged."""
    if workspace.policy.kind != "recommender":
        raise InputError(
            "events are asked for, and this workspace has none",
            expected="a workspace of users' histories",
            got=workspace.recipe.family,
            hint="name whole records: --id or --block",
        )
    if wanted.timed and workspace.data.train.times is None:
        raise InputError("events have no times here", hint="name the items: --user U --item I, or the whole user")
    kinds = [(table.name, table.kind) for table in workspace.config.places]
    blind = [
        f"{name} ({kind})" for name, kind in kinds if not getattr(registry.load("places", kind), "shortens", False)
    ]
    if blind:
        raise InputError(
            "places are declared in which one event cannot be told from its user",
            expected="places of the kinds events, lists, id_map",
            got=", ".join(blind),
            hint="delete the whole user; or rebuild what these places hold from the shorter histories and keep rows of "
            "events, of the kind `events`, as their source",
        )


def _check_size(workspace: Workspace, cut: Cut) -> None:
    if len(cut.slots) > MOST:
        raise InputError(
            "more histories become shorter than one certificate can show",
            expected=f"at most {MOST}",
            got=str(len(cut.slots)),
            hint="train a new workspace on data without the item",
        )
    if len(cut.events) == workspace.data.train.events:
        raise InputError("nothing would be left to train on")


def _interactions(workspace: Workspace, wanted: EventSelector) -> NDArray[np.bool_]:
    """Every one of these users with every one of these items, in the time window if there is one."""
    slots, columns = _users(workspace, wanted), _known_items(workspace, wanted)
    train = workspace.data.train
    found: NDArray[np.bool_] = train.chosen(slots, items=wanted.items, since=wanted.since, until=wanted.until)
    problems, cut = [], 0
    for user, slot in zip(wanted.users, slots, strict=True):
        span = train.span(slot)
        there = set(train.indices[span][found[span]].tolist())
        for item in wanted.items:
            if columns[item] in there:
                continue
            gone = workspace.book.was_cut(slot, item)
            cut += gone
            problems.append(f"{user!r} with {item!r} {_why(gone, wanted.timed)}")
    _answer(workspace, problems, slots, deleted=cut)
    return found


def _window(workspace: Workspace, wanted: EventSelector) -> NDArray[np.bool_]:
    """What each of these users had in it."""
    slots, train = _users(workspace, wanted), workspace.data.train
    found: NDArray[np.bool_] = train.chosen(slots, since=wanted.since, until=wanted.until)
    empty = [user for user, slot in zip(wanted.users, slots, strict=True) if not found[train.span(slot)].any()]
    _answer(workspace, [f"{user!r} has no event in the time window" for user in empty], slots, deleted=0)
    return found


def _items(workspace: Workspace, wanted: EventSelector) -> NDArray[np.bool_]:
    """These items in any history."""
    columns, train = _known_items(workspace, wanted), workspace.data.train
    found: NDArray[np.bool_] = np.isin(train.indices, list(columns.values()))
    there = set(train.indices[found].tolist())
    problems = [f"{name!r} is in no history that was trained on" for name in wanted.items if columns[name] not in there]
    _answer(workspace, problems, range(len(train)), deleted=0)
    return found


def _users(workspace: Workspace, wanted: EventSelector) -> list[int]:
    return workspace.book.slots_of(wanted.users, frozenset(workspace.data.test.ids))


def _known_items(workspace: Workspace, wanted: EventSelector) -> dict[str, int]:
    """Columns by item. Unknown and deleted items are all reported."""
    columns = _columns(workspace)
    gone = [name for name in wanted.items if name in columns and workspace.book.item_was_cut(name)]
    unknown = [name for name in wanted.items if name not in columns]
    if gone or unknown:
        problems = [f"{name!r} was already deleted" for name in gone]
        problems += [f"{name!r} is not in the vocabulary" for name in unknown]
        raise InputProblems(
            "items",
            problems,
            hint=f"searched: {len(columns)} items of the vocabulary, and those that were deleted, by their tombstones; ids "
            f"look like {workspace.data.items[0]!r}",
            code="unknown-id" if gone else "not_present",
        )
    return {name: columns[name] for name in wanted.items}


def _why(deleted: bool, timed: bool) -> str:
    if deleted:
        return "was already deleted, or was never there"
    return "is not present in the time window" if timed else "is not present"


def _answer(workspace: Workspace, problems: list[str], slots: Any, *, deleted: int) -> None:
    """Raises InputProblems with the search trace, for whoever looks at the request; nothing of it is logged."""
    if not problems:
        return
    train = workspace.data.train
    events = sum(train.span(slot).stop - train.span(slot).start for slot in slots)
    options = ", ".join(f"{name}={value}" for name, value in sorted(workspace.config.data.options.items()))
    raise InputProblems(
        "events",
        problems,
        hint=f"searched: {events} events of {len(slots)} histories as they are now, and what shortened ones may keep, by keyed "
        f"tags; what a filter of the source left out was never trained on ({options or 'no options'})",
        code="unknown-id" if deleted else "not_present",
    )
