"""V5: what was made from the model and goes on serving: serving copies, exports, indices, backups, and the workspace's own runs.

An artefact says which model it was made from, and its owner, in expunge.toml, by when it is made anew or gone once that
model is replaced. What it says of itself is its word, except for a copy of the weights, whose digest is worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.connect._places import MAX_JSON, opened, unreadable, value_of
from expunge.core import registry
from expunge.core.codec import digest_of, parse_timestamp
from expunge.core.errors import DataError, ExpungeError
from expunge.core.ladder import Place
from expunge.evidence.durable import storage_errors
from expunge.training.checkpoint import labels_of, weights_identity
from expunge.workflow.train import bank_folder

if TYPE_CHECKING:
    from expunge.workflow.config import ArtefactTable
    from expunge.workflow.execute import Executed
    from expunge.workflow.workspace import Workspace

MODEL = "model.safetensors"
WITH_RELEASE = "with the release"
_WHAT = "an artefact that says which model it was made from"
_SHORT = 12  # characters of a digest that name a model, as in cached lists
_MODELS = ("model.trained", "model.adopted", "model.released")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Names of what was made from a model that the candidate replaces: `stale` with no promise or a broken one, `expiring`
    with the release or by a day, `unknown` where nothing says what it was made from. `gone`: declared, and not there."""

    stale: tuple[str, ...]
    expiring: tuple[str, ...]
    unknown: tuple[str, ...]
    gone: int


LONGEST = 31
"""Days after its model was replaced that an artefact may serve at most, whatever day was named for it."""


def artefacts_digest(workspace: Workspace) -> str:
    """What was declared, for the plan."""
    return digest_of([table.model_dump(mode="json") for table in workspace.config.artefacts])


def inventory(workspace: Workspace, executed: Executed, places: Sequence[Place]) -> Inventory:
    """All of it, as it is while the original is still in service. `places`: as the census found them."""
    declared = [(table.name, _fate(workspace, table, executed.record.digest)) for table in workspace.config.artefacts]
    found = [*declared, *_of_places(places), *_own(workspace, executed)]
    later = [(name, fate) for name, fate in found if fate not in (_GONE, _FRESH, _STALE, _UNKNOWN)]
    return Inventory(
        stale=tuple(name for name, fate in found if fate == _STALE),
        expiring=tuple(f"{name} ({fate})" for name, fate in later),
        unknown=tuple(name for name, fate in found if fate == _UNKNOWN),
        gone=sum(fate == _GONE for _, fate in found),
    )


def promised(workspace: Workspace, released: str) -> tuple[str, ...]:
    """Declared artefacts that still name an older model than `released`, each with the day by which it will not."""
    found = ((table.name, _fate(workspace, table, released)) for table in workspace.config.artefacts)
    return tuple(f"{name}: made from an older model, {fate}" for name, fate in found if fate.startswith(_UNTIL))


_GONE, _FRESH, _STALE, _UNKNOWN, _UNTIL = "gone", "fresh", "stale", "unknown", "until "


def _of_places(places: Sequence[Place]) -> Iterator[tuple[str, str]]:
    """Places whose entries name a model; what was cleaned of them takes its place when the candidate is released."""
    kinds = {name for name in registry.names("places") if getattr(registry.load("places", name), "names_model", False)}
    for place in places:
        if place.kind in kinds and (place.unread or place.before):
            yield place.name, _UNKNOWN if place.unread else _STALE if place.after else WITH_RELEASE


def _fate(workspace: Workspace, table: ArtefactTable, newest: str) -> str:
    """What becomes of one declared artefact when `newest` is the model in service."""
    path, known = workspace.root / table.path, {newest: None, **_replaced(workspace)}
    try:
        if not path.exists() and not path.is_symlink():
            return _GONE
        named = {_known(text, known) for text in origins_of(path, known)}
    except (ExpungeError, OSError):  # where a folder may not be looked into, nobody knows what lies there
        return _UNKNOWN
    older = named - {newest, None}
    if older:
        return _promise(table, [known[digest] for digest in older if digest is not None])
    return _UNKNOWN if None in named or not named else _FRESH


