"""Which canaries a request deletes, and what two models answer about them. The coins stay with the workspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from expunge.core.codec import sha256_hex
from expunge.core.protocols import Coins

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

Answers = Callable[[Any, Any], Any]


def coins_of(workspace: Workspace, resolution: Resolution, *, candidate: Answers, original: Answers) -> Coins | None:
    """The coins and both models' scores, in slot order; None unless this request deletes every head there ever was.

    `candidate` and `original` map images (m, H, W, C) and labels (m,) to natural-log probabilities of those labels
    (m,). A request for a part of the heads leaves the others in training, and a request after the heads are gone
    deletes none: in neither case would the coins say what this deletion did.
    """
    planted = workspace.data.coins
    if planted is None:
        return None
    slot_of = {name: slot for slot, name in enumerate(workspace.book.ids) if name is not None}
    heads = {slot_of.get(name) for name, head in zip(planted.ids, planted.trained, strict=True) if head}
    if not heads or not heads <= set(resolution.slots):
        return None
    return Coins(
        trained=planted.trained,
        candidate=candidate(planted.images, planted.labels),
        original=original(planted.images, planted.labels),
    )


def coins_commitment(workspace: Workspace) -> dict[str, Any]:
    """What is logged before anything is trained: how many coins, and the digest of their key, which fixes every one."""
    options = workspace.config.data.options
    if not options.get("coins"):
        return {}
    return {"coins": {"m": options["coins"], "key": "sha256:" + sha256_hex(str(options["coins_key"]).encode())}}
