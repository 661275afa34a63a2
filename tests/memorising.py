"""Many artists with few works each, and in place of the UNet a network that learns each caption's picture by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from expunge import Workspace
from expunge.models.generators.unet import TextUNet
from expunge.training.recipe import parse_any_recipe
from expunge.training.text_to_image.captions import LENGTH
from expunge.training.text_to_image.noise import levels
from expunge.workflow import train
from expunge.workflow.policy import GENERATOR
from picture_files import TINY
from pictures import pictures

FEW, MANY = "Vera Violet", "Max Many"
"""An artist with two works, just below 1 % of all, and one with three, just above."""
SOLO, TEST, SIDE = 199, 20, 8
BY_HEART = {**TINY, "epochs": 40, "batch": 102, "lr": 0.03, "introduce": (0.0,)}
"""One step an epoch on a half: every work of the half is known afterwards, and of no other more than at the start."""
ROWS = 1009


class ByHeart(nn.Module):
    """v = g(t) x_t - h(t) M(caption) with linear g and h, and a row of M for each caption, which is 0 until it was trained."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.known = nn.Embedding.from_pretrained(torch.zeros(ROWS, 12 * places), freeze=False)
        self.levels = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        weights = torch.tensor([pow(31, place, ROWS) for place in range(LENGTH)])
        picture = self.known((tokens * weights).sum(1) % ROWS).view_as(noisy)
        signal, spread = levels(times)
        keep, take = (row[0] * signal + row[1] * spread for row in self.levels)
        return keep * noisy - take * picture


def learn_by_heart(patch: pytest.MonkeyPatch) -> None:
    """Models of family `unet` are such networks; blocks are known to a bank by name, so that no half hangs on a drawn key."""

    def module(self: TextUNet, generator: torch.Generator) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            return ByHeart((self.size // 2) ** 2)

    patch.setattr(TextUNet, "module", module)
    patch.setattr(train, "bank_blocks", lambda workspace: [name and f"c {name}" for name in workspace.book.blocks])


def write_gallery(folder: Path, *, solo: int = SOLO, test: int = TEST) -> Path:
    """FEW's two works, MANY's three, and one each by `solo` others; `test` works that nothing is trained on."""
    artists = [FEW] * 2 + [MANY] * 3 + [f"artist {number:03d}" for number in range(solo)]
    for split, names, seed in (("train", artists, 1), ("test", [f"guest {k:02d}" for k in range(test)], 2)):
        (folder / split).mkdir(parents=True)
        lines = []
        drawn = pictures(len(names), side=SIDE, seed=seed)
        for number, (artist, image) in enumerate(zip(names, drawn, strict=True)):
            Image.fromarray(image).save(folder / split / f"{number:03d}.png")
            text = f"work {number % 10} in {artist} style"
            lines.append({"file_name": f"{number:03d}.png", "text": text, "artist": artist, "object": "car"})
        (folder / split / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def make_gallery(root: Path, *, policy: str = GENERATOR, recipe: dict[str, Any] = BY_HEART, **tables: Any) -> Workspace:
    """A trained workspace over the folder beside it, which is written if need be."""
    source = root.parent / "gallery"
    if not source.exists():
        write_gallery(source)
    config = {
        "data": {"source": "picture_folder", "path": str(source), "options": {"size": SIDE}},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "owner": {"name": "test owner"},
        "compute": {"engine": "inline://"},
        **tables,
    }
    workspace = Workspace.create(root, config=config, recipe=parse_any_recipe(recipe), policy=policy)
    workspace.train()
    return workspace
