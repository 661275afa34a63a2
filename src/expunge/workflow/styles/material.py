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
from expunge.data.artist_styles import OBJECTS, attack_photos
from expunge.training.text_to_image.testbed import Suspect, suspect

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

TESTBED = "artist_styles"
SCALE = "procedural styles of invented artists at 32x32, judged by networks of expunge's own"


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
    if workspace.config.data.source != TESTBED:
        return "nobody has said how this artist is asked for, and which styles no training saw; nothing was drawn"
    if block not in STYLES or not STYLES[block].artist:
        return "these works are nobody's style"
    path = workspace.named_data["options"].get("path")
    photos = attack_photos(None if path is None else Path(path))
    present = {style for style, name in zip(workspace.data.train.styles, workspace.book.ids, strict=True) if name}
    retained = tuple(style for style in STYLES if style in present - {block} and STYLES[style].artist)
    return Material(
        target=block,
        suspects={style: suspect(style, photos) for style in (block, *CONTROLS)},
        controls=CONTROLS,
        retained=retained,
        objects=OBJECTS,
        photos=photos,
    )
