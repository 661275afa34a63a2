"""The reference bank: N models on block-randomised complementary halves, and full-size anchors.

Every block (a subject, a duplicate cluster) is OUT of exactly one model of each pair and IN the other, so each request
finds N/2 OUT and N/2 IN models without any new training. Any two monitored blocks, and any that are too large to be
judged, are on the same side as often as not (farm.balance): else one is taken for the other. Anchors are full-size
models trained before any request: they leave out a tenth of the ordinary blocks, and each monitored block (planted
canaries, blocks chosen on another bank) in exactly half of them. Both are personal data: they expire with their window.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.core.plan import Compute
from expunge.core.protocols import Arms, Progress, Task, silent
from expunge.evidence.durable import write_file
from expunge.farm.balance import balanced_sides
from expunge.farm.index import BLANK, DESTROY, INDEX, RETIRE, Artefact, Index
from expunge.farm.manifest import Seen, read_manifest
from expunge.farm.sketch import RecordSketch, sides_of, table_of
from expunge.farm.tasks import DESIGN, RESULT, key_of, published
from expunge.training.rng import derive_seed, seed_number

Floats = NDArray[np.float32]
MAX_BLOCK_SHARE = 0.01
SMALL_BLOCK = 20
SKETCH = "sketch.npz"
KINDS = ("bank", "anchors")


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSpec:
    """What fixes a bank. `data` names source and options, and what else workers and halves depend on; `tombstones` are left
    out of every member.

    `pairs` complement pairs (N = 2 * pairs) and `anchors` full-size models. `monitored` are blocks that the anchors
    leave out half of the time, and that the halves balance against each other and against all that are heavy.
    """

    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    seed: str
    pairs: int
    anchors: int = 0
    monitored: tuple[str, ...] = ()
    tombstones: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """Content address of the whole bank."""
        return digest_of(self)


@dataclass(frozen=True, kw_only=True)
class Sketches:
    """Log-probability of the true class per model: train (M, N), test (M, Z); inside (M, N) bool = trained on it.

    `correct` (M, Z): was the test record classified correctly?
    """

    train: Floats
    test: Floats
    inside: NDArray[np.bool_]
    correct: NDArray[np.bool_]


class Bank:
    """A bank on disk: tasks, results and sketches under `folder`. Models stay only where a method needs the IN arm."""

    def __init__(self, spec: BankSpec, folder: Path, blocks: Sequence[str]) -> None:
        self.spec = spec
        self.folder = folder
        self.blocks = blocks
        self._block_slots: dict[str, list[int]] = {}
        gone = frozenset(spec.tombstones)
        for slot, block in enumerate(blocks):
            if slot not in gone:
                self._block_slots.setdefault(block, []).append(slot)
        self._check()

    def _check(self) -> None:
        total = sum(map(len, self._block_slots.values()))
        problems = []
        if self.spec.pairs < 2:
            problems.append(f"{self.spec.pairs} pairs: at least 2 are needed")
        if float(self.spec.recipe.get("bank_inclusion", 0.5)) != 0.5:
            problems.append("bank_inclusion: complement pairs need .5")
        unknown = [block for block in self.spec.monitored if block not in self._block_slots]
        if unknown and not (self.folder / DESIGN).exists():  # a monitored block may have been erased since
            problems.append(f"monitored blocks that do not exist: {', '.join(unknown[:5])}")
        if problems:
            raise InputProblems("bank", problems)
        self.total = total

    # ---------------------------------------------------------------------------------------------------------- design

    def refuses(self, slots: Sequence[int]) -> str | None:
        """Why the bank cannot judge these slots: a part of a block, or a block over 1 % of the data (VERDICTS 5).

        The share matters because a large block changes a half-size model as a whole, and then OUT and IN differ by more
        than what the block's records leave behind. `SMALL_BLOCK` records are allowed whatever their share, so that on
        small sets, such as the embedded demo's, a block of canaries can be planted at all; not of pictures, of which
        few make an artist.
        """
        names = {self.blocks[slot] for slot in slots}
        if len(names) != 1:
            return f"the records lie in {len(names)} blocks; the bank tests one block at a time"
        block = self._block_slots.get(next(iter(names)), [])
        if sorted(slots) != block:
            return "only a part of a block was requested; its other records stay and travel with it"
        if self._heavy(block):
            return f"the block holds {len(block)} of {self.total} records, over 1 %: too many for a bank test"
        return None

    def _heavy(self, slots: Sequence[int]) -> bool:
        """Whether a block is so large that it moves a half-size model as a whole."""
        small = int(self.spec.data.get("small_block", SMALL_BLOCK))
        return len(slots) > max(small, MAX_BLOCK_SHARE * self.total)

    def inside(self, kind: str = "bank") -> NDArray[np.bool_]:
        """Which model trained on which slot, (M, N). Fixed when the bank is built: later deletions change no half.

        Raises IntegrityError when members are there and the design they were trained by is not.
        """
        file = self.folder / DESIGN
        if not file.exists():
            self._no_members()
            return self._design()[kind]
        found: NDArray[np.bool_] = read_arrays(file)[kind]
        return found

    def slots_of(self, kind: str, number: int) -> tuple[int, ...]:
        """Slots one member trained on, ascending."""
        return tuple(np.flatnonzero(self.inside(kind)[number]).tolist())

    def design_digest(self) -> str:
        """`sha256:` over which model trained on which slot, of bank and anchors; the same before and after a deletion."""
        digest = hashlib.sha256(b"expunge/bank-design/v1")
        for kind in KINDS:
            matrix = self.inside(kind)
            digest.update(f"|{kind} {matrix.shape[0]}x{matrix.shape[1]}|".encode())
            digest.update(np.packbits(matrix, axis=1).tobytes())
        return "sha256:" + digest.hexdigest()

    def sketch_digests(self) -> dict[str, str]:
        """`sha256:` of the arrays of every sketch there is, by member (`bank 0`). `forget` changes them."""
        return {label: _arrays_digest(read_arrays(file)) for label, file in self._sketch_files()}

    def _sketch_files(self) -> list[tuple[str, Path]]:
        """(member, file) of every sketch there is; an interrupted build has fewer than members."""
        named = [(task.label, self.folder / key_of(task) / SKETCH) for kind in KINDS for task in self.tasks(kind)]
        return [(label, file) for label, file in named if file.exists()]

    def _no_members(self) -> None:
        if next(self.folder.glob(f"*/{SKETCH}"), None) is not None:
            raise IntegrityError(
                f"{DESIGN} of the bank is missing, and its models are there",
                hint=f"restore {DESIGN}, or retire the bank and build another",
            )

    def _design(self) -> dict[str, NDArray[np.bool_]]:
        return {"bank": self._matrix(self._halves()), "anchors": self._matrix(self._leave_outs())}

    def _matrix(self, members: list[list[int]]) -> NDArray[np.bool_]:
        matrix = np.zeros((len(members), len(self.blocks)), bool)
        for number, slots in enumerate(members):
            matrix[number, slots] = True
        return matrix

    def _halves(self) -> list[list[int]]:
        """Models 2k and 2k+1 train on complementary halves of the blocks; monitored and heavy ones are balanced."""
        heavy = sorted(block for block, slots in self._block_slots.items() if self._heavy(slots))
        watched = [block for block in dict.fromkeys((*self.spec.monitored, *heavy)) if block in self._block_slots]
        ordinary = sorted(set(self._block_slots) - set(watched))
        seed, halves = derive_seed(self.spec.seed, "monitored sides", *watched), []
        for pair, placed in enumerate(balanced_sides(seed, self.spec.pairs, len(watched)).tolist()):
            sides = [[block for block, on in zip(watched, placed, strict=True) if on == side] for side in (False, True)]
            for block in self._shuffled(derive_seed(self.spec.seed, "pair", pair), ordinary):
                sides[len(sides[1]) < len(sides[0])].append(block)
            halves += [self._slots(side) for side in sides]
        return halves

    def _leave_outs(self) -> list[list[int]]:
        """Slots of every anchor: a tenth of the ordinary blocks out, each monitored block out of half of them."""
        count = self.spec.anchors
        left_out: list[set[str]] = [set() for _ in range(count)]
        for block in self.spec.monitored:
            order = self._shuffled(derive_seed(self.spec.seed, "monitored", block), [f"{k:06d}" for k in range(count)])
            for name in order[: count // 2]:
                left_out[int(name)].add(block)
        ordinary = sorted(set(self._block_slots) - set(self.spec.monitored))
        for number in range(count):
            order = self._shuffled(derive_seed(self.spec.seed, "anchor", number), ordinary)
            left_out[number].update(order[: len(ordinary) // 10])
        return [self._slots([b for b in self._block_slots if b not in out]) for out in left_out]

    def _shuffled(self, seed: str, names: list[str]) -> list[str]:
        generator = np.random.Generator(np.random.Philox(seed_number(seed)))
        return [names[position] for position in generator.permutation(len(names))]

    def _slots(self, blocks: Sequence[str]) -> list[int]:
        return sorted(slot for block in blocks for slot in self._block_slots[block])

    # -------------------------------------------------------------------------------------------------------- building

    def tasks(self, kind: str) -> list[Task]:
        """The trainings of `bank` or `anchors`. Arguments name the member; the worker derives its slots again."""
        count = 2 * self.spec.pairs if kind == "bank" else self.spec.anchors
        common = {"bank": self.spec, "kind": kind}
        return [
            Task(function="expunge.farm.member:train", arguments={**common, "number": number}, label=f"{kind} {number}")
            for number in range(count)
        ]

    def build(self, executor: str, compute: Compute, progress: Progress = silent) -> list[Mapping[str, Any]]:
        """Train what is missing; returns one result per model, bank first, then anchors.

        Raises ErasedRecord when a member that is there already saw a record that has been erased.
        """
        self._save_design()
        runner = registry.load("executors", executor)()
        tasks = [task for kind in KINDS for task in self.tasks(kind)]
        for task in tasks:
            published(task, self.folder, self.erased)
        results: list[Mapping[str, Any]] = runner.run(tasks, self.folder, compute, progress)
        self.index().write(self.folder / INDEX)
        return results

    @property
    def erased(self) -> frozenset[int]:
        """Slots that were erased before the bank or since."""
        return frozenset(self.spec.tombstones) | {slot for slot, block in enumerate(self.blocks) if not block}

    def index(self) -> Index:
        """What of the bank derives from whom: members until they retire, sketches, and answers a crash left behind.

        A member saw what the design says; a sketch speaks about everybody; anything else saw what its manifest says,
        and everything if it says nothing. What was recorded when the bank was built stays in it.
        """
        file = self.folder / INDEX
        recorded = Index.read(file) if file.exists() else Index()
        everybody = Seen.all_but((), len(self.blocks))
        found, known = [], set()
        for kind in KINDS:
            for home, row in zip(self._homes(kind), self.inside(kind), strict=True):
                known.add(home.name)
                if (home / "run").exists() or (home / RESULT).exists():
                    name = "bank models" if kind == "bank" else "anchors"
                    found.append(Artefact(kind=name, path=home.name, fate=RETIRE, seen=Seen.of(row)))
                if (home / SKETCH).exists():
                    path = f"{home.name}/{SKETCH}"
                    found.append(Artefact(kind="score sketches", path=path, fate=BLANK, seen=everybody))
        for home in sorted(self.folder.iterdir()) if self.folder.exists() else ():
            if home.is_dir() and home.name not in known:
                manifest = read_manifest(home)
                seen = manifest.seen if manifest is not None and manifest.seen is not None else everybody
                files = sum(file.is_file() for file in home.rglob("*"))
                found.append(Artefact(kind="cached answers", path=home.name, fate=DESTROY, seen=seen, files=files))
        return recorded | Index(found)

    def home(self, kind: str, number: int) -> Path:
        """Folder of one member."""
        return self.folder / key_of(self.tasks(kind)[number])

    def _save_design(self) -> None:
        file = self.folder / DESIGN
        if not file.exists():
            self._no_members()
            temporary = self.folder / f".{os.getpid()}.npz"
            np.savez_compressed(temporary, **self._design())  # type: ignore[arg-type]
            temporary.chmod(0o600)
            os.replace(temporary, file)

    def sketches(self, kind: str = "bank") -> Sketches:
        """Everything the checks look at; raises InputError when a member is missing."""
        train, test, correct = [], [], []
        for number, home in enumerate(self._homes(kind)):
            if not (home / SKETCH).exists():
                raise InputError(f"{kind} model {number} is missing", hint="run `expunge bank` again; it resumes")
            arrays = read_arrays(home / SKETCH)
            train.append(arrays["train"])
            test.append(arrays["test"])
            correct.append(arrays["correct"])
        return Sketches(
            train=np.stack(train) if train else np.zeros((0, len(self.blocks)), np.float32),
            test=np.stack(test) if test else np.zeros((0, 0), np.float32),
            inside=self.inside(kind) & np.array([bool(block) for block in self.blocks]),
            correct=np.stack(correct) if correct else np.zeros((0, 0), bool),
        )

    def _homes(self, kind: str) -> list[Path]:
        return [self.folder / key_of(task) for task in self.tasks(kind)]

    def forget(self, slots: Sequence[int]) -> int:
        """Blank the answers about these slots in every sketch there is; returns how many were rewritten.

        Members that an interrupted build never finished are skipped, and what it left half written is removed.
        """
        for leftover in self.folder.glob(f"*/.{Path(SKETCH).stem}.*.npz"):
            leftover.unlink()
        files = [file for _, file in self._sketch_files()]
        for file in files:
            arrays = read_arrays(file)
            arrays["train"][list(slots)] = 0.0
            write_sketch(file, arrays)
        return len(files)

    def sides(self, slots: Sequence[int]) -> list[tuple[int, int]]:
        """(OUT member, IN member) of every pair for one block."""
        column = self.inside()[:, slots[0]]
        return [
            (2 * pair, 2 * pair + 1) if column[2 * pair + 1] else (2 * pair + 1, 2 * pair)
            for pair in range(self.judging)
        ]

    @property
    def judging(self) -> int:
        """Complement pairs that judge: all of them, but for a rehearsal with pilot counts."""
        return self.spec.pairs

    def sketches_of(self, slots: Sequence[int], kind: str = "bank") -> list[RecordSketch]:
        """What the bank keeps of each record: with it, deletion can be judged when the record is gone.

        Raises InputError for a slot that was erased, because its answers are blank.
        """
        gone = sorted(self.erased & set(slots))
        if gone:
            raise InputError(f"{len(gone)} of the records are erased, and their answers are blank")
        sketches = self.sketches(kind)
        return [RecordSketch(inside=sketches.inside[:, slot], scores=sketches.train[:, slot]) for slot in slots]

    def arms(self, slots: Sequence[int], unlearned: Sequence[Mapping[str, Any]] | None = None) -> Arms:
        """The arms of one block; `unlearned` are the results of the X arm, pair by pair."""
        return self.arms_of(self.sketches_of(slots), unlearned)

    def arms_of(self, records: Sequence[RecordSketch], unlearned: Sequence[Mapping[str, Any]] | None = None) -> Arms:
        """The arms of a block of which only the sketches are left."""
        population, scores, sides = self.sketches().test, table_of(records), sides_of(records)[: self.judging]
        if len(scores) != 2 * self.spec.pairs:
            raise InputError("the sketches are of another bank", expected=f"{2 * self.spec.pairs} models")
        out, into = [side[0] for side in sides], [side[1] for side in sides]
        return Arms(
            out=scores[out],
            into=scores[into],
            unlearned=_stack(unlearned, "block"),
            out_population=population[out],
            into_population=population[into],
            unlearned_population=_stack(unlearned, "population"),
        )


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an npz file; IntegrityError when it is damaged or holds anything but arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise IntegrityError(
            f"{path.name} of the bank cannot be read", got=str(error)[:200], hint="build the bank again"
        ) from error


def _arrays_digest(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(b"expunge/bank-sketch/v1")
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"|{name} {array.dtype.str} {'x'.join(map(str, array.shape))}|".encode())
        digest.update(array.tobytes())
    return "sha256:" + digest.hexdigest()


def write_sketch(path: Path, arrays: Mapping[str, Any]) -> None:
    """Publish a sketch atomically, 0600. Raises StorageError."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_file(path, buffer.getvalue(), mode=0o600)


def _stack(results: Sequence[Mapping[str, Any]] | None, field: str) -> Floats | None:
    if results is None:
        return None
    return np.array([[float(value) for value in result[field]] for result in results], np.float32)
