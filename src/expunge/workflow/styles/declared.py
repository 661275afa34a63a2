"""Artists whom the user declares: artists.yaml with the works beside it, read once, held against the training data, and logged.

Every folder of works is divided by content into three parts that have nothing in common: what attacks are given, what judges are
made of, and what judges show on that they see. None of it may be in the training data, by hash or to a perceptual search:
what trained is no control, and no work that nothing was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import digest_of, encode, sha256_hex
from expunge.core.errors import DataError, InputError, InputProblems, IntegrityError
from expunge.data._near import PIXELS, indexed, matches, thumbnails, wanted
from expunge.data._pictures import Pictures
from expunge.data.picture_folder import read_pictures
from expunge.evidence.commitment import commit
from expunge.training.judging.calibration import FEWEST
from expunge.training.judging.references import shrunk
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.templates import Templates
from expunge.training.text_to_image.testbed import Suspect
from expunge.workflow.linkage import ORDINARY, SMALL, SMALL_SIDE
from expunge.workflow.styles.declaration import PHOTO, WHAT, Declaration, names_in, read_declaration
from expunge.workflow.styles.roster import DECLARED

if TYPE_CHECKING:
    from expunge.workflow.config import StylesTable
    from expunge.workflow.workspace import Workspace

ROLES = ("held_out", "judge", "attack")
LEAST = 2 * FEWEST
"""Works of each artist, each control and nobody: half of them for judges to show that they see, where `FEWEST` are needed."""
_JUDGES = 0.3
_TOLD = 20
_CHUNK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Declared:
    """What was declared, with the pictures: style -> all works, `photo` for nobody's."""

    said: Declaration
    works: Mapping[str, Pictures]

    judges = ("reference_statistics", "reference_network")

    @property
    def scale(self) -> str:
        """Numbers, and no name."""
        side = next(iter(self.works.values())).images.shape[1]
        count, controls = len(self.said.artists), len(self.said.controls)
        return f"{count} artists and {controls} control styles as the owner declared them, at {side}x{side}"

    @property
    def styles(self) -> tuple[str, ...]:
        """Artists and controls as the data call them."""
        return tuple(one.style for one in self.said.entries)

    @property
    def controls(self) -> tuple[str, ...]:
        """Those that no training saw."""
        return tuple(one.style for one in self.said.controls)

    @property
    def objects(self) -> tuple[str, ...]:
        """What is asked for."""
        return tuple(self.said.objects)

    @cached_property
    def digest(self) -> str:
        """Of the file as it was understood and of every picture."""
        pictures = {
            style: sorted([_hash(image), thing] for image, thing in zip(works.images, works.objects, strict=True))
            for style, works in self.works.items()
        }
        return digest_of({"said": encode(self.said), "works": pictures})

    def names(self, style: str) -> tuple[str, ...]:
        """As declared."""
        return self.said.entry(style).names

    def wording(self, style: str) -> Wording:
        """From the entry's templates."""
        one = self.said.entry(style)
        return Templates(
            name=one.name,
            aliases=one.aliases,
            language=self.said.language,
            objects=self.said.objects,
            captions=one.captions,
            described=one.described,
            neutral=self.said.neutral,
            titles=one.titles,
            languages=one.languages,
            taken=tuple(name for other in self.said.entries for name in other.names),
        ).wording()

    def suspect(self, style: str) -> Suspect:
        """With the works that attacks are given."""
        return Suspect(style=style, wording=self.wording(style), works=self._part(style, "attack"))

    def photos(self) -> Mapping[str, NDArray[np.uint8]]:
        """Of each object those for attacks."""
        mine = self._part(PHOTO, "attack")
        rows = {name: [row for row, thing in enumerate(mine.objects) if thing == name] for name in self.objects}
        return {name: mine.images[at] for name, at in rows.items() if at}

    def near(self, style: str) -> tuple[str, ...]:
        """Declared neighbours."""
        return self.said.entry(style).neighbours

    def held_out(self) -> Pictures:
        """Works on which judges show that they see."""
        return _joined([self._part(style, "held_out") for style in self.works])

    def references(self) -> Mapping[str, Pictures]:
        """Works that judges are made of."""
        return {style: self._part(style, "judge") for style in self.works}

    def _part(self, style: str, role: str) -> Pictures:
        works = self.works[style]
        return works.only(parted(works)[role])


def parted(works: Pictures) -> dict[str, list[int]]:
    """role -> rows, by the order of the pictures' hashes: half held out, of the rest three fifths for judges."""
    order = sorted(range(len(works)), key=lambda row: _hash(works.images[row]))
    first = len(order) // 2
    last = first + round(_JUDGES * len(order))
    return dict(zip(ROLES, (order[:first], order[first:last], order[last:]), strict=True))


def _hash(image: NDArray[np.uint8]) -> str:
    return sha256_hex(np.ascontiguousarray(image).tobytes())


# ------------------------------------------------------------------------------------------------ reading and checking


