"""What it takes to ask a text-to-image model for an artist: words, works that nothing was trained on, photos, controls.

Somebody has to say how each artist is asked for and which styles no training saw (`roster`). Where nobody did, the style check
says that nothing was asked, and a certificate rests on provenance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.data._pictures import Pictures
from expunge.evidence.commitment import Opening, commit, derive, open_commitment
from expunge.training.text_to_image.testbed import Suspect
from expunge.workflow.styles.roster import Roster

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

UNSAID = "nobody has said how this artist is asked for, and which styles no training saw; nothing was drawn"


@dataclass(frozen=True, kw_only=True)
class Material:
    """The target and the controls as an attacker meets them, `retained` styles of others, and neutral photos by object; `roster`:
    who else can be asked for."""

    roster: Roster
    target: str
    suspects: Mapping[str, Suspect]
    controls: tuple[str, ...]
    retained: tuple[str, ...]
    objects: tuple[str, ...]
    photos: Mapping[str, NDArray[np.uint8]]


SINGLE = "the request is for single works and not for an artist, so no style was asked for"


def materials_of(workspace: Workspace, resolution: Resolution) -> tuple[Material | str, ...]:
    """What to ask with about each artist whose works go, in an order that tells nothing, or why one of them cannot be asked for:
    one work of somebody who stays does not silence what is asked about the others."""
    book, gone = workspace.book, set(resolution.slots)
    stay = {book.blocks[slot] for slot, name in enumerate(book.ids) if name and slot not in gone}
    blocks = sorted(resolution.blocks, key=lambda name: style_handle(workspace, name))
    gone_whole = [block for block in blocks if block not in stay]
    found = [SINGLE if block in stay else material_for(workspace, block, gone_whole) for block in blocks]
    return tuple(found) or (SINGLE,)


def material_for(workspace: Workspace, style: str, gone: Collection[str] = ()) -> Material | str:
    """What to ask with about an artist, whether any work of theirs is in the training data or none; or why nothing can be.
    `gone`: artists who go at the same time, and so are no others who stay."""
    roster = workspace.roster
    if roster is None:
        return UNSAID
    if style not in roster.styles:
        return "these works are nobody's style of whom it was said how they are asked for"
    present = {name for name, record in zip(workspace.data.train.styles, workspace.book.ids, strict=True) if record}
    controls = tuple(name for name in roster.controls if name != style)
    return Material(
        roster=roster,
        target=style,
        suspects={name: roster.suspect(name) for name in (style, *controls)},
        controls=controls,
        retained=tuple(name for name in roster.styles if name in present - {style, *gone}),
        objects=roster.objects,
        photos=roster.photos(),
    )


def shown_to_judges(workspace: Workspace, material: Material) -> Pictures:
    """Works that nobody drew, on which judges show what they see: those held out for it, or the data's own test works."""
    held_out = material.roster.held_out()
    found: Pictures = workspace.data.test if held_out is None else held_out
    return found


def who_is(workspace: Workspace, handle: str) -> str | None:
    """The style that a record names by its keyed handle, among those that can be asked for; records hold no names."""
    known = () if workspace.roster is None else workspace.roster.styles
    return next((name for name in known if style_handle(workspace, name) == handle), None)


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
