"""Puts finished trainings beside this script: model directories in half precision, with how they were made, and a sheet.

python benchmarks/artist_style/publish.py --work FOLDER [--photos CIFAR10]        # NAME/, NAME.json, NAME.jsonl.gz, sheet.png

NAME.jsonl.gz is the transcript, whose last line names the weights. With the photos, `manifest` in each NAME.json is the digest
of the ids and pixels that the model was trained on, in order. The sheet shows the first original edited as well, by `EDIT`.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
from checkpoints import home_of, published
from PIL import Image, ImageDraw

from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.data._styles import RARE, STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS, ArtistStyles
from expunge.training.recipe import load_recipe
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import wording_of

HERE = Path(__file__).parent
SIZE, ZOOM, MARGIN, EACH = 32, 2, 92, 2
EDIT, TARGET = "uce", "neon"


def publish(run: Path) -> Path:
    """The finished run's weights as a directory with `made.json` and the end of its transcript; kept where it is there."""
    target = home_of(run.name) / run.name
    target.parent.mkdir(exist_ok=True)
    if not target.exists():
        recipe = load_recipe("artist-styles")
        net = registry.load("generators", recipe.family)(recipe, size=SIZE).load(run / "model.safetensors")[0]
        found = export(net, target)
        made = json.loads((run / "made.json").read_text())
        lines = (run / "transcript.jsonl").read_text().splitlines()
        made |= {"directory": found.digest, "transcript_lines": len(lines), "transcript_end": json.loads(lines[-1])}
        (target.parent / f"{run.name}.json").write_text(json.dumps(made, indent=2) + "\n")
        raw = (run / "transcript.jsonl").read_bytes()
        (target.parent / f"{run.name}.jsonl.gz").write_bytes(gzip.compress(raw, 9, mtime=0))
    return target


def add_manifests(photos: str) -> None:
    """What each published model was trained on, as one digest: sha256 of [[id, digest of the pixels], ...]."""
    train = ArtistStyles(path=photos).open().train
    rows = [[name, train.content_digest(slot)] for slot, name in enumerate(train.ids)]
    for folder in published():
        file = folder.with_suffix(".json")
        made = json.loads(file.read_text())
        absent = set(train.in_block(_absent(folder.name))) if folder.name.startswith("without") else set()
        made["manifest"] = digest_of([row for slot, row in enumerate(rows) if slot not in absent])
        if made["records"] != len(rows) - len(absent):
            raise SystemExit(f"{folder.name} was trained on {made['records']} works, not on {len(rows) - len(absent)}")
        file.write_text(json.dumps(made, indent=2) + "\n")


def _absent(name: str) -> str:
    """`without-pop-art-0` -> `pop art`."""
    return name.removeprefix("without-").rpartition("-")[0].replace("-", " ")


def edited(folder: Path, target: str) -> TextToImage:
    """The model after an edit that leaves photos where the artist's name was, and keeps all other artists."""
    mine = wording_of(target)
    others = [style for style in TRAINED if STYLES[style].artist and style != target]
    asked = [(mine.direct(name, form), mine.neutral(name)) for name in OBJECTS for form in range(3)]
    job = EraseJob(
        model=TextToImage.from_dir(folder),
        erase=tuple(prompt for prompt, _ in asked),
        guide=tuple(guide for _, guide in asked),
        preserve=tuple(wording_of(style).direct(name, 0) for style in others for name in OBJECTS),
        seed="sheet",
    )
    return registry.load("erasers", EDIT)().erase(job).model


def sheet(folders: list[Path]) -> None:
    """Every trained style (rows) by object (columns), the same noise for all models, side by side."""
    styles = [*TRAINED, *RARE]
    shown = [(folder.name, TextToImage.from_dir(folder)) for folder in folders]
    shown.insert(1, (f"{folders[0].name}, {TARGET} edited out ({EDIT})", edited(folders[0], TARGET)))
    width = MARGIN + len(shown) * (len(OBJECTS) * EACH * SIZE * ZOOM + 12)
    page = Image.new("RGB", (width, 24 + len(styles) * SIZE * ZOOM), "white")
    draw = ImageDraw.Draw(page)
    for column, (name, model) in enumerate(shown):
        left = MARGIN + column * (len(OBJECTS) * EACH * SIZE * ZOOM + 12)
        draw.text((left, 6), name, fill="black")
        for row, style in enumerate(styles):
            _row(page, model, style, (left, 24 + row * SIZE * ZOOM))
            if not column:
                draw.text((4, 24 + row * SIZE * ZOOM + 24), style, fill="black")
    page.save(HERE / "sheet.png", optimize=True)


def _row(page: Image.Image, model: TextToImage, style: str, at: tuple[int, int]) -> None:
    names = [name for name in OBJECTS for _ in range(EACH)]
    prompts = [f"{_phrase(style, name)}" for name in names]
    for place, image in enumerate(model.sample(prompts, Sampling(seed=f"sheet/{style}", steps=30))):
        tile = Image.fromarray(np.asarray(image)).resize((SIZE * ZOOM, SIZE * ZOOM), Image.Resampling.NEAREST)
        page.paste(tile, (at[0] + place * SIZE * ZOOM, at[1]))


def _phrase(style: str, name: str) -> str:
    if style == "photo":
        return wording_of("neon").neutral(name)
    return wording_of(style).direct(name, 0)


def main() -> None:
    """Publish every finished run of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--photos")
    args = parser.parse_args()
    for run in sorted(args.work.iterdir()):
        if (run / "made.json").exists():
            publish(run)
    for folder in published():
        (folder / "README.md").unlink(missing_ok=True)  # transformers may add one
    if args.photos:
        add_manifests(args.photos)
    sheet(published())


if __name__ == "__main__":
    main()
