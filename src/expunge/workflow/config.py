"""expunge.toml: what a workspace is made of. Unknown keys are refused; all problems are reported at once."""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from expunge.core.codec import digest_of
from expunge.core.errors import InputError, InputProblems
from expunge.core.plan import Compute
from expunge.farm.engine import parse_engine


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataTable(_Table):
    """Record source by plug-in name, with its options. `signals`: what was said about training, a line a row (`data.opt_out`),
    heeded when the workspace is made; with `need_record` a row of which nothing is recorded is left out as well."""

    source: str
    path: str | None = None
    signals: str | None = None
    need_record: bool = False
    options: Mapping[str, int | str | bool] = Field(default_factory=dict)

    def named(self, base: Path) -> dict[str, Any]:
        """Source and options as the farm passes them to workers; a relative path is taken from the workspace."""
        options: dict[str, Any] = dict(self.options)
        if self.path is not None:
            options["path"] = str((base / self.path).resolve())
        return {"source": self.source, "options": options}


class ModelTable(_Table):
    """Recipe file inside the workspace, and the training seed (hex; drawn at init)."""

    recipe: str = "recipe.yaml"
    seed: str = Field(min_length=8, max_length=64)


class BankTable(_Table):
    """Size of the bank (N = 2 * pairs), number of full-size anchors, blocks the anchors monitor, life in days.

    A recommender's anchors are trained when a deletion is judged as EMPIRICAL, half of them without the users.
    """

    pairs: int = Field(default=16, ge=2, le=5000)
    anchors: int = Field(default=0, ge=0, le=5000)
    monitored: tuple[str, ...] = ()
    window_days: int = Field(default=30, ge=1, le=366)
    x_arm: bool = False


class ComputeTable(_Table):
    """How fast, never what: one switch, `engine` (see farm.engine). Files that say executor and processes are read too."""

    engine: str = "process://?n=2"

    @model_validator(mode="before")
    @classmethod
    def _one_switch(cls, plain: Any) -> Any:
        """`executor` and `processes`, the former keys, as an engine."""
        former = {"executor", "processes"} & set(plain) if isinstance(plain, Mapping) else set()
        if not former:
            return plain
        if "engine" in plain:
            raise ValueError(f"engine and {' and '.join(sorted(former))} say the same thing: keep engine only")
        rest = {key: value for key, value in plain.items() if key not in former}
        name, workers = plain.get("executor", "process"), plain.get("processes", 2)
        return {**rest, "engine": f"{name}://" if name == "inline" else f"{name}://?n={workers}"}

    @field_validator("engine")
    @classmethod
    def _is_an_engine(cls, value: str) -> str:
        try:
            return parse_engine(value).uri
        except InputProblems as error:
            raise ValueError("; ".join(error.problems)) from error

    @property
    def executor(self) -> str:
        """Name of the executor plug-in."""
        return parse_engine(self.engine).executor

    @property
    def placement(self) -> Compute:
        """How many workers, and where."""
        return parse_engine(self.engine).compute


class QualityTable(_Table):
    """Which events of the test users a recommender has to guess: a keyed fifth of each history (`fold-in`), each user's
    last event (`last`), or whatever came after the time of four fifths of all their events (`time`).

    `invert`: up to how many items a deletion reads the counts of rung V2 out of the inverse that is served, which takes the
    cube of them; beyond it those stored beside the inverse are read.
    """

    split: Literal["fold-in", "last", "time"] = "fold-in"
    invert: int = Field(default=4_000, ge=0, le=100_000)


class StylesTable(_Table):
    """How often a text-to-image model is asked for a style: attack `seeds`, `pictures` a seed and probe, `retained` pictures of
    each other artist; DDIM `steps` and `guidance`; `budget` of attacks in percent of their own. `artists`: the file that says
    how artists are asked for (`styles.declaration`), where the data's source does not; fixed when the workspace is made."""

    artists: str | None = None
    seeds: int = Field(default=8, ge=8, le=200)
    pictures: int = Field(default=40, ge=4, le=1000)
    retained: int = Field(default=60, ge=4, le=10_000)
    steps: int = Field(default=20, ge=1, le=1000)
    guidance: str = Field(default="3", pattern=r"^\d{1,2}(\.\d{1,3})?$")
    budget: int = Field(default=100, ge=1, le=1000)


class JudgeTable(_Table):
    """Who looks at pictures: a plug-in of `judges` with its options, such as the folder of its weights."""

    name: str
    options: Mapping[str, int | str | bool] = Field(default_factory=dict)


