"""A small world to try a plug-in in: random images, a keyed slot book, an adapter, and folders for its runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core import registry
from expunge.core.protocols import FitJob, FitResult, UnlearnJob
from expunge.data._records import Dataset, ImageRecords
from expunge.evidence.manifest import leaves_of
from expunge.training.batches import Leaves
from expunge.training.loop import numerics_of
from expunge.training.recipe import parse_recipe

SEED = "5eed" * 8
_KEY = b"\x01" * 32


class ForgottenRead(Exception):
    """A method read a record it must not read."""


class Guarded:
    """Rows of an array that may be read by index, except the forbidden ones; reading it as a whole reads those too."""

    def __init__(self, rows: Any, forbidden: frozenset[int]) -> None:
        self._rows, self._forbidden = rows, forbidden
        self.shape, self.dtype, self.ndim = rows.shape, rows.dtype, rows.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        touched = np.atleast_1d(np.arange(len(self._rows))[key[0] if isinstance(key, tuple) else key])
        hit = self._forbidden.intersection(touched.ravel().tolist())
        if hit:
            raise ForgottenRead(f"slots {sorted(hit)} were read")
        return self._rows[key]

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ForgottenRead("the whole array was read")


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything a plug-in may ask for. `folder` holds the runs, one sub-folder each."""

    adapter: Any
    data: Any
    leaves: Leaves
    folder: Path
    seed: str = SEED
    settings: Mapping[str, Any] = field(default_factory=dict)

    def job(self, name: str, absent: frozenset[int] = frozenset(), **changes: Any) -> FitJob:
        """The training of `name` without the absent slots; `changes` replace fields of the job."""
        job = FitJob(
            recipe=self.adapter.recipe.model_dump(),
            seed=self.seed,
            numerics=numerics_of(self.adapter.recipe),
            data=self.data,
            folder=self.folder / name,
            absent=absent,
            leaves=self.leaves,
        )
        return replace(job, **changes)

    def fit(self, name: str, absent: frozenset[int] = frozenset(), **changes: Any) -> FitResult:
        """Train it."""
        result: FitResult = self.adapter.fit(self.job(name, absent, **changes))
        return result

    def unlearn_job(
        self, name: str, forget: frozenset[int], *, source: str = "original", absent: frozenset[int] = frozenset()
    ) -> UnlearnJob:
        """Forget slots of the run `source`, whose tombstones are `absent`, into the run `name`."""
        return UnlearnJob(
            adapter=self.adapter,
            job=self.job(source, absent),
            source=self.folder / source,
            target=self.folder / name,
            forget=forget,
            seed=hashlib.sha256(b"after the plan").hexdigest()[:32],
        )

    def guarded(self, forbidden: frozenset[int]) -> Any:
        """The same records, where reading a forbidden one raises ForgottenRead."""
        train = self.data.train
        images: Any = Guarded(train.images, forbidden)
        labels: Any = Guarded(train.labels, forbidden)
        return replace(self.data, train=replace(train, images=images, labels=labels))


def random_records(records: int, shape: tuple[int, int, int], classes: int, seed: int = 0) -> Dataset:
    """Noise around a weak class mean: learnable, and hard enough that every record has a gradient. Always the same bytes."""
    generator = np.random.Generator(np.random.Philox(seed))
    means = generator.integers(112, 144, (classes, *shape))

    def draw(split: str, count: int) -> ImageRecords:
        labels = np.arange(count, dtype=np.int64) % classes
        pixels = means[labels] + generator.integers(-60, 60, (count, *shape))
        ids = tuple(f"{split}/{label}/{number:04d}" for number, label in enumerate(labels.tolist()))
        return ImageRecords(ids=ids, images=pixels.astype(np.uint8), labels=labels, blocks=ids)

    return Dataset(
        source="random",
        note="random images",
        classes=tuple(f"class {k}" for k in range(classes)),
        train=draw("train", records),
        test=draw("test", 12),
    )


def leaves_for(data: Dataset) -> Leaves:
    """Keyed leaves of all training records, as `expunge init` makes them."""
    train = data.train
    digests = [train.content_digest(slot) for slot in range(len(train))]
    pairs = [leaves_of(_KEY, name, digest) for name, digest in zip(train.ids, digests, strict=True)]
    return Leaves(ids=[pair[0] for pair in pairs], contents=[pair[1] for pair in pairs], digests=digests)


def make_world(
    folder: Path,
    *,
    family: str = "mlp",
    data: Dataset | None = None,
    seed: str = SEED,
    plugin: Any = None,
    **settings: Any,
) -> World:
    """A world of 48 random 8x8 images in 4 classes, or of `data`; `settings` override the tiny recipe.

    Records enter in four slices, so that most of them are first used after the training has begun; the rate does not
    end at 0, where a record that is used in the last step only would leave no mark at all. `plugin` stands in
    for the registered class of the family.
    """
    if data is None:
        data = random_records(48, (8, 8, 1), 4)
    plain = {
        "name": "tiny",
        "family": family,
        "epochs": 4,
        "batch": 8,
        "lr": 0.05,
        "final_lr": 0.1,
        "threads": 1,
        "introduce": (0.0, 0.25, 0.5, 0.75),
        **settings,
    }
    recipe = parse_recipe(plain)
    adapter = (plugin or registry.load("models", family))(recipe, **data.geometry)
    return World(adapter=adapter, data=data, leaves=leaves_for(data), folder=folder, seed=seed, settings=settings)


def tree_digest(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by relative path."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
