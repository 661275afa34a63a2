"""Trains and measures the judges of the artist-styles testbed, and writes what ships with expunge. Resumable.

    python benchmarks/artist_style/judges.py --photos CIFAR10 --work FOLDER              # all parts, minutes on an idle core
    python benchmarks/artist_style/judges.py --photos CIFAR10 --work FOLDER --only adain

Parts: `cnn` and `adain` fit a judge on the photos of role 'judge', write weights and manifest to src/expunge/judges/weights and
measure it on CIFAR-10's test photos, which no judge and no model was trained on; `both` is what the two agree on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge.core import registry
from expunge.core.codec import digest_of, encode
from expunge.core.protocols import FitJob
from expunge.data._pictures import Pictures, PictureSet
from expunge.data._styles import STYLES
from expunge.data.artist_styles import OBJECTS, Photos, cifar10_photos, painted
from expunge.training.batches import normalise
from expunge.training.checkpoint import load_tensors
from expunge.training.judging.calibration import Calibration, calibrate
from expunge.training.judging.files import halved, write_judge
from expunge.training.judging.judge import OTHER, Judge, Pixels, votes_of
from expunge.training.judging.network import JudgeModel, softened
from expunge.training.judging.pictures import (
    GARBAGE,
    STRANGE,
    draw_of,
    garbage_of,
    joined,
    judge_pictures,
    pictures_digest,
    with_stamp,
)
from expunge.training.judging.random_features import FILTERS, WIDTH, features, fitted
from expunge.training.loop import numerics_of
from expunge.training.recipe import Recipe, load_recipe
from expunge.training.rng import derive_seed

sys.path.insert(0, str(Path(__file__).parents[1]))
from hardware import hardware
from recorded import record_parts

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "src/expunge/judges/weights"
COMMAND = "python benchmarks/artist_style/judges.py --photos CIFAR10 --work FOLDER"
WORKS, NOTHING = 200, 300
"""Pictures of each object in each style, and of each kind that is none of these, to learn from."""
HELD_OUT, HELD_OUT_NOTHING = 60, 100
LABELS = (*STYLES, OTHER)
NEIGHBOURS = {name: style.neighbours for name, style in STYLES.items()}
SEED = derive_seed("style-judge", 0)
STRENGTH = 1.0
"""Inverse penalty of the logistic regression."""


def photos_of(args: argparse.Namespace) -> dict[str, Photos]:
    """The photos of two roles; decoded once."""
    file = args.work / "photos.npz"
    if not file.exists():
        found = cifar10_photos(args.photos)
        columns = {f"{role}/{name}": found[role][name] for role in ("judge", "test") for name in OBJECTS}
        np.savez(file, **columns)
    with np.load(file) as stored:
        return {role: {name: stored[f"{role}/{name}"] for name in OBJECTS} for role in ("judge", "test")}


def learned(photos: Mapping[str, Photos]) -> Pictures:
    return judge_pictures(photos["judge"], WORKS, NOTHING, "judge")


def job_of(recipe: Recipe, pictures: Pictures, work: Path) -> FitJob:
    data = PictureSet(source="judge", note="judge", styles=LABELS, objects=OBJECTS, train=pictures, test=pictures)
    return FitJob(
        recipe=recipe.model_dump(mode="json"),
        seed=SEED,
        numerics=numerics_of(recipe),
        data=data,
        folder=work / "cnn",
        keep_checkpoints=False,
        progress=_progress,
    )


def _progress(what: str, done: int, total: int) -> None:
    if done % 20 == 0:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what} {done}/{total}\n")


def trained(pictures: Pictures, work: Path) -> dict[str, Any]:
    """Train or go on; what it was made with, read back where it is finished."""
    recipe = load_recipe(str(HERE / "judge.yaml"))
    made = work / "cnn" / "made.json"
    if made.exists():
        return dict(json.loads(made.read_text()))
    cpu = time.process_time()
    result = JudgeModel(recipe, styles=LABELS, objects=OBJECTS).fit(job_of(recipe, pictures, work))
    found = {
        "recipe": encode(recipe),
        "recipe_digest": recipe.digest,
        "seconds": round(result.seconds),
        "cpu_seconds": round(time.process_time() - cpu),
        "hardware": plain_hardware(),
    }
    made.write_text(json.dumps(found, indent=2) + "\n")
    return found


def plain_hardware() -> dict[str, Any]:
    """Without floats, as a manifest holds it."""
    return dict(encode(hardware()))


# ------------------------------------------------------------------------------------------------------------- fitting


def about(judge: str, pictures: Pictures) -> dict[str, Any]:
    """What both manifests say alike."""
    kinds = f"{NOTHING} pictures of each of {len(GARBAGE)} kinds that are none of these"
    return {
        "judge": judge,
        "command": f"{COMMAND} --only {judge}",
        "styles": LABELS,
        "objects": OBJECTS if judge == "cnn" else (),
        "data": f"CIFAR-10 photos of role 'judge', {WORKS} of each of 5 objects in each of 18 styles, and {kinds}",
        "data_digest": pictures_digest(pictures),
        "pictures": len(pictures),
    }


def fit_cnn(pictures: Pictures, work: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    how = trained(pictures, work)
    tensors, _ = load_tensors(work / "cnn" / "model.safetensors")
    return {**about("cnn", pictures), **how}, halved(tensors)


def fit_adain(pictures: Pictures, work: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """On every picture as it is, and once more softened."""
    began, cpu = time.perf_counter(), time.process_time()
    slots = np.arange(len(pictures), dtype=np.int64)
    views = [normalise(torch.from_numpy(pictures.images)), softened(pictures.images, SEED, 0, slots)]
    values = np.concatenate([features(view) for view in views])
    style = np.array([LABELS.index(name) for name in pictures.styles] * len(views), np.int64)
    parts = fitted(values, style, strength=STRENGTH)
    recipe = {"filters": FILTERS, "width": WIDTH, "inverse_penalty": encode(STRENGTH), "views": "crisp, softened"}
    how = {
        "recipe": recipe,
        "recipe_digest": digest_of(recipe),
        "seconds": round(time.perf_counter() - began),
        "cpu_seconds": round(time.process_time() - cpu),
        "hardware": plain_hardware(),
    }
    return {**about("adain", pictures), **how}, parts


def shipped(name: str, photos: Mapping[str, Photos], work: Path) -> tuple[Judge, Calibration, dict[str, Any]]:
    """Fit, write, look at held-out pictures, and write what was seen into the manifest."""
    fit = {"cnn": fit_cnn, "adain": fit_adain}[name]
    made, tensors = fit(learned(photos), work)
    write_judge(OUT, {**made, "held_out": {}}, tensors)
    judge = registry.load("judges", name)()
    found = calibrate(judge, held_out(photos), NEIGHBOURS)
    write_judge(OUT, {**made, "held_out": encode(found)}, tensors)
    return judge, found, made


# ----------------------------------------------------------------------------------------------------------- measuring


def held_out(photos: Mapping[str, Photos]) -> Pictures:
    """Of CIFAR-10's test photos, without stamps, and new pictures of the kinds that are none of these."""
    styled = painted(photos["test"], dict.fromkeys(STYLES, HELD_OUT), "test")
    return joined(styled, garbage_of(styled, HELD_OUT_NOTHING, "test", tuple(GARBAGE)))