class PlaceTable(_Table):
    """A file outside the workspace in which a user of a recommender may sit; `kind` is a plug-in of `places`."""

    name: str = Field(min_length=1, max_length=80)
    kind: str
    path: str
    options: Mapping[str, int | str | bool] = Field(default_factory=dict)


class ArtefactTable(_Table):
    """What was made from the served model and goes on serving, or is kept: a serving copy, an export, an index, a backup.

    When the model is replaced, it is made anew or gone within so many `days`, or it `expires` on a day (YYYY-MM-DD); without
    either it has to be gone before a deletion is accepted.
    """

    name: str = Field(min_length=1, max_length=80)
    path: str
    days: int | None = Field(default=None, ge=0, le=31)
    expires: str | None = None

    @field_validator("expires")
    @classmethod
    def _is_a_day(cls, value: str | None) -> str | None:
        return None if value is None else date.fromisoformat(value).isoformat()


class OwnerTable(_Table):
    """Who speaks in the certificate."""

    name: str = Field(default="the owner of this workspace", max_length=200)
    certificate_days: int = Field(default=365, ge=1, le=3660)


class Config(_Table):
    """The whole file."""

    version: int = Field(default=1, ge=1, le=1)
    data: DataTable
    model: ModelTable
    bank: BankTable = BankTable()
    compute: ComputeTable = ComputeTable()
    owner: OwnerTable = OwnerTable()
    quality: QualityTable = QualityTable()
    styles: StylesTable = StylesTable()
    places: tuple[PlaceTable, ...] = ()
    artefacts: tuple[ArtefactTable, ...] = ()
    judges: tuple[JudgeTable, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Config:
        kept = [*(place.name for place in self.places), *(artefact.name for artefact in self.artefacts)]
        if len(set(kept)) != len(kept):
            raise ValueError("two places or artefacts have the same name")
        judges = [judge.name for judge in self.judges]
        if len(set(judges)) != len(judges):
            raise ValueError("two judges have the same name")
        return self


def read_config(path: Path) -> Config:
    """Parse and check expunge.toml."""
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path.parent} is not an expunge workspace",
            expected="a folder with expunge.toml",
            hint="expunge init FOLDER",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("expunge.toml does not parse", got=str(error)[:200]) from error
    return parse_config(plain)


def parse_config(plain: Mapping[str, Any]) -> Config:
    """A Config from plain values."""
    try:
        return Config.model_validate(dict(plain))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise InputProblems("expunge.toml", problems, code="config") from error


def drawn(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A new workspace's config with what it must not share with any other: the training seed, and the coins' key."""
    data = dict(plain.get("data", {}))
    options = dict(data.get("options", {}))
    if options.get("coins") and "coins_key" not in options:
        data["options"] = {**options, "coins_key": secrets.token_hex(32)}
    return {**plain, "data": data, "model": {"seed": secrets.token_hex(16), **plain.get("model", {})}}


def with_engine(config: Config, engine: str | None) -> Config:
    """The configuration with another engine, for one run; None leaves it as it is. Raises InputProblems."""
    if engine is None:
        return config
    return config.model_copy(update={"compute": ComputeTable(engine=parse_engine(engine).uri)})


def origin_of(config: Config) -> str:
    """Name of a workspace's log in its checkpoints."""
    return f"expunge.local/log/{digest_of({'seed': config.model.seed})[7:19]}"


def config_text(config: Config) -> str:
    """The file for a config; written once, by init."""
    lines = [f"version = {config.version}"]
    for name in ("data", "model", "bank", "compute", "owner", "quality", "styles"):
        lines += _table_text(f"[{name}]", name, getattr(config, name))
    for name in ("places", "artefacts", "judges"):
        for one in getattr(config, name):
            lines += _table_text(f"[[{name}]]", name, one)
    return "\n".join(lines) + "\n"


def _table_text(head: str, name: str, table: BaseModel) -> list[str]:
    lines, nested = ["", head], {}
    for key, value in table.model_dump().items():
        if isinstance(value, dict):
            nested[key] = value
        elif value is not None:
            lines.append(f"{key} = {_toml(value)}")
    for key, inner in nested.items():
        lines += ["", f"[{name}.{key}]", *(f"{k} = {_toml(v)}" for k, v in inner.items())]
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    if any(ord(character) < 32 or ord(character) == 127 for character in escaped):
        raise InputError("control characters cannot stand in expunge.toml", got=repr(value))
    return f'"{escaped}"'
