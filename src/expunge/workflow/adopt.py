"""Take in a model that was trained elsewhere, and say honestly what is still possible with it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from expunge.core.codec import encode
from expunge.core.errors import ExpungeError, InputError
from expunge.training.checkpoint import load_tensors, save_tensors, weights_identity
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.packed import packed, unpacked
from expunge.workflow.foreign import adopt_foreign, named, read_foreign
from expunge.workflow.state import ModelRecord
from expunge.workflow.styles.edits import ELSEWHERE, KIND

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One line of the menu: what, whether it is possible, and what it could at most be certified as."""

    name: str
    possible: bool
    guarantee: str
    why: str


_RETRAIN = Option(
    name="retrain",
    possible=True,
    guarantee="EXACT, as logged by the owner",
    why="the recipe is run again on the retained records; the adopted weights are replaced, not edited",
)
_EXACT_BY_SUMS = Option(
    name="downdate",
    possible=True,
    guarantee="EXACT, as logged by the owner",
    why="the counts in its weights are those of the workspace's users, entry by entry: it is this recipe's own model",
)
_HISTORY = Option(
    name="statement about the adopted file's own history",
    possible=False,
    guarantee="none",
    why="nobody here saw how it was trained: that its recipe and data are as declared rests on whoever supplied it",
)
_EDITED = (
    Option(
        name=f"{KIND}/NAME",
        possible=True,
        guarantee="EMPIRICAL at most",
        why="an edit of the weights, judged by the checks style and collateral; what nobody can judge is refused",
    ),
    *(
        Option(name=name, possible=False, guarantee="EXACT", why=why)
        for name, why in (
            ("retrain", ELSEWHERE),
            ("replay", "the original has no transcript and no checkpoints"),
            ("sisa", "the original was not trained in shards here"),
        )
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """An adopted model and its menu. `residues`: what else in the artefact holds users, to be destroyed with it."""

    record: ModelRecord
    menu: tuple[Option, ...]
    residues: tuple[str, ...] = ()


def adopt(workspace: Workspace, files: Sequence[Path], reader: str | None = None, items: Path | None = None) -> Adopted:
    """Copy a model into the workspace and log it as adopted: a safetensors state dict that fits the recipe's
    architecture, what another library wrote of a recommender (`reader` names which, `items` is a file of its columns'
    ids where it has none), or the directory of a text-to-image model in the layout of diffusers, whatever its
    architecture.

    Raises InputError when a model is already served, IntegrityError when the file is not these tensors.
    """
    if workspace.state().model is not None:
        raise InputError("this workspace already serves a model", hint="start a new workspace")
    if workspace.book.tombstones:
        raise InputError(
            "works were opted out of this workspace's data, and nobody knows whether this model was trained on them",
            hint="train it here, or make a workspace without data.signals",
        )
    if (reader or items) and workspace.policy.kind != "recommender":
        raise InputError("a format and items are said of recommenders", got=workspace.policy.kind)
    run = workspace.root / "store" / "runs" / "adopted"
    residues: tuple[str, ...] = ()
    source: dict[str, str] = {}
    if workspace.policy.kind == "recommender":
        found = read_foreign(files, reader)
        digest, residues = adopt_foreign(workspace, found if items is None else named(found, items), run)
    elif workspace.policy.kind == "generator":
        digest, source = _directory(workspace, files, run)
    else:
        digest = _copied(workspace, files, run)
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
    payload = {"model": digest, "recipe": workspace.recipe.digest, "numerics": encode(workspace.numerics), **source}
    workspace.log.append("model.adopted", payload)
    workspace.log.checkpoint()
    return Adopted(record=record, menu=menu(workspace), residues=residues)


def _copied(workspace: Workspace, files: Sequence[Path], run: Path) -> str:
    if len(files) != 1 or not files[0].is_file():
        raise InputError("no such weights file", expected="a safetensors state dict", got=", ".join(map(str, files)))
    workspace.adapter.load(files[0])
    tensors, _ = load_tensors(files[0])
    digest = save_tensors(run / "model.safetensors", tensors)
    if digest != weights_identity(files[0]):
        raise InputError("the copy is not the file", expected=weights_identity(files[0]), got=digest)
    return digest


def _directory(workspace: Workspace, files: Sequence[Path], run: Path) -> tuple[str, dict[str, str]]:
    """A text-to-image model as one file; the digest over all files of its directory goes into the log.

    Raises InputError on code, pickles, links, models without cross-attention, weights left beside, and on a model of pictures
    of another size than the workspace's; IntegrityError on weights that are missing, damaged or not finite.
    """
    if len(files) != 1:
        raise InputError(
            "one directory is adopted", expected="a folder with model_index.json", got=f"{len(files)} paths"
        )
    found = read_directory(files[0])
    tensors = packed(found)
    digest = save_tensors(run / "model.safetensors", tensors)
    try:
        _fits(workspace, run / "model.safetensors")
    except ExpungeError:
        shutil.rmtree(run, ignore_errors=True)
        raise
    return digest, {"directory": found.digest}


def _fits(workspace: Workspace, file: Path) -> None:
    """Its parts fit each other and the workspace's pictures: one picture is encoded and looked at with its caption."""
    model, train = unpacked(file).model, workspace.data.train
    side = int(model.unet.config.sample_size)  # type: ignore[union-attr,arg-type]
    try:
        clean = model.latents(train.images[:1])
        model.predict(clean, torch.tensor([0]), model.encode([train.captions[0]]))
    except (RuntimeError, ValueError) as error:
        raise InputError("the model does not take the workspace's pictures", got=str(error)[:200]) from error
    if clean.shape[2] != side:
        scale = train.images.shape[1] // int(clean.shape[2])
        raise InputError(
            "the model draws pictures of another size",
            expected=f"{side * scale} pixels a side",
            got=f"{train.images.shape[1]} in the workspace",
            hint="expunge init with the model's size",
        )


def menu(workspace: Workspace) -> tuple[Option, ...]:
    """What can and cannot be done for a model that came without transcript, checkpoints or bank."""
    served, banks = workspace.served(), workspace.state().banks
    if workspace.policy.kind == "recommender":
        return (_EXACT_BY_SUMS, _RETRAIN)
    if workspace.policy.kind == "generator":
        return (*_EDITED, _HISTORY)
    trained_here = not served.adopted
    return (
        _RETRAIN,
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
        replace(_HISTORY, possible=trained_here),
    )
