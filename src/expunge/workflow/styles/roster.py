"""Who can be asked for in a workspace, and with what: names, works that nothing was trained on, controls, photos, words.

The testbed's source says it of its invented artists; for any other the user has to, in artists.yaml (`declared`). Both are
rosters, and nothing behind them knows which one it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError, IntegrityError
from expunge.core.styles import SCALE
from expunge.data._pictures import Pictures
from expunge.data._styles import CONTROLS, STYLES
from expunge.data.artist_styles import OBJECTS, cifar10_photos, painted
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.testbed import Suspect, suspect, wording_of

if TYPE_CHECKING:
    from expunge.workflow.config import Config
    from expunge.workflow.workspace import Workspace

TESTBED = "artist_styles"
DECLARED = "artists.declared"
"""Kind of the log's entry that commits to what a user declared."""
_REFERENCES = 8
"""Works of an object that a judge is made of, where it is made of any."""


class Roster(Protocol):
    """styles: all who can be asked for, as the data call them; objects: what is asked for; judges: who looks where nobody else is
    named; scale: on what all that is said was measured; digest: of everything here that can change an answer, empty where the
    source says it."""

    @property
    def judges(self) -> tuple[str, ...]:
        """By name."""

    @property
    def scale(self) -> str:
        """In words that name nobody."""

    @property
    def styles(self) -> tuple[str, ...]:
        """Artists and controls."""

    @property
    def controls(self) -> tuple[str, ...]:
        """Styles that no training saw."""

    @property
    def objects(self) -> tuple[str, ...]:
        """What is asked for."""

    @property
    def digest(self) -> str:
        """`sha256:`, or empty."""

    def names(self, style: str) -> tuple[str, ...]:
        """What the artist is called: the name, then others."""

    def wording(self, style: str) -> Wording:
        """How a style is asked for. Raises InputError where nobody says so."""

    def suspect(self, style: str) -> Suspect:
        """The same with the works that an attacker has."""

    def photos(self) -> Mapping[str, NDArray[np.uint8]]:
        """object -> (n, S, S, 3) pictures in nobody's style, for attacks."""

    def near(self, style: str) -> tuple[str, ...]:
        """Artists whose works are much alike."""

    def held_out(self) -> Pictures | None:
        """Works on which judges show that they see, apart from all others; None = the data's own test works."""

    def references(self) -> Mapping[str, Pictures]:
        """style -> works to make judges of, apart from all others; nobody's pictures among them."""


class InventedArtists:
    """The testbed's artists, on CIFAR-10's photos of the role `attack`."""

    judges = ("adain", "cnn")
    scale = SCALE
    styles = tuple(name for name, known in STYLES.items() if known.artist)
    controls = CONTROLS
    digest = ""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @property
    def objects(self) -> tuple[str, ...]:
        """CIFAR-10's classes."""
        return OBJECTS

    @cached_property
    def _photos(self) -> Mapping[str, NDArray[np.uint8]]:
        return cifar10_photos(self.path)["attack"]

    def names(self, style: str) -> tuple[str, ...]:
        """Name and alias."""
        return tuple(name for name in (STYLES[style].artist, STYLES[style].alias) if name)

    def wording(self, style: str) -> Wording:
        """By the captions' templates."""
        return wording_of(style)

    def suspect(self, style: str) -> Suspect:
        """Works after the attackers' photos."""
        return suspect(style, self._photos)

    def photos(self) -> Mapping[str, NDArray[np.uint8]]:
        """Those of the role `attack`."""
        return self._photos

    def near(self, style: str) -> tuple[str, ...]:
        """Deliberate pairs."""
        return STYLES[style].neighbours

    def held_out(self) -> Pictures | None:
        """The data's own."""
        return None

    def references(self) -> Mapping[str, Pictures]:
        """After the judges' photos."""
        photos = cifar10_photos(self.path)["judge"]
        works = painted(photos, dict.fromkeys(STYLES, _REFERENCES), "references")
        return {style: works.in_style(style) for style in STYLES}


def check_roster(config: Config, root: Path, raw: Any) -> None:
    """Before anything is written: what is declared holds against the data, and whoever is named to look can. Raises what
    `declared.check_declared` and `judges.judges_for` raise, InputError where there are no pictures to judge."""
    table = config.styles
    if table.artists is None and not config.judges:
        return
    if not isinstance(raw.train, Pictures):
        raise InputError("artists and judges are of text-to-image models", got=raw.source)
    from expunge.workflow.styles.declared import check_declared, load_declared
    from expunge.workflow.styles.judges import judges_for

    check_declared(table, root, raw)
    if table.artists is not None:
        for judge in judges_for(config, root, load_declared(table, root, int(raw.train.images.shape[1]))):
            _ = judge.digest  # weights that are missing are missed now


def log_roster(workspace: Workspace, raw: Any) -> None:
    """Commit to what was declared, when the workspace is made."""
    if workspace.config.styles.artists is not None:
        from expunge.workflow.styles.declared import log_declared

        log_declared(workspace, raw)


def roster_of(workspace: Workspace) -> Roster | None:
    """Who can be asked for here; None where nobody has said so. Raises IntegrityError where what was declared is not what was
    logged."""
    if workspace.config.styles.artists is not None:
        from expunge.workflow.styles.declared import declared_in

        return declared_in(workspace)
    if any(entry.kind == DECLARED for entry in workspace.log.entries()):
        raise IntegrityError(
            "artists were declared when the workspace was made, and expunge.toml names no file of them any more",
            hint="put styles.artists back: who can be asked for is not taken away after a verdict",
        )
    if workspace.config.data.source != TESTBED:
        return None
    path = workspace.named_data["options"].get("path")
    return InventedArtists(None if path is None else Path(path))