def check_declared(table: StylesTable, root: Path, raw: Any) -> None:
    """What expunge.toml names, held against the data, before a workspace is made of them; nothing where it names none.

    Raises InputError on a file that is none, DataError on pictures that are none, InputProblems with everything that is wrong.
    """
    if table.artists is None:
        return
    if not isinstance(raw.train, Pictures) or raw.source == "artist_styles":
        raise InputError(
            "artists are declared for pictures of one's own", got=raw.source, hint="leave out styles.artists"
        )
    found, train = load_declared(table, root, int(raw.train.images.shape[1])), raw.train
    problems = [*_odd_works(found), *_trained_controls(found.said, train), *_seen_before(found, train)]
    if problems:
        more = [f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        raise InputProblems(WHAT, [*problems[:_TOLD], *more])


def load_declared(table: StylesTable, root: Path, size: int) -> Declared:
    """File and works, at `size` pixels. A relative path is taken from the workspace."""
    file = (root / str(table.artists)).resolve()
    said = read_declaration(file)
    return Declared(said=said, works=_works(said, file.parent, size))


def _works(said: Declaration, beside: Path, size: int) -> dict[str, Pictures]:
    folders = {**{one.style: one.works for one in said.entries}, PHOTO: said.photos}
    found = {}
    for style, named in folders.items():
        parts = [read_pictures(_inside(beside, folder), folder, size) for folder in named]
        works = _joined(parts)
        found[style] = replace(works, styles=(style,) * len(works))
    return found


def _inside(beside: Path, folder: str) -> Path:
    path = beside / folder
    steps = len(Path(folder).parts)
    if any(one.is_symlink() for one in (path, *path.parents[: steps - 1])):
        raise DataError(f"{folder[:80]} is a link", expected=f"a plain folder beside {WHAT}")
    return path


def _joined(parts: Sequence[Pictures]) -> Pictures:
    columns: dict[str, Any] = {
        name: tuple(value for part in parts for value in getattr(part, name))
        for name in ("ids", "captions", "styles", "objects", "blocks")
    }
    return Pictures(images=np.concatenate([part.images for part in parts]), **columns)


def _odd_works(found: Declared) -> Iterator[str]:
    for style, works in found.works.items():
        if len(works) < LEAST:
            yield f"{style}: {len(works)} works that nothing was trained on; {LEAST} are needed"
        strange = sorted({*works.objects} - {*found.objects})
        if strange:
            yield f"{style}: works of objects that are not declared: {', '.join(map(repr, strange[:5]))}"
    lacking = [name for name in found.objects if name not in found.photos()]
    if lacking:
        yield f"photos: too few, or none, of {', '.join(lacking)}"


def _trained_controls(said: Declaration, train: Pictures) -> Iterator[str]:
    """A control that the data know by block or by name was trained on."""
    known = {*train.styles, *train.blocks}
    for one in said.controls:
        if one.style in known or set(one.names) & known:
            yield f"control {one.name}: works under this name are in the training data"
            continue
        named = next((text for text in train.captions if names_in(text, one.names)), None)
        if named is not None:
            yield f"control {one.name}: a caption of the training data names it"


def _seen_before(found: Declared, train: Pictures) -> Iterator[str]:
    """Declared works that are in the training data, or that are there twice, by hash or to the perceptual search."""
    ids = [(style, name) for style, works in found.works.items() for name in works.ids]
    declared = _small(np.concatenate([works.images for works in found.works.values()]))
    index = indexed(np.concatenate([_small(train.images), declared]), {PIXELS: thumbnails})
    rule = (SMALL if declared.shape[1] < SMALL_SIDE else ORDINARY).rule
    for number, image in enumerate(declared):
        own, (style, name) = len(train) + number, ids[number]
        rows = matches(index, wanted(image, {PIXELS: thumbnails}), rule)
        if (rows < len(train)).any():
            yield f"{style}: {name} is in the training data, or is much like a work that is"
        later = [int(row) for row in rows if row > own]
        if later:
            other, twin = ids[later[0] - len(train)]
            yield f"{style}: {name} is the same picture as {twin} of {other}"


def _small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Averaged down, a few at a time: the search looks at low frequencies, and would take hours at 512 pixels."""
    return np.concatenate([shrunk(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)])


# ---------------------------------------------------------------------------------------------------------- in the log


def log_declared(workspace: Workspace, raw: Any) -> None:
    """Once, when the workspace is made: a commitment to all of it, under a key of the workspace's own."""
    if workspace.config.styles.artists is not None:
        found = load_declared(workspace.config.styles, workspace.root, int(raw.train.images.shape[1]))
        workspace.log.append(DECLARED, {"artists": commit(workspace.secret("artists"), found.digest)})


def committed(workspace: Workspace) -> str:
    """The commitment in the log; empty where nothing was declared."""
    entries = [entry for entry in workspace.log.entries() if entry.kind == DECLARED]
    return str(entries[-1].payload["artists"]) if entries else ""


def declared_in(workspace: Workspace) -> Declared:
    """What was declared when the workspace was made. Raises IntegrityError where file or works are others by now: a declaration
    that could be changed would be changed after a verdict."""
    found = load_declared(workspace.config.styles, workspace.root, int(workspace.data.train.images.shape[1]))
    logged = committed(workspace)
    if commit(workspace.secret("artists"), found.digest) != logged:
        raise IntegrityError(
            f"{WHAT}, or a work beside it, is not what was declared when the workspace was made",
            expected=logged or "a declaration in the log",
            hint="put back what was there, or make a new workspace: expunge init --artists FILE",
        )
    return found
