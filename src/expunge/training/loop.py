"""The only training loop. It takes a module and a schedule; what it did is in the transcript, and it can be replayed.

Empty slots: a tombstone keeps its place in its batch and the loss is divided by the number of slots, not of records,
so every other record's contribution is what it would have been. BatchNorm sees the present rows only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from expunge.core.codec import decimal
from expunge.core.errors import IntegrityError
from expunge.core.plan import Numerics
from expunge.core.protocols import Progress, silent
from expunge.training.alternating import builds
from expunge.training.audit import check_same_job
from expunge.training.batches import Source
from expunge.training.checkpoint import checkpoint_name, load_tensors, pack, save_tensors, unpack, weights_identity
from expunge.training.optimisers import optimiser_of, restore_state, state_of
from expunge.training.recipe import AlternatingRecipe, AnyRecipe
from expunge.training.schedule import Schedule, Slots
from expunge.training.transcript import Line, Transcript, order_commitment, read_transcript, receipt_root

_WORTH_SECONDS = 5.0
_START_OVER = "the folder was tampered with or mixed up; remove it and run again"


def numerics_of(recipe: AnyRecipe, threads: int | None = None) -> Numerics:
    """The numerics this process would train with."""
    return Numerics(
        precision=recipe.precision,
        threads=threads or recipe.threads,
        device=recipe.device,
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        build=builds() if isinstance(recipe, AlternatingRecipe) else f"torch {torch.__version__.split('+')[0]}",
    )


@contextmanager
def numerics(setting: Numerics) -> Iterator[None]:
    """Deterministic kernels and the declared number of threads, restored afterwards.

    Without torch's filling of uninitialised memory, which costs time and changes nothing that is computed.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    debug: Any = torch.utils.deterministic
    filled = debug.fill_uninitialized_memory
    torch.set_num_threads(setting.threads)
    torch.use_deterministic_algorithms(True)
    debug.fill_uninitialized_memory = False
    try:
        yield
    finally:
        debug.fill_uninitialized_memory = filled
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