def _promise(table: ArtefactTable, replaced: Sequence[datetime | None]) -> str:
    """The day by which it is to be made anew or gone, counted from when the first of its models was replaced."""
    now = datetime.now(UTC)
    since = min((moment or now).date() for moment in replaced)
    days = [since + timedelta(days=table.days)] if table.days is not None else []
    days += [date.fromisoformat(table.expires), since + timedelta(days=LONGEST)] if table.expires else []
    return f"{_UNTIL}{min(days).isoformat()}" if days and min(days) >= now.date() else _STALE


def _replaced(workspace: Workspace) -> dict[str, datetime | None]:
    """Every model that was ever in service here, and when it was replaced; None for the one that still is."""
    found: dict[str, datetime | None] = {}
    for entry in workspace.log.entries():
        if entry.kind in _MODELS:
            if (former := entry.payload.get("replaces")) is not None:
                found[str(former)] = parse_timestamp(str(entry.body["time"]))
            found.setdefault(str(entry.payload["model"]), None)
    return found


def _known(text: str, known: Mapping[str, Any]) -> str | None:
    """The model that a digest names, in full or from 12 characters on; None for nobody's."""
    bare = text.removeprefix("sha256:")
    if len(bare) < _SHORT:
        return None
    return next((model for model in known if model.removeprefix("sha256:").startswith(bare)), None)


def _own(workspace: Workspace, executed: Executed) -> Iterator[tuple[str, str]]:
    """What the workspace itself keeps of older models: other runs, and banks until their day."""
    runs = [run for run in (workspace.root / "store" / "runs").iterdir() if run != executed.folder]
    if runs:
        yield f"runs in the workspace: {len(runs)}", WITH_RELEASE
    for number, bank in enumerate(workspace.state().banks, 1):
        if bank_folder(workspace, bank.digest).exists():
            late = datetime.now(UTC).date() > date.fromisoformat(bank.destroy_by)
            yield f"bank {number}", _STALE if late else f"{_UNTIL}{bank.destroy_by}"


# ------------------------------------------------------------------------------------------- what an artefact says of itself


def origins_of(path: Path, known: Mapping[str, Any]) -> frozenset[str]:
    """Digests of the models that a file, or the folder of a run, was made from. A copy of a model in `known` is told by its
    weights. Otherwise what it says counts: `model` in the labels of a safetensors file, in JSON (of the object, or of all of
    its entries), or in a JSON file beside it that is called like it, with `.json` behind.

    Raises DataError where nothing says it, on links, and on files that are not what their names say.
    """
    with storage_errors(path, "read"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise unreadable(path, _WHAT, ValueError("not a file or a folder"))
        file = path / MODEL if path.is_dir() else path
        said = _of_tensors(file, known) if file.suffix == ".safetensors" else frozenset()
        if not said and file.suffix == ".json":
            said = _of_json(file)
        beside = file.with_name(file.name + ".json")
        if not said and beside.exists():
            said = _of_json(beside)
    if not said:
        raise unreadable(path, _WHAT, ValueError("no digest of a model is in it or beside it"))
    return said


def _of_tensors(file: Path, known: Mapping[str, Any]) -> frozenset[str]:
    identity = weights_identity(file)
    if identity in known:
        return frozenset({identity})
    label = labels_of(file).get("model", "")
    return frozenset({label} if label else ())


def _of_json(file: Path) -> frozenset[str]:
    with opened(file, _WHAT, most=MAX_JSON) as (stream, _):
        found = value_of(stream.read().decode("utf-8"))
    if isinstance(found, dict) and isinstance(found.get("model"), str):
        return frozenset({found["model"]})
    entries = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise DataError(f"{file.name} does not say which model it was made from", expected='a member "model"')
    said = [one.get("model") for one in entries]
    if not all(isinstance(text, str) for text in said):
        raise DataError(f"an entry of {file.name} does not say which model it was made from")
    return frozenset(said)
