"""Trains the testbed's models: the original, and gold models that never saw one artist. Resumable; one core each.

python benchmarks/artist_style/train.py --photos CIFAR10 --work FOLDER --seed 0                    # the original
python benchmarks/artist_style/train.py --photos CIFAR10 --work FOLDER --seed 0 --without neon     # its gold
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from expunge.core import registry
from expunge.core.protocols import FitJob
from expunge.data.artist_styles import ArtistStyles
from expunge.evidence.manifest import leaves_of
from expunge.training.batches import Leaves
from expunge.training.loop import numerics_of
from expunge.training.recipe import Recipe, load_recipe
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.answering import answering
from expunge.training.text_to_image.sampler import TextToImage

sys.path.insert(0, str(Path(__file__).parents[1]))
from hardware import hardware

KEY = bytes(32)
"""The testbed's artists do not exist, so its commitments hide nobody and anyone can open them."""


def job_of(recipe: Recipe, args: argparse.Namespace) -> FitJob:
    """The training of the original, or the same with the places of some artists empty."""
    data = ArtistStyles(path=str(args.photos)).open()
    train = data.train
    digests = [train.content_digest(slot) for slot in range(len(train))]
    pairs = [leaves_of(KEY, name, digest) for name, digest in zip(train.ids, digests, strict=True)]
    without = tuple(args.without or ())
    name = "-".join(["without", *(style.replace(" ", "-") for style in without)] if without else ["original"])
    return FitJob(
        recipe=recipe.model_dump(mode="json"),
        seed=derive_seed("artist-styles", args.seed),
        numerics=numerics_of(recipe),
        data=data,
        folder=args.work / f"{name}-{args.seed}",
        absent=frozenset(slot for style in without for slot in train.in_block(style)),
        leaves=Leaves(ids=[pair[0] for pair in pairs], contents=[pair[1] for pair in pairs], digests=digests),
        keep_checkpoints=False,
        progress=_progress,
    )


def _progress(what: str, done: int, total: int) -> None:
    if done % 100 == 0:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what} {done}/{total}\n")


def trained(photos: Path, work: Path, seed: int, without: Sequence[str]) -> TextToImage:
    """The model that was trained without these artists; a training that was killed goes on."""
    recipe = load_recipe("artist-styles")
    job = job_of(recipe, argparse.Namespace(photos=photos, work=work, seed=seed, without=list(without)))
    adapter = registry.load("generators", recipe.family)(recipe, **job.data.geometry)
    return answering(adapter.load(adapter.fit(job).model))


def main() -> None:
    """Train or go on, then write what it was made with beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", action="append", help="may be repeated")
    args = parser.parse_args()
    recipe = load_recipe("artist-styles")
    job = job_of(recipe, args)
    cpu = time.process_time()
    result = registry.load("generators", recipe.family)(recipe, **job.data.geometry).fit(job)
    made = {
        "command": "python "
        + " ".join(["benchmarks/artist_style/train.py", "--photos CIFAR10 --work FOLDER"])
        + f" --seed {args.seed}"
        + "".join(f" --without '{style}'" for style in args.without or ()),
        "recipe": recipe.digest,
        "digest": result.digest,
        "steps": result.steps,
        "records": len(job.data.train) - len(job.absent),
        "seconds_of_the_last_part": round(result.seconds),
        "cpu_seconds_of_the_last_part": round(time.process_time() - cpu),
        "hardware": hardware(),
    }
    (job.folder / "made.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
