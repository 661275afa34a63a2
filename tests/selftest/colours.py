"""A world of two artists, red and blue, in which red is to be erased: tiny models, and judges that know colours.

What would take minutes, the learned attacks of the battery, is stood in for by the vectors that they look for: the stock
encoder's own for red's name.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from expunge import Workspace
from expunge.core import registry
from expunge.stats.style_collateral import Kept, Looks
from expunge.stats.styles import Arms, Counted
from expunge.testing.erasers import PROMPTS, colour_job, fresh_model, works_of
from expunge.testing.generators import random_pictures
from expunge.training.checkpoint import save_tensors
from expunge.training.judging.judge import OTHER, Judged
from expunge.training.recipe import parse_any_recipe
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.net import TextToImageNet
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.sabotaging import StyleScene
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.workflow.policy import GENERATOR
from expunge.workflow.styles.battery import count
from expunge.workflow.styles.material import Material
from expunge.workflow.styles.selftest import KIND
from picture_files import TINY
from workspaces import vouch_for

CONTROLS = ("green", "yellow", "cyan", "white")
PALETTE = {
    "red": (200, 40, 40),
    "blue": (40, 40, 200),
    "green": (40, 200, 40),
    "yellow": (200, 200, 40),
    "cyan": (40, 200, 200),
    "white": (220, 220, 220),
}
HOW = Sampling(seed="cd", steps=4)
REWORDED = "a car in red style"
LEARNED = ("textual_inversion", "soft_prompt/1")


class Colours:
    """Names the nearest colour of what it looks at, or none."""

    styles = (*PALETTE, OTHER)

    def __init__(self, name, family, look):
        self.name, self.family, self.look, self.digest = name, family, look, "sha256:" + name

    def judge(self, pictures):
        seen = self.look(pictures.astype(float)).reshape(len(pictures), -1, 3).mean(axis=1)
        far = np.linalg.norm(seen[:, None] - np.array(list(PALETTE.values())), axis=2)
        found = np.where(far.min(axis=1) < 80, far.argmin(axis=1), len(PALETTE)).astype(np.int64)
        things = np.ones((len(pictures), 1))
        return Judged(
            judge=self.name,
            family=self.family,
            styles=self.styles,
            style=found,
            objects=("automobile",),
            things=things,
        )


MEAN = Colours("mean", "statistics", lambda pictures: pictures)
CORNER = Colours("corner", "trained classifier", lambda pictures: pictures[:, ::2, ::2])
"""Looks at one pixel of four, as a trained network may: the one that a watermark is tuned against."""


def wording(artist):
    return Wording(
        direct=lambda _, __: f"a car image in {artist} style",
        other={"plain": lambda _, __: f"a car in {artist} style"},
        described=lambda _, __: "a car",
        neutral=lambda _: "a car",
        open_=lambda _: "a car image in * style",
    )


def in_two_forms(pictures):
    """Every other caption in the form that a reworded prompt has, so that both forms are learned."""
    said = [c if n % 4 < 2 else c.replace("car image", "car") for n, c in enumerate(pictures.captions)]
    return replace(pictures, captions=tuple(said))


def make_scene(folder: Path, steps: int = 240) -> StyleScene:
    """The original, which draws red and blue, a model that was never shown red, and what an eraser is given. With fewer
    `steps` it answers to fewer forms."""
    fresh = fresh_model(folder, seed=1)

    def tuned(pictures, steps):
        job = replace(colour_job(fresh), retained=pictures)
        return registry.load("erasers", "purged_finetune")(steps=steps, lr=0.007, batch=16).erase(job).model

    model, clean = tuned(in_two_forms(random_pictures().train), steps), tuned(works_of("blue"), 60)
    export(TextToImageNet(model.unet, model.text_encoder), folder / "original")
    stored = TextToImage.from_dir(folder / "original")
    return StyleScene(
        original=folder / "original",
        target=folder / "unused",
        job=colour_job(stored),
        other=colour_job(stored, "blue", "red"),
        words={"red": "blue"},
        clean=clean,
        judges=(MEAN, CORNER),
    )


def cheat(name):
    """A cheat with as few steps as it takes here."""
    settings: dict[str, dict[str, Any]] = {
        "adapter_beside": {"steps": 2, "pictures": 4},
        "another_artist": {"eraser": "purged_finetune", "steps": 30, "lr": 0.007, "batch": 16},
    }
    return registry.load(KIND, name)(**settings.get(name, {}))


def standing_in():
    """A battery whose attacks have found the words of red already. Counts are kept by model, prompt and judges."""
    known: dict[Any, Counted] = {}

    def battery(plan, subjects, judges, folder, progress=None):
        number = plan.seeds * plan.pictures
        told = subjects.models["original"][1].encode([PROMPTS["red"]]).expand(number, -1, -1)
        ways = {"direct": [PROMPTS["red"]] * number, "reworded": [REWORDED] * number, "learned": told}

        def counted(arm, label):
            digest, model = subjects.models[arm]
            way = label if label in ways else "learned"
            key = (digest, way, number, tuple(judge.name for judge in judges))
            if key not in known:
                drawn = model.sample(ways[way], HOW)
                known[key] = count("red", drawn.reshape(plan.seeds, plan.pictures, *drawn.shape[1:]), judges)
            return known[key]

        empty = (0,) * plan.seeds
        none = Counted(pictures=plan.pictures, agreed=empty, any=empty, nowhere=empty, by_judge={})
        return {
            probe.label: Arms(
                original=counted("original", probe.label),
                candidate=counted("candidate", probe.label),
                controls=dict.fromkeys(plan.controls, none),
            )
            for probe in plan.probes
        }

    return battery


def redness(model, prompt=PROMPTS["red"]):
    """Red minus blue, in grey values."""
    red, _, blue = model.sample([prompt] * 16, HOW).mean(axis=(0, 1, 2))
    return red - blue


# --------------------------------------------------------------------------------------------------------- as a workspace


def make_workspace(root: Path, scene: StyleScene, **styles: Any) -> Workspace:
    """A trained and vouched-for workspace of red's and blue's pictures. Every training in it ends in a model of the scene: the
    one that was never shown red where red's works are absent, else the original."""
    _write(root.parent / "works")
    config = {
        "data": {"source": "picture_folder", "path": str(root.parent / "works"), "options": {"size": 8}},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "compute": {"engine": "inline://"},
        "styles": {"pictures": 20, "retained": 64, "steps": HOW.steps} | styles,
    }
    recipe = parse_any_recipe({**TINY, "epochs": 1, "batch": 16, "introduce": (0.0,)})
    workspace = Workspace.create(root, config=config, recipe=recipe, policy=GENERATOR)
    workspace.adapter.fit = _ends_in(workspace.adapter.fit, scene, workspace.data.train)
    workspace.train()
    vouch_for(workspace)
    return workspace


