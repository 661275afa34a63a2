"""What every family shares that is trained by the one loop: fit, replay, tune, shards and load, whatever its records are.

A base one floor up or beside it says how a batch is read (`source`); a family how its module is built. With `shards` > 1
the same class trains S modules on disjoint slots (SISA, Bourtoule et al. 2021), and `load` gives all of them.
"""

from __future__ import annotations

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from expunge.core.codec import encode
from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import FitJob, FitResult
from expunge.evidence.durable import storage_errors
from expunge.training.audit import check_same_job
from expunge.training.batches import Leaves, Source
from expunge.training.checkpoint import load_tensors, save_tensors, weights_identity
from expunge.training.loop import Trainer, numerics, numerics_of
from expunge.training.recipe import Recipe, parse_recipe
from expunge.training.rng import below, derive_seed, draws, seed_number
from expunge.training.schedule import Schedule, Slots
from expunge.training.transcript import Transcript, read_transcript

MODEL = "model.safetensors"


class Iterated(ABC):
    """Base of the families of the loop. `recipe` fixes architecture and training; nothing else is state."""

    family: str
    reads_everybody: bool = False
    """Whether every step reads all records of its epoch, as a graph over them does, and not those of its batch alone. The
    start line of a transcript then says so, and the epoch's receipt is what each of its steps read."""

    def __init__(self, recipe: Recipe, geometry: Mapping[str, Any]) -> None:
        if recipe.family != self.family:
            raise InputError("recipe is for another family", expected=self.family, got=recipe.family)
        self.recipe = recipe
        self.geometry = geometry
        """The constructor's other arguments: what the family has to know of the data."""

    @abstractmethod
    def source(self, job: FitJob) -> Source:
        """What reads the job's batches, and what the loss is."""

    @abstractmethod
    def module(self, generator: torch.Generator) -> nn.Module:
        """A freshly initialised module; all randomness from `generator`."""

    def stored(self, job: FitJob, module: nn.Module) -> Mapping[str, Tensor]:
        """What the model file holds after the last step: the module's weights and buffers."""
        return module.state_dict()

    # ------------------------------------------------------------------------------------------------------- schedule

    def shards(self, job: FitJob) -> tuple[tuple[int, ...], ...]:
        """Slots of each shard, keyed by the seed."""
        slots = _universe(job)
        if self.recipe.shards == 1:
            return (tuple(slots.tolist()),)
        shard = below(draws(job.seed, "shard", 0, slots)[:, 0], self.recipe.shards)
        return tuple(tuple(slots[shard == number].tolist()) for number in range(self.recipe.shards))

    def parts(self, job: FitJob) -> list[FitJob]:
        """One job per shard; a single-shard job is itself."""
        if self.recipe.shards == 1:
            return [job]
        return [
            replace(
                job,
                universe=slots,
                seed=derive_seed(job.seed, "shard", number),
                folder=job.folder / f"shard-{number}",
                absent=job.absent & frozenset(slots),
            )
            for number, slots in enumerate(self.shards(job))
        ]

    def _schedule(self, job: FitJob) -> Schedule:
        return Schedule(recipe=self.recipe, seed=job.seed, slots=_universe(job))

    def total_steps(self, job: FitJob) -> int:
        """Steps of all shards."""
        return sum(self._schedule(part).total_steps for part in self.parts(job))

    def first_use(self, job: FitJob, slots: frozenset[int]) -> int:
        """Steps (over all shards) that stay as they are when the slots go: the work a replay can keep, at most."""
        if self.reads_everybody:
            return self.total_steps(job) - self.replay_steps(job, slots)
        return sum(self._schedule(part).first_step(slots) for part in self.parts(job))

    def replay_steps(self, job: FitJob, slots: frozenset[int]) -> int:
        """Steps that must be run again from the last unaffected checkpoints."""
        steps = 0
        for part in self.parts(job):
            schedule = self._schedule(part)
            steps += sum(schedule.epoch_steps()[schedule.first_epoch(slots) :])
        return steps

    # ------------------------------------------------------------------------------------------------------- training

    def fit(self, job: FitJob) -> FitResult:
        """Train from scratch, or continue this job where a killed process left it; a finished job is read back."""
        self._check(job)
        done = self._read_back(job)
        if done is not None:
            return done
        with storage_errors(job.folder, "train in"):
            results = [self._fit_part(part) for part in self.parts(job)]
            return results[0] if self.recipe.shards == 1 else self._join(job, results)

    def replay(self, job: FitJob, source: Path, forget: frozenset[int]) -> FitResult:
        """Fit `job`, starting from the checkpoints of `source` that the slots of `forget` never touched.

        `source` must be the run of the same job with exactly `forget` present (job.absent without forget).
        """
        self._check(job)
        done = self._read_back(job)
        if done is not None:
            return done
        parts, before = self.parts(job), self.parts(replace(job, folder=source))
        with storage_errors(job.folder, "replay into"):
            results = [self._replay_part(part, old.folder, forget) for part, old in zip(parts, before, strict=True)]
            return results[0] if self.recipe.shards == 1 else self._join(job, results)

    def tune(self, job: FitJob, start: Path, settings: Mapping[str, Any]) -> FitResult:
        """Continue from the weights in `start` with `settings` over the recipe, on the present records."""
        recipe = parse_recipe({**self.recipe.model_dump(), **settings, "introduce": (0.0,), "shards": 1})
        tuned = type(self)(recipe, **self.geometry)
        with storage_errors(job.folder, "train in"):
            return tuned._fit_part(job, start)

    def fit_part(self, part: FitJob) -> FitResult:
        """One of `parts`, by itself: what a task elsewhere does."""
        self._check(part)
        with storage_errors(part.folder, "train in"):
            return self._fit_part(part)

    def _fit_part(self, job: FitJob, start: Path | None = None) -> FitResult:
        header = self._header(job, {} if start is None else {"from": weights_identity(start)})
        done = self._finished(job.folder)
        if done is not None:
            self._check_own(job, header, done)
            return done
        job.folder.mkdir(parents=True, exist_ok=True)
        module = self._build(seed_number(derive_seed(job.seed, "init")))
        if start is not None:
            weights, _ = load_tensors(start)
            _fill(module, weights, start)
        trainer = self._trainer(job, module, header)
        seconds, first = trainer.run()
        with numerics(job.numerics):
            state = self.stored(job, module)
        digest = save_tensors(job.folder / MODEL, state, {"family": self.family})
        transcript = trainer.transcript
        if transcript is not None:
            transcript.extend([{"kind": "end", "step": trainer.total, "model": digest}])
        return FitResult(
            digest=digest,
            model=job.folder / MODEL,
            transcript=transcript.path if transcript is not None else None,
            seconds=seconds,
            steps=trainer.total,
            resumed_at=first,
        )

    def _build(self, seed: int) -> nn.Module:
        try:
            return self.module(torch.Generator().manual_seed(seed))
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"the model settings of recipe {self.recipe.name} make no network of family {self.family}",
                got=f"{dict(self.recipe.model)}: {str(error)[:120]}",
            ) from error

    def _header(self, job: FitJob, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the start line says: everything that fixes the bits but for the tombstones, which receipts show."""
        schedule = self._schedule(job)
        return {
            "recipe": self.recipe.digest,
            "numerics": encode(job.numerics),
            "seed": "sha256:" + hashlib.sha256(job.seed.encode()).hexdigest(),
            "slots": len(schedule.slots),
            "steps": schedule.total_steps,
            **({"every_step_reads": "epoch"} if self.reads_everybody else {}),
            **(extra or {}),
        }

    def _check_own(self, job: FitJob, header: Mapping[str, Any], done: FitResult) -> None:
        leaves = leaves_of_job(job)
        if done.transcript is not None and leaves is not None:
            check_same_job(read_transcript(done.transcript), header, self._schedule(job), job.absent, leaves)

    def _trainer(self, job: FitJob, module: nn.Module, header: Mapping[str, Any]) -> Trainer:
        return Trainer(
            module=module,
            schedule=self._schedule(job),
            reader=self.source(job),
            absent=job.absent,
            setting=job.numerics,
            folder=job.folder,
            keep_checkpoints=job.keep_checkpoints,
            header=header,
            progress=job.progress,
        )

    def _replay_part(self, job: FitJob, source: Path, forget: frozenset[int]) -> FitResult:
        """Copy what came before the first use of any slot in `forget`, verified against the transcript; then fit."""
        schedule = self._schedule(job)
        lines = read_transcript(source / "transcript.jsonl")
        if not forget & frozenset(schedule.slots.tolist()):
            return self._copy_finished(job, source)
        epoch = schedule.first_epoch(forget)
        begun = max((_epoch_of(file) for file in job.folder.glob("checkpoints/epoch-*.safetensors")), default=-1)
        if begun <= epoch:  # beyond it, a killed replay has already taken over and goes on by itself
            leaves = leaves_of_job(job)
            if leaves is not None:
                prefix = [line for line in lines if line["kind"] != "epoch" or int(line["epoch"]) < epoch]
                check_same_job(prefix, self._header(job), schedule, job.absent, leaves)
            _copy_prefix(source, job.folder, lines, epoch)
        return self._fit_part(job)

    def _copy_finished(self, job: FitJob, source: Path) -> FitResult:
        shutil.copytree(source, job.folder, dirs_exist_ok=True)
        done = self._finished(job.folder)
        if done is None:
            raise IntegrityError("the original run is not finished", hint="resume it with `expunge train`")
        self._check_own(job, self._header(job), done)
        return replace(done, resumed_at=done.steps)

    def _join(self, job: FitJob, results: list[FitResult]) -> FitResult:
        """One file and one transcript for S shards."""
        tensors: dict[str, Tensor] = {}
        transcript = Transcript(job.folder / "transcript.jsonl")
        transcript.path.unlink(missing_ok=True)
        for number, result in enumerate(results):
            loaded, _ = load_tensors(result.model)
            tensors |= {f"shard{number}.{name}": tensor for name, tensor in loaded.items()}
            if result.transcript is not None:
                transcript.extend([{**_plain(line), "shard": number} for line in read_transcript(result.transcript)])
        digest = save_tensors(job.folder / MODEL, tensors, {"family": self.family})
        steps = sum(result.steps for result in results)
        if transcript.count:
            transcript.extend([{"kind": "joined", "step": steps, "model": digest}])
        return FitResult(
            digest=digest,
            model=job.folder / MODEL,
            transcript=transcript.path if transcript.count else None,
            seconds=sum(result.seconds for result in results),
            steps=steps,
            resumed_at=sum(result.resumed_at for result in results),
        )

    def _read_back(self, job: FitJob) -> FitResult | None:
        """This job's own finished run, if it is there; another job's run is refused."""
        done = self._finished(job.folder)
        if done is not None:
            for part in self.parts(job):
                mine = done if part is job else self._finished(part.folder)
                if mine is not None:
                    self._check_own(part, self._header(part), mine)
        return done

    def _finished(self, folder: Path) -> FitResult | None:
        """The result of a run that already ended in this folder."""
        transcript = folder / "transcript.jsonl"
        if not (folder / MODEL).exists():
            return None
        digest = weights_identity(folder / MODEL)
        if not transcript.exists():
            return FitResult(digest=digest, model=folder / MODEL, transcript=None, seconds=0.0, steps=0)
        lines = read_transcript(transcript)
        if not lines or lines[-1]["kind"] not in ("end", "joined") or "shard" in lines[-1]:
            (folder / MODEL).unlink()
            return None
        if lines[-1]["model"] != digest:
            raise IntegrityError(
                "the weights file is not the one its transcript ends with", expected=lines[-1]["model"], got=digest
            )
        return FitResult(
            digest=digest, model=folder / MODEL, transcript=transcript, seconds=0.0, steps=int(lines[-1]["step"])
        )

    def _check(self, job: FitJob) -> None:
        present = numerics_of(self.recipe, job.numerics.threads)
        differences = job.numerics.differences(present)
        if differences:
            raise InputError(
                "this machine cannot train with the numerics that were asked for",
                expected="equal Numerics, because bit-identity is claimed only then",
                got="; ".join(differences),
            )

    # -------------------------------------------------------------------------------------------------------- serving

    def load(self, path: Path) -> list[nn.Module]:
        """The module of each shard, in evaluation mode."""
        tensors, _ = load_tensors(path)
        modules = []
        for number in range(self.recipe.shards):
            prefix = f"shard{number}." if self.recipe.shards > 1 else ""
            state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            module = self._build(0)
            _fill(module, state, path)
            modules.append(module.eval())
        return modules

    def derived_state(self) -> tuple[str, ...]:
        """What else of a run derives from its records, relative to the run's folder."""
        return (
            "checkpoints/*.safetensors (weights, momentum, BatchNorm buffers)",
            "transcript.jsonl (keyed commitments)",
        )


def _universe(job: FitJob) -> Slots:
    if job.universe is None:
        return np.arange(len(job.data.train), dtype=np.int64)
    return np.array(job.universe, np.int64)


def leaves_of_job(job: FitJob) -> Leaves | None:
    """The leaves of all slots, or None for a training without a transcript."""
    if job.leaves is not None and not isinstance(job.leaves, Leaves):
        raise InputError("FitJob.leaves must be training.batches.Leaves or None")
    return job.leaves


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise IntegrityError(f"{path.name} does not fit the recipe's architecture", got=str(error)[:200]) from error


def _epoch_of(file: Path) -> int:
    return int(file.stem.removeprefix("epoch-"))


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "chain"}


def _copy_prefix(source: Path, target: Path, lines: list[dict[str, Any]], epoch: int) -> None:
    """Checkpoints up to the start of `epoch` and the transcript lines before it; digests must match the transcript."""
    states = {int(line["epoch"]): str(line["state"]) for line in lines if line["kind"] == "state"}
    (target / "checkpoints").mkdir(parents=True, exist_ok=True)
    for file in sorted((source / "checkpoints").glob("epoch-*.safetensors")):
        number = _epoch_of(file)
        if number > epoch:
            continue
        found = weights_identity(file)
        if found != states.get(number):
            raise IntegrityError(
                f"checkpoint {file.name} is not the one in the transcript", expected=states.get(number), got=found
            )
        shutil.copyfile(file, target / "checkpoints" / file.name)
    if epoch not in states or not (target / "checkpoints" / f"epoch-{epoch:04d}.safetensors").exists():
        raise IntegrityError(f"the checkpoint at the start of epoch {epoch} is missing", hint="use retrain")
    kept = [line for line in lines if line["kind"] == "start" or int(line.get("epoch", epoch)) < epoch]
    transcript = Transcript(target / "transcript.jsonl")
    transcript.path.unlink(missing_ok=True)
    transcript.extend([_plain(line) for line in kept])