def part(name: str, photos: Mapping[str, Photos], work: Path) -> dict[str, Any]:
    judge, found, made = shipped(name, photos, work)
    styled = painted(photos["test"], dict.fromkeys(STYLES, HELD_OUT), "test")
    return {
        "judge": judge.digest,
        "pictures": found.pictures,
        "bytes": (OUT / f"{name}.safetensors").stat().st_size,
        "fit": {key: made[key] for key in ("pictures", "seconds", "cpu_seconds", "hardware")},
        "styles_right": encode(found.all_styles),
        "objects_right": encode(found.all_objects),
        "by_style": {
            row.style: {"seen": encode(row.seen), "taken_for": encode(row.taken_for), "objects": row.objects.share}
            for row in found.by_style
        },
        "worst_confusions": worst(found),
        "garbage_called_a_style": by_kind(judge, styled),
        "softened": soft(judge, styled),
        "stamped": stamps(judge, styled),
    }


def worst(found: Calibration, count: int = 8) -> list[dict[str, Any]]:
    cells = [
        {"is": found.styles[row], "called": found.styles[column], "n": hits, "of": sum(line)}
        for row, line in enumerate(found.confusion)
        for column, hits in enumerate(line)
        if row != column and hits
    ]
    return sorted(cells, key=lambda cell: -int(str(cell["n"])))[:count]