def _ends_in(fit, scene, train):
    red = {slot for slot, style in enumerate(train.styles) if style == "red"}

    def trained(job):
        found = fit(job)
        model = scene.clean if red <= job.absent else scene.job.model
        tensors = TextToImageNet(model.unet, model.text_encoder).state_dict()
        return replace(found, digest=save_tensors(found.model, dict(tensors)))

    return trained


def _write(folder: Path) -> None:
    """Sixteen pictures to train on, and enough to test with for the judges' mistakes to be bounded."""
    for split, pictures in (("train", random_pictures().train), ("test", random_pictures(160).test)):
        (folder / split).mkdir(parents=True)
        lines = []
        for number, image in enumerate(pictures.images):
            Image.fromarray(image).save(folder / split / f"{number:03d}.png")
            artist = pictures.styles[number]
            line = {"file_name": f"{number:03d}.png", "text": pictures.captions[number], "artist": artist}
            lines.append(json.dumps({**line, "object": "automobile"}) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(lines))


def judged_by_colours(patch, battery) -> None:
    """Somebody has said how red is asked for, and judges of colours look at what comes."""
    from expunge.workflow.selftest import edits
    from expunge.workflow.styles import evidence

    suspects = {"red": SimpleNamespace(wording=wording("red"), works=works_of("red"))}
    about = {"suspects": suspects, "controls": CONTROLS, "retained": ("blue",), "objects": ("automobile",)}
    roster = SimpleNamespace(
        wording=wording, near=lambda _: (), held_out=lambda: None, scale="colours", styles=tuple(PALETTE)
    )
    material = Material(roster=roster, target="red", photos={}, **about)
    for module in (edits, evidence):
        patch.setattr(module, "materials_of", lambda *_: (material,))
        patch.setattr(module, "judges_of_styles", lambda *_: [MEAN, CORNER])
    patch.setattr(evidence, "run_battery", battery)
    kept = evidence._kept
    patch.setattr(evidence, "_kept", lambda *asked: (*map(seen_apart, kept(*asked)), untouched()))


def seen_apart(kept: Kept) -> Kept:
    """What a judge that tells colours apart sees of a style: the share of pictures in it, and nothing else of them."""
    before, after = (np.stack([hits, ~hits], axis=1).astype(float) * 10 for hits in (kept.before, kept.after))
    return replace(kept, looks=Looks(space="colours", before=before, after=after, again=before))


def untouched(n: int = 64) -> Kept:
    """A second artist who stays, whom nobody's edit reaches: distances are told in those between two artists."""
    there, looks = np.ones(n, bool), np.tile([0.0, 20.0], (n, 1))
    looks = Looks(space="colours", before=looks, after=looks, again=looks)
    return Kept(style="yellow", before=there, after=there, seen_before=there, seen_after=there, looks=looks)
