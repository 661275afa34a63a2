"""What a worker does: train one model of a bank, or unlearn one for the X arm, and keep a sketch of its answers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.protocols import FitJob, Progress, UnlearnJob
from expunge.data._records import aligned
from expunge.farm.bank import SKETCH, Bank, BankSpec, write_sketch
from expunge.training.loop import numerics_of
from expunge.training.recipe import parse_recipe
from expunge.training.rng import derive_seed


@lru_cache(maxsize=2)
def _open(text: bytes) -> Any:
    """The data set of a worker; decoding images is done once a process."""
    named = loads(text)
    return registry.load("data", named["source"])(**named["options"]).open()


def open_data(named: Mapping[str, Any]) -> Any:
    """Data set by source name and options, as the source gives it."""
    return _open(canonical(encode(named)))


def _slotted(spec: BankSpec, folder: Path) -> Any:
    """The data set in the slot order that `slots.json` of the bank's folder fixes."""
    data = open_data(spec.data)
    file = folder / "slots.json"
    if not file.exists():
        return data
    book = loads(file.read_bytes(), what="slots.json")
    return aligned(data, book["ids"], book["blocks"])


def adapter_for(recipe: Mapping[str, Any], data: Any) -> Any:
    """The family's adapter for a recipe and a data set."""
    parsed = parse_recipe(recipe)
    return registry.load("models", parsed.family)(
        parsed, classes=len(data.classes), shape=tuple(data.train.images.shape[1:])
    )


def true_log_probabilities(adapter: Any, model: Any, images: Any, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Natural-log probability of each record's own label, shape (N,), float32."""
    logs = adapter.outputs(model, images)
    picked: NDArray[np.float32] = logs[np.arange(len(labels)), labels]
    return picked


def train(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """Train a member and write its sketch."""
    spec = _spec(arguments)
    data = _slotted(spec, home.parent)
    kind, number = str(arguments["kind"]), int(arguments["number"])
    bank = Bank(spec, home.parent, data.train.blocks)
    slots = bank.slots_of(kind, number)
    adapter = adapter_for(spec.recipe, data)
    job = FitJob(
        recipe=spec.recipe,
        seed=derive_seed(spec.seed, kind, number),
        numerics=numerics_of(adapter.recipe, 1),
        data=data,
        folder=home / "run",
        universe=slots,
        keep_checkpoints=False,
        progress=progress,
    )
    result = adapter.fit(job)
    shutil.rmtree(home / "run" / "checkpoints", ignore_errors=True)
    _sketch(adapter, adapter.load(result.model), data, home / SKETCH)
    return {"digest": result.digest, "seconds": round(result.seconds, 3), "records": len(slots)}


def _sketch(adapter: Any, model: Any, data: Any, path: Path) -> None:
    logs = adapter.outputs(model, data.test.images)
    arrays = {
        "train": true_log_probabilities(adapter, model, data.train.images, data.train.labels),
        "test": logs[np.arange(len(logs)), data.test.labels],
        "correct": logs.argmax(1) == data.test.labels,
    }
    write_sketch(path, arrays)


def unlearn(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """Run a method on the IN model of a pair, keep the answers on block and population, discard the model at once."""
    spec = _spec(arguments)
    data = _slotted(spec, home.parent)
    bank = Bank(spec, home.parent, data.train.blocks)
    number = int(arguments["number"])
    forget = [int(slot) for slot in arguments["forget"]]
    adapter = adapter_for(spec.recipe, data)
    method = registry.load("methods", str(arguments["method"]))()
    job = FitJob(
        recipe=spec.recipe,
        seed=derive_seed(spec.seed, "bank", number),
        numerics=numerics_of(adapter.recipe, 1),
        data=data,
        folder=home / "run",
        universe=bank.slots_of("bank", number),
        keep_checkpoints=False,
    )
    result = method.unlearn(
        UnlearnJob(
            adapter=adapter,
            job=job,
            source=bank.home("bank", number) / "run",
            target=home / "run",
            forget=frozenset(forget),
            seed=derive_seed(str(arguments["seed"]), "x", number),
            params=arguments["params"],
        )
    )
    answers = _answers(adapter, adapter.load(result.model), data, forget)
    shutil.rmtree(home / "run", ignore_errors=True)
    return answers


def _answers(adapter: Any, model: Any, data: Any, forget: Sequence[int]) -> dict[str, Any]:
    block = true_log_probabilities(adapter, model, data.train.images[forget], data.train.labels[forget])
    population = true_log_probabilities(adapter, model, data.test.images, data.test.labels)
    return {"block": [float(value) for value in block], "population": [float(value) for value in population]}


def _spec(arguments: Mapping[str, Any]) -> BankSpec:
    bank = arguments["bank"]
    return bank if isinstance(bank, BankSpec) else decode(BankSpec, bank)
