"""The recipe: every setting of a training that can change its result, with bounds in the types. Hashed into the plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from expunge.core.codec import digest_of
from expunge.core.documents import strict_yaml
from expunge.core.errors import InputError, InputProblems

Kind = TypeVar("Kind", bound=BaseModel)


class Recipe(BaseModel):
    """One training recipe.

    `lr` is the peak of a piecewise linear schedule: up over `warmup` of all steps, down to `lr * final_lr`. `batch`
    counts slots, empty ones too. `introduce` lists, per slice, the fraction of the epochs after which its records
    are first used; (0,) is ordinary shuffling. `shards` > 1 trains that many models on disjoint slots (SISA).
    `bias_lr` multiplies the rate of one-dimensional parameters. `averaging` is the decay per step of an exponential
    moving average of the weights, which becomes the model. `flip: alternating` mirrors each image every other epoch,
    starting on a keyed side (Jordan 2024). `model` holds the family's own settings.
    `bank_inclusion` is q, the share of blocks a bank model trains on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=80)
    family: str
    model: Mapping[str, int | str | bool] = Field(default_factory=dict)
    epochs: int = Field(ge=1, le=1000)
    batch: int = Field(ge=1, le=65536)
    lr: float = Field(gt=0, le=100)
    warmup: float = Field(default=0.2, ge=0, lt=1)
    final_lr: float = Field(default=0.0, ge=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    bias_lr: float = Field(default=1.0, gt=0, le=1000)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    averaging: float = Field(default=0.0, ge=0, lt=1)
    crop: int = Field(default=0, ge=0, le=16)
    flip: Literal["none", "random", "alternating"] = "none"
    cutout: int = Field(default=0, ge=0, le=32)
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = Field(default=2, ge=1, le=256)
    device: Literal["cpu", "cuda"] = "cpu"
    test_augment: Literal["none", "flip", "flip+shift"] = "none"
    introduce: tuple[float, ...] = (0.0,)
    shards: int = Field(default=1, ge=1, le=64)
    bank_inclusion: float = Field(default=0.5, gt=0, lt=1)

    @field_validator("introduce")
    @classmethod
    def _introduce_ascends_from_zero(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or value[0] != 0.0 or list(value) != sorted(value) or value[-1] >= 1:
            raise ValueError("must start at 0, ascend and stay below 1")
        return value

    @property
    def digest(self) -> str:
        """`sha256:` of the canonical recipe."""
        return digest_of(self)


class AdaptiveRecipe(Recipe):
    """A recipe of the loop with AdamW in place of SGD: `momentum` is its beta 1, `second_momentum` its beta 2."""

    solver: Literal["adamw"]
    second_momentum: float = Field(default=0.999, ge=0, lt=1)


class ClosedFormRecipe(BaseModel):
    """The recipe of a model with a formula: nothing is iterated and nothing is drawn. `model` holds the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=80)
    solver: Literal["closed-form"]
    family: str
    model: Mapping[str, int | str | bool] = Field(default_factory=dict)
    precision: Literal["fp64"] = "fp64"
    threads: int = Field(default=2, ge=1, le=256)
    device: Literal["cpu"] = "cpu"

    @property
    def digest(self) -> str:
        """`sha256:` of the canonical recipe."""
        return digest_of(self)


class AlternatingRecipe(BaseModel):
    """The recipe of a model that is solved for users and for items in turn, `sweeps` times. `model` holds the settings.

    One thread: matrix products end in other bits with more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=80)
    solver: Literal["als"]
    family: str
    model: Mapping[str, int | str | bool] = Field(default_factory=dict)
    sweeps: int = Field(default=15, ge=1, le=1000)
    precision: Literal["fp32", "fp64"] = "fp32"
    threads: Literal[1] = 1
    device: Literal["cpu"] = "cpu"

    @property
    def digest(self) -> str:
        """`sha256:` of the canonical recipe."""
        return digest_of(self)


AnyRecipe = Recipe | ClosedFormRecipe | AlternatingRecipe


def parse_any_recipe(plain: Mapping[str, Any], *, what: str = "recipe") -> AnyRecipe:
    """A recipe of any kind: `solver` says `closed-form`, `als` or `adamw`; without it, it is one of the loop with SGD."""
    if plain.get("solver", "adamw") == "adamw":
        return parse_recipe(plain, what=what)
    if plain["solver"] == "als":
        return _parsed(AlternatingRecipe, plain, what)
    return _parsed(ClosedFormRecipe, plain, what)


def parse_recipe(plain: Mapping[str, Any], *, what: str = "recipe") -> Recipe:
    """A recipe of the loop from plain values; unknown fields and every bad value are reported at once."""
    return _parsed(AdaptiveRecipe if "solver" in plain else Recipe, plain, what)


def _parsed(kind: type[Kind], plain: Mapping[str, Any], what: str) -> Kind:
    try:
        return kind.model_validate(dict(plain))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise InputProblems(what, problems, code="recipe") from error


def built_in_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that ship with expunge."""
    return {file.stem: file for file in sorted((Path(__file__).parent / "recipes").glob("*.yaml"))}


def load_recipe(name: str) -> Recipe:
    """A recipe of the training loop, built in by name or a YAML file by path."""
    found = load_any_recipe(name)
    if not isinstance(found, Recipe):
        raise InputError(f"{name} is a recipe of another kind", expected="epochs, batch, lr", got=type(found).__name__)
    return found


def load_any_recipe(name: str) -> AnyRecipe:
    """A built-in recipe of any kind by name, or a YAML file by path."""
    known = built_in_recipes()
    file = known.get(name, Path(name))
    if name not in known and not file.is_file():
        raise InputError("no such recipe", expected=", ".join(known) + " or a YAML file", got=name)
    try:
        plain = strict_yaml(file.read_text(encoding="utf-8"), what=file.name)
    except UnicodeDecodeError as error:
        raise InputError(f"{file.name} is not text", got=str(error)[:200]) from error
    if not isinstance(plain, dict):
        raise InputError(f"{file.name} is not a recipe", expected="a mapping of settings")
    return parse_any_recipe(plain, what=f"recipe {file.name}")
