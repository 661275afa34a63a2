"""What every model family must obey: the same job gives the same bits, and nothing outside the job plays a part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge.core import registry
from expunge.core.errors import IntegrityError
from expunge.core.protocols import FitResult, HasTranscript, HasWhiteBox, ModelAdapter
from expunge.data._records import ImageRecords
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.testing.world import World, make_world, random_records
from expunge.training.checkpoint import load_tensors, save_tensors

_RECORDS, _CLASSES, _SHAPE = 16, 4, (16, 16, 3)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A family in a world of 16 random 16x16 colour images."""

    name: str
    plugin: type
    world: World

    @cached_property
    def first(self) -> FitResult:
        """One training."""
        return self.world.fit("first")


def is_an_adapter_of_its_name(subject: Subject) -> str | None:
    """The file's name is the family's name, and the protocol is met."""
    if subject.world.adapter.family != subject.name:
        return f"family is {subject.world.adapter.family!r}"
    return has_card(subject.plugin) if isinstance(subject.world.adapter, ModelAdapter) else "not a ModelAdapter"


def same_job_gives_the_same_weights(subject: Subject) -> str | None:
    """Twice from scratch, with another training in between and another global seed: nothing is carried over."""
    first = subject.first
    other = subject.world.fit("other seed", seed="0dd5" * 8)
    if other.digest == first.digest:
        return "the seed plays no part"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(999)
        again = subject.world.fit("again")
    return None if again.digest == first.digest else "two trainings of one job differ"


def every_learned_tensor_starts_afresh(subject: Subject) -> str | None:
    """Without one record every trained matrix differs; one that does not must be frozen at its initial value.

    A module that keeps another run's state, or is left out of the optimiser after it was changed, shows here.
    """
    first, _ = load_tensors(subject.first.model)
    short, _ = load_tensors(subject.world.fit("without", frozenset({1})).model)
    moved = [name for name, tensor in first.items() if tensor.is_floating_point() and tensor.ndim > 1]
    same = [name for name in moved if torch.equal(first[name], short[name])]
    fixed = _untrained(subject)
    kept = [name for name in same if not torch.equal(first[name], fixed.get(name, torch.empty(0)))]
    return f"not retrained: {', '.join(kept)}" if kept else None


def _untrained(subject: Subject) -> Mapping[str, torch.Tensor]:
    """Tensors of the run's first checkpoint, before any step."""
    start = subject.first.model.parent / "checkpoints" / "epoch-0000.safetensors"
    if not start.exists():
        return {}
    tensors, _ = load_tensors(start)
    return {name.removeprefix("weights."): tensor for name, tensor in tensors.items()}


def finished_job_is_read_back(subject: Subject) -> str | None:
    """Fitting a finished job again trains nothing and gives the same digest."""
    before = subject.first.model.stat().st_mtime_ns
    again = subject.world.fit("first")
    if again.digest != subject.first.digest:
        return "another digest came back"
    return None if subject.first.model.stat().st_mtime_ns == before else "the model file was written again"


def same_classes_and_keys_come_back(subject: Subject) -> str | None:
    """load gives the family's own modules in evaluation mode, whose state-dict keys are those of the file."""
    modules = _modules(subject.world.adapter.load(subject.first.model))
    if not modules:
        return "load gives no torch module"
    again = _modules(subject.world.adapter.load(subject.first.model))
    if [type(m) for m in modules] != [type(m) for m in again]:
        return "two loads give different classes"
    tensors, _ = load_tensors(subject.first.model)
    keys = {key for module in modules for key in module.state_dict()}
    if keys != set(tensors):
        return f"keys differ: {sorted(keys ^ set(tensors))[:4]}"
    return "a module is in training mode" if any(module.training for module in modules) else None


