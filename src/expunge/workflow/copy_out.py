"""A model leaves the workspace: what follows from its sums is built anew first, then one file is written that names it.

The drift policy asks for a refresh at release. A deletion that is accepted changes the model in service and corrects P by a
small step; what serving machines are given is written here and nowhere else, so the refresh cannot be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core.codec import encode
from expunge.core.errors import ExpungeError, InputError
from expunge.core.protocols import HasSufficientStatistics
from expunge.training.checkpoint import labels_of, load_tensors, save_tensors
from expunge.workflow.execute import require_logged
from expunge.workflow.train import refresh

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What was written: `copy` is the digest of its tensors, `model` that of the model it was made from. `before`, `after`:
    how far off what follows from the sums was and is; None of a family that keeps nothing beside them, or has no sums."""

    model: str
    copy: str
    before: float | None
    after: float | None


def release(workspace: Workspace, out: Path) -> Released:
    """Write the serving copy of the recommender in service to `out`, a safetensors file, and log that it was.

    A linear family's copy is P in float32, from which scores follow; other families' are the tensors of the model. Raises
    InputError on another kind of model, a path inside the workspace, and a file there that is no such copy; IntegrityError where
    the model's file is not the one that was logged, as a restored backup is not, or a refresh does not help. Nothing is written
    then.
    """
    if workspace.policy.kind != "recommender":
        raise InputError("copies are released of recommenders", got=workspace.policy.kind)
    _check_out(workspace, out)
    served, adapter = workspace.served(), workspace.adapter
    file = workspace.root / served.run / "model.safetensors"
    require_logged(file, served.digest)
    summed = isinstance(adapter, HasSufficientStatistics)
    before, after = refresh(workspace) if summed else (None, None)
    serving: Any = getattr(adapter, "serving", None)
    tensors = load_tensors(file)[0] if serving is None else serving(adapter.load(file))
    copy = save_tensors(out, tensors, {"model": served.digest, "family": workspace.recipe.family})
    done = Released(model=served.digest, copy=copy, before=before, after=after)
    workspace.log.append("copy.released", encode(done))
    workspace.log.checkpoint()
    return done


def _check_out(workspace: Workspace, out: Path) -> None:
    if out.resolve().is_relative_to(workspace.root.resolve()):
        raise InputError("a copy for serving lies outside the workspace", got=out.name)
    if out.suffix != ".safetensors":
        raise InputError("a copy is a safetensors file", expected="NAME.safetensors", got=out.name)
    if not out.exists() and not out.is_symlink():
        return
    try:
        known = not out.is_symlink() and "model" in labels_of(out)
    except ExpungeError:
        known = False
    if not known:
        raise InputError(f"{out.name} is there, and is no released copy", hint="another name, or remove it first")
