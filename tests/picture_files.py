"""Captioned pictures of three made-up artists in a folder, and a workspace with a tiny model of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from expunge import Workspace
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.policy import GENERATOR
from pictures import pictures
from workspaces import vouch_for

ARTISTS = ("Ada Amber", "Bo Blue", "Cy Coal")
TINY = {
    "name": "tiny",
    "solver": "adamw",
    "family": "unet",
    "model": {"width": 8, "text_width": 16, "text_layers": 1},
    "epochs": 2,
    "batch": 8,
    "lr": 0.01,
    "threads": 1,
    "introduce": (0.0, 0.5),
}


def write_folder(folder: Path, works: int = 8, side: int = 20) -> Path:
    """`works` pictures an artist to train on and two to test with, of `side` pixels and a bit."""
    for split, count, seed in (("train", works, 1), ("test", 2, 2)):
        (folder / split).mkdir(parents=True)
        drawn = pictures(count * len(ARTISTS), side=side, seed=seed)
        lines = []
        for number, image in enumerate(drawn):
            artist = ARTISTS[number % len(ARTISTS)]
            name = f"{number:03d}.png"
            Image.fromarray(image).save(folder / split / name)
            lines.append(
                {"file_name": name, "text": f"a car image in {artist} style", "artist": artist, "object": "car"}
            )
        (folder / split / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def make_works(root: Path, *, policy: str = GENERATOR, size: int = 16, **tables: Any) -> Workspace:
    """An open, trained and vouched-for workspace whose pictures lie beside it."""
    workspace = untrained(root, policy=policy, size=size, **tables)
    workspace.train()
    vouch_for(workspace)
    return workspace


def untrained(root: Path, *, policy: str = GENERATOR, size: int = 16, **tables: Any) -> Workspace:
    """The same without a model."""
    source = root.parent / "works"
    if not source.exists():
        write_folder(source)
    config = {
        "data": {"source": "picture_folder", "path": str(source), "options": {"size": size}},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "owner": {"name": "test owner"},
        "compute": {"engine": "inline://"},
        **tables,
    }
    return Workspace.create(root, config=config, recipe=parse_any_recipe(TINY), policy=policy)


def blue_ids(workspace: Workspace) -> list[str]:
    return [
        str(name) for name, block in zip(workspace.book.ids, workspace.book.blocks, strict=True) if block == ARTISTS[1]
    ]


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {str(file.relative_to(folder)): np.array(Image.open(file)) for file in sorted(folder.rglob("*.png"))}
