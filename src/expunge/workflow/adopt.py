"""Take in a model that was trained elsewhere, and say honestly what is still possible with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import encode
from expunge.core.errors import InputError
from expunge.training.checkpoint import load_tensors, save_tensors, weights_identity
from expunge.workflow.state import ModelRecord

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One line of the menu: what, whether it is possible, and what it could at most be certified as."""

    name: str
    possible: bool
    guarantee: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """An adopted model and its menu."""

    record: ModelRecord
    menu: tuple[Option, ...]


def adopt(workspace: Workspace, weights: Path) -> Adopted:
    """Copy a safetensors state dict into the workspace and log it as adopted. It must fit the recipe's architecture.

    Raises InputError when a model is already served, IntegrityError when the file is not these tensors.
    """
    if workspace.state().model is not None:
        raise InputError("this workspace already serves a model", hint="start a new workspace")
    if not weights.is_file():
        raise InputError("no such weights file", expected="a safetensors state dict", got=str(weights))
    workspace.adapter.load(weights)
    tensors, _ = load_tensors(weights)
    run = workspace.root / "store" / "runs" / "adopted"
    digest = save_tensors(run / "model.safetensors", tensors)
    if digest != weights_identity(weights):
        raise InputError("the copy is not the file", expected=weights_identity(weights), got=digest)
    record = ModelRecord(
        digest=digest,
        run=str(run.relative_to(workspace.root)),
        seed=workspace.config.model.seed,
        absent=(),
        recipe=workspace.recipe.digest,
        numerics=workspace.numerics,
        seconds=0.0,
        adopted=True,
    )
    workspace.remember_model(record)
    payload = {"model": digest, "recipe": workspace.recipe.digest, "numerics": encode(workspace.numerics)}
    workspace.log.append("model.adopted", payload)
    workspace.log.checkpoint()
    return Adopted(record=record, menu=menu(workspace))


def menu(workspace: Workspace) -> tuple[Option, ...]:
    """What can and cannot be done for a model that came without transcript, checkpoints or bank."""
    served, banks = workspace.served(), workspace.state().banks
    trained_here = not served.adopted
    return (
        Option(
            name="retrain",
            possible=True,
            guarantee="EXACT, as logged by the owner",
            why="the recipe is run again on the retained records; the adopted weights are replaced, not edited",
        ),
        Option(
            name="replay",
            possible=trained_here,
            guarantee="EXACT",
            why="needs the transcript and checkpoints of the original training"
            + ("" if trained_here else ", which an adopted model does not have; after one retrain here it is possible"),
        ),
        Option(
            name="sisa",
            possible=trained_here and getattr(workspace.recipe, "shards", 1) > 1,
            guarantee="EXACT",
            why="the model must have been trained in shards",
        ),
        Option(
            name="approximate methods",
            possible=True,
            guarantee="EMPIRICAL at most",
            why="needs a bank of the same recipe"
            + (
                f": {banks[-1].n} models are there"
                if banks
                else ": run `expunge bank` first; without it nothing is granted"
            ),
        ),
        Option(
            name="statement about the adopted file's own history",
            possible=trained_here,
            guarantee="none",
            why="nobody here saw how it was trained: that its recipe and data are as declared rests on whoever supplied it",
        ),
    )
