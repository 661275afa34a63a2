"""What it takes to ask a text-to-image model for an artist: words, works that nothing was trained on, photos, controls.

Somebody has to say how each artist is asked for and which styles no training saw; the testbed's source is the only one that
does so far. For any other the style check says that nothing was asked, and a certificate rests on provenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.data._styles import CONTROLS, STYLES
from expunge.data.artist_styles import OBJECTS, cifar10_photos
from expunge.evidence.commitment import Opening, commit, derive, open_commitment
from expunge.training.text_to_image.testbed import Suspect, suspect

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

TESTBED = "artist_styles"


@dataclass(frozen=True, kw_only=True)
class Material:
    """The target and the controls as an attacker meets them, `retained` styles of others, and neutral photos by object."""

    target: str
    suspects: Mapping[str, Suspect]
    controls: tuple[str, ...]
    retained: tuple[str, ...]
    objects: tuple[str, ...]
    photos: Mapping[str, NDArray[np.uint8]]


def material_of(workspace: Workspace, resolution: Resolution) -> Material | str:
    """What to ask with about the artist whose works all go; or why nothing can be asked."""
    block, book = resolution.block, workspace.book
    gone = set(resolution.slots)
    stay = {book.blocks[slot] for slot, name in enumerate(book.ids) if name and slot not in gone}
    if block is None or block in stay:
        return "the request is for single works and not for an artist, so no style was asked for"
    return material_for(workspace, block)


def material_for(workspace: Workspace, style: str) -> Material | str:
    """What to ask with about an artist, whether any work of theirs is in the training data or none; or why nothing can be."""
    if workspace.config.data.source != TESTBED:
        return "nobody has said how this artist is asked for, and which styles no training saw; nothing was drawn"
    if style not in STYLES or not STYLES[style].artist:
        return "these works are nobody's style"
    path = workspace.named_data["options"].get("path")
    photos = cifar10_photos(None if path is None else Path(path))["attack"]
    present = {name for name, record in zip(workspace.data.train.styles, workspace.book.ids, strict=True) if record}
    retained = tuple(name for name in STYLES if name in present - {style} and STYLES[name].artist)
    controls = tuple(name for name in CONTROLS if name != style)
    return Material(
        target=style,
        suspects={name: suspect(name, photos) for name in (style, *controls)},
        controls=controls,
        retained=retained,
        objects=OBJECTS,
        photos=photos,
    )


def who_is(workspace: Workspace, handle: str) -> str | None:
    """The style that a record names by its keyed handle, among those that can be asked for; records hold no names."""
    return next((name for name in STYLES if style_handle(workspace, name) == handle), None)


def style_handle(workspace: Workspace, style: str) -> str:
    """What stands for a style in the log and in what is kept: a commitment under a key of the style's own, so that nobody can
    tell whose it is but those who are shown the opening of this one."""
    return commit(_style_key(workspace, style), style)


def style_salt(workspace: Workspace, style: str) -> str:
    """What a question about a style is digested with: the rest of it is public or can be guessed, and a few guesses would tell
    whose style it is."""
    return derive(_style_key(workspace, style), "question").hex()


def style_opening(workspace: Workspace, style: str) -> Opening:
    """For the receipt of somebody who asks about this style: that the handle in the log is theirs."""
    return open_commitment(_style_key(workspace, style), style)


def _style_key(workspace: Workspace, style: str) -> bytes:
    return derive(workspace.secret("style"), style)