def truncated_or_foreign_file_is_refused(subject: Subject) -> str | None:
    """IntegrityError for half a file, for no safetensors file and for another model's tensors."""
    raw = subject.first.model.read_bytes()
    folder = subject.world.folder
    (folder / "half").write_bytes(raw[: len(raw) // 2])
    (folder / "text").write_bytes(b"not a model")
    save_tensors(folder / "foreign", {"somebody.else": torch.zeros(3)})
    for name in ("half", "text", "foreign"):
        try:
            subject.world.adapter.load(folder / name)
        except IntegrityError:
            continue
        return f"a {name} file was loaded"
    return None


def outputs_are_log_probabilities(subject: Subject) -> str | None:
    """(N, K) float32, each row sums to 1 in probability, the same in any batch, and none for no image."""
    adapter = subject.world.adapter
    model = adapter.load(subject.first.model)
    images = subject.world.data.test.images
    logs = adapter.outputs(model, images)
    if logs.shape != (len(images), _CLASSES) or logs.dtype != np.float32:
        return f"shape {logs.shape}, {logs.dtype}"
    if not np.allclose(np.exp(logs.astype(np.float64)).sum(1), 1, atol=1e-5):
        return "rows do not sum to 1"
    if not np.allclose(adapter.outputs(model, images[:1]), logs[:1], atol=1e-4):
        return "an answer depends on the other images of the batch"
    none = adapter.outputs(model, images[:0])
    return None if none.shape == (0, _CLASSES) else f"no image gives shape {none.shape}"


def global_state_is_left_alone(subject: Subject) -> str | None:
    """torch's generator, thread count, determinism and default type are the caller's."""

    def state() -> tuple[Any, ...]:
        return (
            torch.get_rng_state().numpy().tobytes(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
        )

    before = state()
    result = subject.world.fit("global state")
    subject.world.adapter.outputs(subject.world.adapter.load(result.model), subject.world.data.test.images)
    names = ("generator", "threads", "determinism", "default type", "gradients")
    changed = [name for name, old, new in zip(names, before, state(), strict=True) if old != new]
    return f"changed: {', '.join(changed)}" if changed else None


def one_present_row_or_none_trains(subject: Subject) -> str | None:
    """Batches emptied by deletions down to one row, or to none, give finite weights."""
    lonely = subject.world.fit("lonely", frozenset(range(1, _RECORDS)))
    tensors, _ = load_tensors(lonely.model)
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    return f"not finite: {', '.join(bad)}" if bad else None


def absent_record_leaves_the_schedule(subject: Subject) -> str | None:
    """A tombstone changes neither the number of steps nor what other records' first use is."""
    adapter = subject.world.adapter
    if not isinstance(adapter, HasTranscript):
        return None
    whole, holed = subject.world.job("whole"), subject.world.job("holed", frozenset({1, 2}))
    if adapter.total_steps(whole) != adapter.total_steps(holed):
        return "the number of steps depends on tombstones"
    moved = [
        slot
        for slot in range(3, _RECORDS)
        if adapter.first_use(whole, frozenset({slot})) != adapter.first_use(holed, frozenset({slot}))
    ]
    return f"the first use of slots {moved[:5]} depends on tombstones" if moved else None


def derived_state_is_named(subject: Subject) -> str | None:
    """What else derives from the records must be known to the purge."""
    named = subject.world.adapter.derived_state()
    if not isinstance(named, tuple) or not named or not all(isinstance(item, str) and item for item in named):
        return f"derived_state gives {named!r}"
    return None


def gradients_are_the_slope_of_the_loss(subject: Subject) -> str | None:
    """Where the inside can be read: weights and gradients are in one order, and a small step along a record's gradient
    changes its loss by the gradient's length."""
    adapter, model, test = _opened(subject)
    if not isinstance(adapter, HasWhiteBox):
        return None
    answers: Callable[..., Any] = subject.world.adapter.outputs
    images, labels = test.images[:1], test.labels[:1]
    weights = [p for module in _modules(model) for p in module.parameters() if p.requires_grad]
    flat = adapter.flat_weights(model)
    if not np.array_equal(flat, torch.cat([p.detach().flatten() for p in weights]).numpy()):
        return "flat_weights are not the trainable parameters in the model's order"
    gradient = adapter.gradients(model, images, labels)[0]
    if gradient.shape != flat.shape:
        return f"a gradient of {gradient.shape} for {flat.shape} weights"
    length, step, losses = float(np.linalg.norm(gradient)), 1e-2, []
    for sign in (1, -1):
        moved = torch.from_numpy((flat + sign * step * gradient / length).astype(np.float32))
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(moved, weights)
        losses.append(-float(answers(model, images)[0, labels[0]]))
    slope = (losses[0] - losses[1]) / (2 * step)
    return None if abs(slope - length) < 0.1 * length else f"slope {slope:.4g} along a gradient of length {length:.4g}"


def readings_of_the_inside_agree(subject: Subject) -> str | None:
    """Norms are those of the gradients, projections keep inner products on average, a record alone reads the same,
    everything is finite float32 and decided by the seed."""
    adapter, model, test = _opened(subject)
    if not isinstance(adapter, HasWhiteBox):
        return None
    images, labels = test.images, test.labels
    gradients = adapter.gradients(model, images, labels).astype(np.float64)
    if not np.allclose(adapter.gradient_norms(model, images, labels), np.linalg.norm(gradients, axis=1), rtol=1e-3):
        return "gradient_norms are not the norms of gradients"
    sketches = [adapter.gradients(model, images[:2], labels[:2], project=32, seed=seed) for seed in range(20)]
    ratio = np.mean([np.square(s, dtype=np.float64).sum(1) for s in sketches], axis=0) / np.square(gradients[:2]).sum(1)
    if abs(float(ratio.mean()) - 1) > 0.25:
        return f"projections keep squared lengths {ratio.mean():.2f} times, expected 1"
    for name, read in _readings(adapter, model).items():
        whole, again, alone = read(images, labels), read(images, labels), read(images[:1], labels[:1])
        if whole.shape[0] != len(images) or whole.dtype != np.float32 or not np.isfinite(whole).all():
            return f"{name}: shape {whole.shape}, {whole.dtype}, or not finite"
        if not np.array_equal(whole, again):
            return f"{name}: two readings with one seed differ"
        if not np.allclose(alone, whole[:1], rtol=1e-2, atol=1e-4):
            return f"{name}: a reading depends on the other records"
    return None


def looking_inside_changes_nothing(subject: Subject) -> str | None:
    """Weights, buffers, modes, gradients, torch's generator and settings are as they were."""
    adapter, model, test = _opened(subject)
    if not isinstance(adapter, HasWhiteBox):
        return None

    def state() -> tuple[Any, ...]:
        modules = _modules(model)
        return (
            [t.numpy().tobytes() for module in modules for t in module.state_dict().values()],
            [layer.training for module in modules for layer in module.modules()],
            [(p.requires_grad, p.grad is None) for module in modules for p in module.parameters()],
            torch.get_rng_state().numpy().tobytes(),
            (torch.get_num_threads(), torch.is_grad_enabled()),
        )

    before, changed = state(), []
    for name, read in _readings(adapter, model).items():
        read(test.images, test.labels)
        if state() != before:
            changed.append(name)
    return f"changed something: {', '.join(changed)}" if changed else None


def _opened(subject: Subject) -> tuple[Any, Any, ImageRecords]:
    """The adapter, its first model loaded anew, and the unseen records."""
    adapter = subject.world.adapter
    return adapter, adapter.load(subject.first.model), subject.world.data.test


def _readings(adapter: Any, model: Any) -> dict[str, Callable[[Any, Any], Any]]:
    return {
        "features": lambda images, _: adapter.features(model, images),
        "gradients": lambda images, labels: adapter.gradients(model, images, labels, project=8, seed=1),
        "gradient_norms": lambda images, labels: adapter.gradient_norms(model, images, labels),
        "curvatures": lambda images, labels: adapter.curvatures(model, images, labels, probes=2, seed=1),
    }


ADAPTER_LAWS: tuple[Law[Subject], ...] = (
    is_an_adapter_of_its_name,
    same_job_gives_the_same_weights,
    every_learned_tensor_starts_afresh,
    finished_job_is_read_back,
    same_classes_and_keys_come_back,
    truncated_or_foreign_file_is_refused,
    outputs_are_log_probabilities,
    global_state_is_left_alone,
    one_present_row_or_none_trains,
    absent_record_leaves_the_schedule,
    derived_state_is_named,
    gradients_are_the_slope_of_the_loss,
    readings_of_the_inside_agree,
    looking_inside_changes_nothing,
)


def check_adapter(name: str, *, model: Mapping[str, Any] | None = None) -> None:
    """Hold the registered family `name` to every law; `model` are its own settings (default: the family's)."""
    require("models", name, examine_adapter(registry.load("models", name), name=name, model=model))


def examine_adapter(
    plugin: Any, *, name: str, model: Mapping[str, Any] | None = None, laws: Sequence[Law[Subject]] = ADAPTER_LAWS
) -> tuple[Broken, ...]:
    """The broken laws of a family's class; `name` is a registered family, whose recipe schema it shares."""
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        data = random_records(_RECORDS, _SHAPE, _CLASSES)
        world = make_world(Path(folder), family=name, data=data, plugin=plugin, epochs=1, model=dict(model or {}))
        return examine(laws, Subject(name=name, plugin=plugin, world=world))


def _modules(loaded: Any) -> list[torch.nn.Module]:
    if isinstance(loaded, torch.nn.Module):
        return [loaded]
    return [item for item in loaded if isinstance(item, torch.nn.Module)] if isinstance(loaded, list | tuple) else []
