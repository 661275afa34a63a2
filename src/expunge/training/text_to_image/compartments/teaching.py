"""An adapter from one artist's works and nothing else: the same works, seed and build give the same bits."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from expunge.core.errors import InputError
from expunge.core.plan import Numerics
from expunge.core.protocols import Progress, silent
from expunge.data._pictures import Pictures
from expunge.evidence.durable import storage_errors
from expunge.training.checkpoint import save_tensors
from expunge.training.loop import numerics
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.adapter import ADDED, with_adapter
from expunge.training.text_to_image.compartments.records import (
    ADAPTERS,
    BASE,
    AdapterRecord,
    BaseRecord,
    Compartments,
    Saw,
    Teaching,
    read_manifest,
    require_exact,
    require_recorded,
    saw_of,
    sha256_of,
    write_manifest,
)
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.matching import learned
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.tuning import Tuning, tuned


def begin(folder: Path, base: Path, saw: Saw) -> Compartments:
    """A new directory with a copy of the model directory `base`, which was trained on what `saw` says, and no adapter yet."""
    digest = read_directory(base).digest
    if folder.exists():
        raise InputError("the directory exists already", got=str(folder), hint="nothing is overwritten")
    with storage_errors(folder, "write"):
        (folder / ADAPTERS).mkdir(parents=True)
        shutil.copytree(base, folder / BASE)
    found = Compartments(base=BaseRecord(digest=digest, saw=saw))
    write_manifest(folder, found)
    return found


def teach(
    folder: Path,
    pictures: Pictures,
    artist: str,
    *,
    seed: str,
    how: Teaching | None = None,
    threads: int = 1,
    progress: Progress = silent,
) -> Compartments:
    """Train the artist's adapter over the base, write it and record it.

    Of `pictures`, only rows whose block is the artist are read, so other rows change no bit. Raises InputError where there
    are none or the artist has an adapter, `not-exact` where the base or another adapter saw the artist or a work of theirs,
    IntegrityError on a directory that is not as recorded. Cost: a forward and a backward pass a step.
    """
    found, how = read_manifest(folder), how or Teaching()
    require_recorded(folder, found)
    if any(item.artist == artist for item in found.adapters):
        raise InputError("the artist has an adapter already", got=artist, hint="drop it first")
    mine, setting = works_of_artist(pictures, artist), _numerics(threads)
    record = AdapterRecord(
        artist=artist,
        file="",
        weights="",
        base=found.base.digest,
        saw=saw_of(mine, "taught here"),
        how=how,
        seed=seed,
        numerics=setting,
    )
    require_exact(_with(found, record), artist)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        file = Path(scratch) / "adapter.safetensors"
        tensors = taught(TextToImage.from_dir(folder / BASE), mine, (artist, seed), how, setting, progress)
        record = replace(record, weights=save_tensors(file, tensors), file=sha256_of(file))
        with storage_errors(folder, "write"):
            file.replace(folder / record.path)
    grown = _with(found, record)
    write_manifest(folder, grown)
    return grown


def same_when_taught_again(folder: Path, pictures: Pictures, artist: str) -> bool:
    """Whether a training of the adapter from these works, as recorded, gives the recorded weights: what a second holder of
    the works can do. Raises InputError where this build computes otherwise than the recorded one."""
    record = read_manifest(folder).of(artist)
    setting = _numerics(record.numerics.threads)
    if setting != record.numerics:
        differ = "; ".join(setting.differences(record.numerics))
        raise InputError("another build gives other bits", got=differ, hint="repeat it on the recorded build")
    base, mine = TextToImage.from_dir(folder / BASE), works_of_artist(pictures, artist)
    with tempfile.TemporaryDirectory() as scratch:
        tensors = taught(base, mine, (artist, record.seed), record.how, setting)
        return save_tensors(Path(scratch) / "again.safetensors", tensors) == record.weights


def taught(
    base: TextToImage,
    works: Pictures,
    whose: tuple[str, str],
    how: Teaching,
    setting: Numerics,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Tensors of an adapter (Hu et al. 2022) trained to denoise these works under their captions (Ho et al. 2020, equation
    14; one caption in ten left out). `whose`: artist and seed, which key every draw. The base stays as it is."""
    artist, seed = whose
    own = derive_seed(seed, "compartment", artist)
    with numerics(setting):
        unet = with_adapter(base.unet, how.where, how.rank, how.scale, own)
        loss = learned(base, works, derive_seed(own, "works"), how.batch)
        tuning = Tuning(steps=how.steps, lr=how.lr, batch=how.batch)
        done = tuned(base.with_unet(unet), loss, tuning, changes=ADDED, progress=progress).model
    return {name: tensor for name, tensor in done.unet.state_dict().items() if re.search(ADDED, name)}


def works_of_artist(pictures: Pictures, artist: str) -> Pictures:
    """The rows of one block; raises InputError where there are none."""
    rows = [row for row, block in enumerate(pictures.blocks) if block == artist]
    if not rows:
        raise InputError("no works of the artist", expected="a block of the data", got=artist, code="not_present")
    return pictures.only(rows)


def _with(found: Compartments, record: AdapterRecord) -> Compartments:
    return replace(found, adapters=tuple(sorted((*found.adapters, record), key=lambda item: item.artist)))


def _numerics(threads: int) -> Numerics:
    return Numerics(
        precision="fp32",
        threads=threads,
        device="cpu",
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        build=f"torch {torch.__version__.split('+')[0]}",
    )
