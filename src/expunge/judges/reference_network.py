"""A small network of styles and objects, trained on the works that somebody brings."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from expunge.core.errors import InputError
from expunge.core.protocols import FitJob
from expunge.data._pictures import PictureSet
from expunge.training.checkpoint import load_tensors
from expunge.training.judging.judge import OTHER, Judged, Pixels
from expunge.training.judging.network import JudgeModel
from expunge.training.judging.references import References, gathered, looked_at, references_digest, with_garbage
from expunge.training.loop import numerics_of
from expunge.training.recipe import Recipe, parse_recipe
from expunge.training.rng import derive_seed

_BATCH = 16
_RECIPE = {
    "name": "reference-network",
    "solver": "adamw",
    "family": "style-judge",
    "batch": _BATCH,
    "lr": 0.004,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "precision": "fp32",
    "threads": 1,
}
_TRAINED: dict[str, _Trained] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trained:
    """A network that told the works that were kept back."""

    works: References
    model: JudgeModel
    module: nn.Sequential


class ReferenceNetwork:
    """The network of the judge `cnn`, trained by the house's loop on three quarters of the references, softened, and on pictures
    that are none of these; the last quarter it has to tell apart, or it is blind.

    Needs: references, 20 works or more of the style, of controls and of neighbours, none of which the model under test made, all
    of one size; objects, what each of them shows, where somebody knows; steps (150). Cost: 16 pictures a step, about 3 s of CPU
    for 150 at 32x32, once a process; .36 ms a picture.
    Fails: with few works it learns what is shown and not how; on pictures above 64 pixels it sees what is left of them when they
    are averaged down; trained on another build it may differ in last bits.
    Measured: on noise in three colours (30 works each, tests) every one of 60 new pictures is told; no real artist was tried.
    """

    name = "reference_network"
    family = "trained classifier"
    space = "the layer below the heads of the judge reference_network, 96 numbers"

    def __init__(
        self,
        *,
        references: Mapping[str, Pixels] | None = None,
        objects: Mapping[str, Sequence[str]] | None = None,
        steps: int = 150,
    ) -> None:
        if not 1 <= steps <= 100_000:
            raise InputError("steps out of range", expected="1..100000", got=str(steps))
        self.references, self.objects, self.steps = dict(references or {}), dict(objects or {}), steps

    @property
    def styles(self) -> tuple[str, ...]:
        """The references' styles and "none of these"."""
        return (*self.references, OTHER)

    @cached_property
    def digest(self) -> str:
        """Of all references, what they show, and the steps."""
        return references_digest(self.name, self.references, self.objects, (self.steps,))

    @property
    def _trained(self) -> _Trained:
        """Trained once a process. Raises JudgeMissing without references, JudgeBlind where those kept back are not told apart."""
        if self.digest not in _TRAINED:
            _TRAINED[self.digest] = self._learned()
        return _TRAINED[self.digest]

    def _learned(self) -> _Trained:
        works = gathered(self.references, self.objects)
        things = tuple(sorted({*works.objects} - {""})) or ("anything",)
        shown = with_garbage(works)
        recipe = _recipe(self.steps, len(shown))
        model = JudgeModel(recipe, styles=self.styles, objects=things)
        data = PictureSet(
            source="references", note="", styles=self.styles, objects=things, train=shown, test=shown.only([])
        )
        with tempfile.TemporaryDirectory(prefix="expunge-judge-") as folder:
            job = FitJob(
                recipe=recipe.model_dump(mode="json"),
                seed=derive_seed(self.name, self.digest),
                numerics=numerics_of(recipe),
                data=data,
                folder=Path(folder),
                keep_checkpoints=False,
            )
            module = model.filled(load_tensors(model.fit(job).model)[0])
        said = model.answers(module, works.pictures[works.kept_back])[0].argmax(axis=1)
        works.require_told(said, works.kept_back)
        return _Trained(works=works, model=model, module=module)

    def judge(self, pictures: Pixels) -> Judged:
        """Style and object of each picture, with probabilities. Raises JudgeMissing, JudgeBlind, InputError on another size."""
        made = self._trained
        return made.model.judged(made.module, looked_at(pictures, made.works.side), self)

    def features(self, pictures: Pixels) -> NDArray[np.float64]:
        """(N, 96) what both heads read off."""
        made = self._trained
        return made.model.features(made.module, looked_at(pictures, made.works.side))


def _recipe(steps: int, pictures: int) -> Recipe:
    return parse_recipe({**_RECIPE, "epochs": max(1, -(-steps * _BATCH // pictures))}, what="the judge's recipe")