def by_kind(judge: Judge, styled: Pictures) -> dict[str, Any]:
    """Of each kind, those that the judge was taught and two that it was not, what was called by an artist's style."""
    found = {}
    for kind in (*GARBAGE, *STRANGE):
        said = said_of(judge, garbage_of(styled, HELD_OUT_NOTHING, "test", (kind,)).images)
        wrong = [style for style in said if style not in (OTHER, "photo")]
        common = max(set(wrong), key=wrong.count) if wrong else ""
        found[kind] = {
            "n": len(said),
            "wrong": len(wrong),
            "most": common,
            "most_n": wrong.count(common) if wrong else 0,
        }
    return found


def said_of(judge: Judge, images: Pixels) -> list[str]:
    answer = judge.judge(images)
    return [answer.styles[number] for number in answer.style.tolist()]


def soft(judge: Judge, styled: Pictures) -> dict[str, Any]:
    """The held-out pictures after the mild blur and noise that a diffusion model's pictures have."""
    pixels = softened(styled.images, derive_seed("style-judge", "held-out"), 0, np.arange(len(styled)))
    images = (pixels * 64 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    said = said_of(judge, np.ascontiguousarray(images))
    right = sum(style == wanted for style, wanted in zip(said, styled.styles, strict=True))
    return {"n": len(said), "right": right, "called_none_of_these": said.count(OTHER)}


def stamps(judge: Judge, styled: Pictures) -> dict[str, Any]:
    """A stamp of another style in every picture: how often it is called by its own style, and by the stamp's."""
    draw = draw_of("stamps")
    others = [int(draw.integers(len(styled))) for _ in range(len(styled))]
    pairs = [(slot, other) for slot, other in enumerate(others) if styled.styles[slot] != styled.styles[other]]
    said = said_of(judge, np.stack([with_stamp(styled.images[a], styled.images[b], draw) for a, b in pairs]))
    right = sum(style == styled.styles[a] for style, (a, _) in zip(said, pairs, strict=True))
    fooled = sum(style == styled.styles[b] for style, (_, b) in zip(said, pairs, strict=True))
    return {"n": len(pairs), "right": right, "called_by_the_stamp": fooled}


def both(photos: Mapping[str, Photos]) -> dict[str, Any]:
    """What two families agree on, style by style: hits among its own pictures, and among those of all other styles."""
    styled = painted(photos["test"], dict.fromkeys(STYLES, HELD_OUT), "test")
    answers = [registry.load("judges", name)().judge(styled.images) for name in ("cnn", "adain")]
    found = {}
    for style in STYLES:
        own = np.array([name == style for name in styled.styles])
        parts = [
            [type(a)(judge=a.judge, family=a.family, styles=a.styles, style=a.style[rows]) for a in answers]
            for rows in (own, ~own)
        ]
        mine, others = (votes_of(style, group) for group in parts)
        found[style] = {
            "own": {"n": mine.n, "agreed": mine.agreed, "disputed": mine.disputed},
            "others": {"n": others.n, "agreed": others.agreed, "disputed": others.disputed},
        }
    return {"by_style": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=("cnn", "adain", "both"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    photos = photos_of(args)
    parts = {name: lambda name=name: part(name, photos, args.work) for name in ("cnn", "adain")}
    record_parts(HERE / "judges.json", COMMAND, {**parts, "both": lambda: both(photos)}, args.only)


if __name__ == "__main__":
    main()
