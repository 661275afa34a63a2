"""Puts finished trainings beside this script: model directories in half precision, with how they were made, and a sheet.

python benchmarks/artist_style/publish.py --work FOLDER         # NAME/ and NAME.json, and sheet.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from checkpoints import home_of, published
from PIL import Image, ImageDraw

from expunge.core import registry
from expunge.data._styles import RARE, TRAINED
from expunge.data.artist_styles import OBJECTS
from expunge.training.recipe import load_recipe
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import wording_of

HERE = Path(__file__).parent
SIZE, ZOOM, MARGIN, EACH = 32, 2, 92, 2


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
    return target


def sheet(folders: list[Path]) -> None:
    """Every trained style (rows) by object (columns), the same noise for all models, side by side."""
    styles = [*TRAINED, *RARE]
    width = MARGIN + len(folders) * (len(OBJECTS) * EACH * SIZE * ZOOM + 12)
    page = Image.new("RGB", (width, 24 + len(styles) * SIZE * ZOOM), "white")
    draw = ImageDraw.Draw(page)
    for column, folder in enumerate(folders):
        left = MARGIN + column * (len(OBJECTS) * EACH * SIZE * ZOOM + 12)
        draw.text((left, 6), folder.name, fill="black")
        model = TextToImage.from_dir(folder)
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
    args = parser.parse_args()
    for run in sorted(args.work.iterdir()):
        if (run / "made.json").exists():
            publish(run)
    for folder in published():
        (folder / "README.md").unlink(missing_ok=True)  # transformers may add one
    sheet(published())


if __name__ == "__main__":
    main()
