"""What the files of a model directory say against it before anything is drawn: held against the original's, file by file.

An honest edit changes weights of the denoiser and nothing else: the same files, the same tensors, the same settings. What
was not edited is not erased; what lies beside the weights can be loaded; what was done to another part is undone by putting
the stock part back. Cost: one hash of every file and tensor. Fails where both directories are of different layouts: then an
owner has to hand over both in one.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from expunge.core.errors import InputError
from expunge.evidence.tensors import TensorManifest
from expunge.training.text_to_image.directory import Directory, read_directory

WEIGHTS, CENSUS, SETTINGS, PARTS = "weights", "census", "settings", "parts"
"""Not edited at all; files or tensors too many or too few; other files than weights changed; only other parts changed."""
_DENOISER = "unet"
_SUFFIX = ".safetensors"


def objections(original: Path, candidate: Path) -> dict[str, str]:
    """Defence -> what it says; empty = the files are those of an edit of the denoiser.

    Raises InputError on directories that must not be read (code, pickles, links), IntegrityError on damaged files.
    """
    old, new = read_directory(original), read_directory(candidate)
    found: dict[str, str] = {}
    strangers = sorted(set(old.files) ^ set(new.files))
    if strangers:
        found[CENSUS] = f"files came or went: {', '.join(strangers[:4])}"
    both = [name for name in new.differs_from(old) if name in old.files and name in new.files]
    other = [name for name in both if not name.endswith(_SUFFIX)]
    if other:
        found[SETTINGS] = f"no edit of weights changes {', '.join(other[:4])}"
    return {**found, **_by_weights(old, new, [name for name in both if name.endswith(_SUFFIX)])}


def _by_weights(old: Directory, new: Directory, files: list[str]) -> dict[str, str]:
    changed = {name: _changed(old.path / name, new.path / name) for name in files}
    odd = sorted(name for name, tensors in changed.items() if tensors is None)
    if odd:
        return {CENSUS: f"{odd[0]} holds other tensors than before"}
    parts = {name.split("/")[0] for name, tensors in changed.items() if tensors}
    if not parts:
        return {WEIGHTS: "no weight was changed: whatever answers otherwise is not in these files"}
    if _DENOISER not in parts:
        why = "the denoiser is the original's, and draws what it drew when the stock part is put back"
        return {PARTS: f"only {', '.join(sorted(parts))} changed: {why}"}
    return {}


def _changed(old: Path, new: Path) -> tuple[str, ...] | None:
    """Names of tensors that differ, or None where they are not the same tensors by name, type and shape."""
    mine, theirs = TensorManifest.of_file(old), TensorManifest.of_file(new)
    forms = [[(row.name, row.dtype, row.shape) for row in manifest.rows] for manifest in (mine, theirs)]
    return mine.differences(theirs) if forms[0] == forms[1] else None


def require_honest_run(original: Path, edited: Path, strangers: Collection[str]) -> None:
    """The same of an edit in a workspace: `edited` is the file of both networks that an eraser wrote, `strangers` what else it
    left beside it. Weights that are the original's are told apart by the walk, by their digest.

    Raises InputError whose code is the defence that objects.
    """
    changed = _changed(original, edited)
    if strangers:
        _refuse(CENSUS, f"files lie beside the edited model: {', '.join(sorted(strangers)[:4])}")
    if changed is None:
        _refuse(CENSUS, "the edited model holds other tensors than before")
    elif changed and not any(name.startswith(f"{_DENOISER}.") for name in changed):
        parts = ", ".join(sorted({name.split(".")[0] for name in changed}))
        _refuse(PARTS, f"only {parts} changed: the denoiser draws what it drew when the stock part is put back")


def _refuse(defence: str, why: str) -> None:
    raise InputError(why, expected="the original's tensors with other weights in the denoiser", code=defence)


def require_honest_files(original: Path, candidate: Path) -> None:
    """Raises InputError with every objection: such a directory is not asked for anything."""
    found = objections(original, candidate)
    if found:
        raise InputError(
            f"the files are not those of an erased model: {'; '.join(found.values())}",
            expected="the original's files with other weights in the denoiser",
            hint="leave out what lies beside, and hand over the edited weights",
            code="not-an-edit",
        )