@contextmanager
def _alone(module: nn.Module, rows: int) -> Iterator[None]:
    """A batch of one present row has no statistics of its own: BatchNorm then uses, and keeps, its running ones."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)] if rows == 1 else []
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


@dataclass(kw_only=True)
class Trainer:
    """One training in progress: module, schedule, reader, and the folder that holds its checkpoints and transcript."""

    module: nn.Module
    schedule: Schedule
    reader: Source
    absent: frozenset[int]
    setting: Numerics
    folder: Path
    keep_checkpoints: bool = True
    header: Line = field(default_factory=dict)
    progress: Progress = silent

    def __post_init__(self) -> None:
        self.total = self.schedule.total_steps
        self.device = torch.device(self.setting.device)
        self.module.to(self.device)
        if self.device.type == "cpu" and any(p.ndim == 4 for p in self.module.parameters()):
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self.optimiser = optimiser_of(self.schedule.recipe, self.parameters, self.device)
        self.average: dict[str, Tensor] = {}
        self.transcript = Transcript(self.folder / "transcript.jsonl") if self.reader.leaves is not None else None
        self.steps_here = 0
        self.images_here = 0
        self._receipts: dict[bytes, Line] = {}
        self._saved_at = time.perf_counter()

    # ------------------------------------------------------------------------------------------------- whole training

    def run(self) -> tuple[float, int]:
        """Train to the end from wherever the folder's checkpoints left off; returns seconds and the starting step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with numerics(self.setting):
            epoch, step = self._resume()
            first = step
            if self.transcript is not None and self.transcript.count == 0:
                self.transcript.extend([{"kind": "start", **self.header}])
            for current in range(epoch, self.schedule.recipe.epochs):
                if self.keep_checkpoints or (current > epoch and self._worth_saving()):
                    self._save(current, step)
                step = self._epoch(current, step)
            if self.average:
                self.module.load_state_dict({**self.module.state_dict(), **self.average})
        return time.perf_counter() - started, first

    def _worth_saving(self) -> bool:
        """A run that keeps no checkpoints saves only to be resumed: not before losing it would cost some seconds.

        With a transcript every epoch's state is part of it, whoever keeps the file.
        """
        return self.transcript is not None or time.perf_counter() - self._saved_at >= _WORTH_SECONDS

    def _epoch(self, epoch: int, step: int) -> int:
        lines: list[Line] = []
        read: list[Slots] = []
        self.module.train()
        for batch in self.schedule.batches(epoch):
            present = self._present(batch)
            rate = self.schedule.lr(step, self.total)
            if len(present):
                self._step(present, len(batch), epoch, step)
            read.append(present)
            lines.append(self._step_line(step, epoch, batch, present, rate))
            step += 1
            self.images_here += len(present)
            self.progress("train", step, self.total)
        if self.transcript is not None:
            self.transcript.extend([*lines, self._epoch_line(epoch, np.concatenate(read))])
        return step

    def _present(self, batch: Slots) -> Slots:
        if not self.absent:
            return batch
        return np.array([slot for slot in batch.tolist() if slot not in self.absent], np.int64)

    def _step(self, present: Slots, places: int, epoch: int, step: int) -> None:
        recipe = self.schedule.recipe
        batch = self.reader.batch(present, epoch, step / self.total).to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.lr(step, self.total) * group["scale"]
        bf16 = self.setting.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16), _alone(self.module, len(present)):
            found = self.module(*batch.inputs)
        loss = self.reader.loss(found, batch.wanted)
        self.optimiser.zero_grad(set_to_none=True)
        (loss / places).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if recipe.averaging:
            self._average(recipe.averaging)
        self.steps_here += 1

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        """Exponential moving average of weights and BatchNorm buffers; it becomes the final model."""
        state = {name: tensor for name, tensor in self.module.state_dict().items() if tensor.is_floating_point()}
        if not self.average:
            self.average = {name: tensor.clone() for name, tensor in state.items()}
            return
        torch._foreach_lerp_(list(self.average.values()), list(state.values()), 1 - decay)

    # ----------------------------------------------------------------------------------------------------- transcript

    def _step_line(self, step: int, epoch: int, batch: Slots, present: Slots, rate: float) -> Line:
        if self.reader.leaves is None:
            return {}
        ids = self.reader.leaves.ids
        order = order_commitment([ids[slot] for slot in present.tolist()])
        return {
            "kind": "step",
            "step": step,
            "epoch": epoch,
            "order": order,
            "present": len(present),
            "slots": len(batch),
            "lr": decimal(rate),
        }

    def _epoch_line(self, epoch: int, read: Slots) -> Line:
        leaves = self.reader.leaves
        assert leaves is not None
        ordered = np.sort(read)
        key = ordered.tobytes()
        if key not in self._receipts:
            root = receipt_root(leaves.contents[slot] for slot in ordered.tolist())
            self._receipts = {key: {"root": root, "count": len(ordered)}}
        return {"kind": "epoch", "epoch": epoch, "receipt": dict(self._receipts[key])}

    # ---------------------------------------------------------------------------------------------------- checkpoints

    def _save(self, epoch: int, step: int) -> None:
        """State at the start of an epoch, with the cursor and how many transcript lines are behind it."""
        path = self.folder / "checkpoints" / checkpoint_name(epoch)
        if path.exists():
            return
        count = self.transcript.count if self.transcript is not None else 0
        digest = save_tensors(
            path,
            pack(self.module, state_of(self.optimiser, self.parameters), self.average),
            {"epoch": str(epoch), "step": str(step), "lines": str(count)},
        )
        self._saved_at = time.perf_counter()
        if self.transcript is not None:
            self.transcript.extend([{"kind": "state", "epoch": epoch, "step": step, "state": digest}])
        if not self.keep_checkpoints:
            for older in self.folder.glob("checkpoints/epoch-*.safetensors"):
                if older != path:
                    older.unlink()

    def _resume(self) -> tuple[int, int]:
        """Load the newest checkpoint of this folder, if any, and rewind the transcript to it."""
        found = sorted(self.folder.glob("checkpoints/epoch-*.safetensors"))
        if not found:
            if self.transcript is not None:
                self.transcript.path.unlink(missing_ok=True)
            return 0, 0
        tensors, metadata = load_tensors(found[-1])
        epoch, step, count = self._cursor(found[-1], metadata)
        if self.transcript is not None:
            line = {"kind": "state", "epoch": epoch, "step": step, "state": weights_identity(found[-1])}
            self._check_transcript(count, line)
        self._restore(tensors, found[-1])
        if self.transcript is not None:
            self.transcript.rewind(count)
            self.transcript.extend([line])
        return epoch, step

    def _cursor(self, path: Path, metadata: Mapping[str, str]) -> tuple[int, int, int]:
        """Epoch, step and transcript lines of a checkpoint; they must be the ones its name and the schedule say."""
        try:
            epoch, step, count = (int(metadata[name]) for name in ("epoch", "step", "lines"))
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"{path.name} is not a checkpoint of expunge", got=str(metadata)[:200]) from error
        if path.name != checkpoint_name(epoch) or step != sum(self.schedule.epoch_steps()[:epoch]):
            raise IntegrityError(
                f"{path.name} holds the state of another moment", got=f"epoch {epoch}, step {step}", hint=_START_OVER
            )
        return epoch, step, count

    def _check_transcript(self, count: int, line: Line) -> None:
        """The first `count` lines must be this job's, and the next one, where it was written, the checkpoint's."""
        assert self.transcript is not None
        assert self.reader.leaves is not None
        lines = read_transcript(self.transcript.path) if self.transcript.path.exists() else []
        check_same_job(lines[:count], self.header, self.schedule, self.absent, self.reader.leaves)
        if len(lines) > count:
            logged = {key: value for key, value in lines[count].items() if key != "chain"}
            if logged != line:
                raise IntegrityError(
                    "the newest checkpoint is not the one in the transcript",
                    expected=str(logged.get("state")),
                    got=str(line["state"]),
                    hint=_START_OVER,
                )

    def _restore(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        try:
            self.module.load_state_dict(unpack(tensors, "weights"))
            restore_state(self.optimiser, self.parameters, tensors)
        except (RuntimeError, KeyError) as error:
            raise IntegrityError(f"{path.name} does not fit the recipe's architecture", got=str(error)[:200]) from error
        average = unpack(tensors, "average")
        # In the module's order and memory layout: a file sorts by name, and the average is taken tensor by tensor.
        self.average = {
            name: torch.empty_like(tensor).copy_(average[name])
            for name, tensor in self.module.state_dict().items()
            if name in average
        }
