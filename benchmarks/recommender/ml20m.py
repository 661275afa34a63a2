"""Exact deletion at the shape of ML-20M (136,677 users, 20,108 items, 10 M events), on synthetic heavy-tailed data.

    python benchmarks/recommender/ml20m.py --work FOLDER [--only growth|single|mapped|stream] [--queue 10000]

`growth`: inverse and rank-1 downdate at 5,000, 10,000 and, from `single`, 20,108 items. `single`: Gram matrix, inverse,
deletion of a median, a 1,000-event and the most active user, and of 32 at once, on arrays in memory. `mapped`: the same
with G and P in the files that `single` left, mapped privately, in a process of its own, which neither loads nor builds
them: `first` is the deletion that has to copy every page, and its peak memory is that of the process. `stream`: a queue
of deletions in batches of 32 with P and G in memory maps, killed with -9 midway and resumed; at the end G must equal
that of the retained users. Peak memory is that of the process (anonymous, and mapped files apart).
FOLDER needs 12 GB; it is where the two buffers lie.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from recorded import record_parts
from scipy import sparse

from expunge.data.powerlaw import Powerlaw
from expunge.training.closed_form.erase import erase_rows, probed
from expunge.training.closed_form.gram import gram_of, same_gram
from expunge.training.closed_form.inverse import inverse_of
from expunge.training.closed_form.stream import DeletionStream, Mark, Pace

HERE = Path(__file__).parent
LAM = 200.0
SHAPE = {"users": 136_677, "items": 20_108, "events": 10_000_000}


def memory() -> dict[str, float]:
    """Peak and present memory of this process in GB, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilo = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmHWM", "RssAnon", "RssFile"))}
    return {name: round(int(value) / 1e6, 2) for name, value in kilo.items()}


def clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    return {"wall": round(time.perf_counter() - start[0], 3), "cpu": round(time.process_time() - start[1], 3)}


def growth() -> dict[str, Any]:
    found = {}
    for items in (5_000, 10_000):
        rows = Powerlaw(users=items * 6, items=items, events=items * 450).open().train.matrix()
        gram = gram_of(rows)
        start = clock()
        inverse = inverse_of(gram, LAM)
        found[str(items)] = {"inverse": since(start), "downdate": repeated(gram, inverse, rows, median_user(rows))}
        print(items, found[str(items)], flush=True)
    return found


def median_user(rows: Any) -> list[int]:
    lengths = np.diff(rows.indptr)
    return [int(np.argsort(lengths, kind="stable")[len(lengths) // 2])]


def repeated(gram: Any, inverse: Any, rows: Any, slots: list[int], rounds: int = 5) -> dict[str, Any]:
    """Delete and put back, so that every round starts from the same model; only deletions are timed."""
    before, empty = rows[slots], sparse.csr_matrix((len(slots), rows.shape[1]), dtype=rows.dtype)
    taken = []
    for _ in range(rounds):
        start = clock()
        done = erase_rows(gram, inverse, before, empty, LAM, probe=None)
        taken.append(since(start))
        erase_rows(gram, inverse, empty, before, LAM, probe=None)
    wall, cpu = ([item[name] for item in taken] for name in ("wall", "cpu"))
    return {
        "users": len(slots),
        "events": int(before.nnz),
        "leverage": round(done.leverage, 4),
        "rounds": rounds,
        "wall": {"median": round(float(np.median(wall)), 4), "least": min(wall), "most": max(wall)},
        "cpu": {"median": round(float(np.median(cpu)), 4), "least": min(cpu), "most": max(cpu)},
    }


def single(work: Path) -> dict[str, Any]:
    start = clock()
    rows = Powerlaw(**SHAPE).open().train.matrix()
    found: dict[str, Any] = {"shape": {**SHAPE, "made_in": since(start), "events": int(rows.nnz)}}
    start = clock()
    gram = gram_of(rows)
    found["gram"] = since(start)
    start = clock()
    inverse = inverse_of(gram, LAM)
    found["inverse"] = since(start)
    print(found, flush=True)
    lengths = np.diff(rows.indptr)
    groups = {
        "median user": median_user(rows),
        "user of about 1,000 events": [int(np.abs(lengths - 1000).argmin())],
        "most active user": [int(lengths.argmax())],
        "32 users": np.argsort(lengths, kind="stable")[:: len(lengths) // 32][:32].tolist(),
    }
    for name, slots in groups.items():
        found[name] = repeated(gram, inverse, rows, slots)
        found[name]["ratio_inverse_to_deletion"] = round(found["inverse"]["wall"] / found[name]["wall"]["median"], 1)
        print(name, found[name], flush=True)
    found["residual_after_all_rounds"] = probed(inverse, gram, LAM, 0)
    found["memory_gb"] = memory()
    (work / "stream").mkdir(parents=True, exist_ok=True)
    if not (work / "stream" / "manifest.json").exists():
        DeletionStream.create(work / "stream", gram, LAM, inverse)
    return found


def mapped(work: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--work", str(work), "--child", "mapped"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])  # type: ignore[no-any-return]


def on_maps(work: Path) -> None:
    """The child: opened, and one deletion after another."""
    rows = Powerlaw(**SHAPE).open().train.matrix()
    found: dict[str, Any] = {"memory_gb_before": memory()}
    gram, inverse = DeletionStream(work / "stream").working()
    groups = {
        "median user": median_user(rows),
        "32 users": np.argsort(np.diff(rows.indptr), kind="stable")[:: rows.shape[0] // 32][:32].tolist(),
    }
    slots = groups["median user"]
    empty = sparse.csr_matrix((1, rows.shape[1]), dtype=rows.dtype)
    start = clock()
    erase_rows(gram, inverse, rows[slots], empty, LAM, probe=None)
    found["first"] = since(start)
    erase_rows(gram, inverse, empty, rows[slots], LAM, probe=None)
    for name, some in groups.items():
        found[name] = repeated(gram, inverse, rows, some)
    found["memory_gb"] = memory()
    print(json.dumps(found), flush=True)


def queue_of(rows: Any, count: int) -> list[int]:
    """Keyed order over everybody with an event."""
    order = np.random.Generator(np.random.Philox(7)).permutation(rows.shape[0])
    return order[np.diff(rows.indptr)[order] > 0][:count].tolist()  # type: ignore[no-any-return]


def work_off(work: Path, count: int) -> None:
    """The child: goes on where the manifest says."""
    rows = Powerlaw(**SHAPE).open().train.matrix()
    log = work / "log.jsonl"

    def note(mark: Mark) -> None:
        lines = log.read_text().splitlines() if log.exists() else []
        if not lines or json.loads(lines[-1])["done"] < mark.done:  # told again after a crash: logged once
            with log.open("a") as file:
                file.write(json.dumps({"done": mark.done, "residual": mark.residual, "memory_gb": memory()}) + "\n")

    start = clock()
    first = DeletionStream(work / "stream")
    begun = first.mark.done
    last = first.run(queue_of(rows, count), rows, Pace(checkpoint=1024), on_checkpoint=note, progress=shown)
    print(json.dumps({"from": begun, "to": last.done, "seconds": since(start), "memory_gb": memory()}), flush=True)


def shown(what: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r{what} {done}/{total}")


def stream(work: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--work", str(work), "--queue", str(count), "--child", "stream"]
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while child.poll() is None and DeletionStream(work / "stream").mark.done < count // 2:
        time.sleep(0.5)
    time.sleep(3)  # into the next stretch, between two checkpoints
    child.send_signal(signal.SIGKILL)
    child.wait()
    killed_at, killed_after = DeletionStream(work / "stream").mark.done, time.perf_counter() - started
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    resumed = json.loads(out.splitlines()[-1])
    rows = Powerlaw(**SHAPE).open().train.matrix()
    gone = queue_of(rows, count)
    rows.data[np.repeat(np.isin(np.arange(rows.shape[0]), gone), np.diff(rows.indptr))] = 0
    rows.eliminate_zeros()
    done = DeletionStream(work / "stream")
    gram, inverse = done.published()
    lines = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    return {
        "queue": count,
        "killed_with_9_at": killed_at,
        "killed_after_seconds": round(killed_after, 1),
        "resumed": resumed,
        "wall_seconds_in_all": round(time.perf_counter() - started, 1),
        "ms_per_user_after_resuming": round(1000 * resumed["seconds"]["wall"] / (resumed["to"] - resumed["from"]), 2),
        "log_lines": len(lines),
        "log_is_in_order_and_without_repeats": [x["done"] for x in lines] == sorted({x["done"] for x in lines}),
        "gram_equals_the_retained_users": same_gram(gram, rows, np.random.Generator(np.random.Philox(3))),
        "residual": probed(inverse, gram, LAM, 1),
        "mark": {"batches": done.mark.batches, "refreshes": done.mark.refreshes, "residual": done.mark.residual},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--queue", type=int, default=10_000)
    parser.add_argument("--only", choices=("growth", "single", "mapped", "stream"))
    parser.add_argument("--child", choices=("mapped", "stream"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        on_maps(options.work) if options.child == "mapped" else work_off(options.work, options.queue)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    parts = {
        "growth": growth,
        "single": lambda: single(options.work),
        "mapped": lambda: mapped(options.work),
        "stream": lambda: stream(options.work, options.queue),
    }
    record_parts(HERE / "ml20m.json", "python benchmarks/recommender/ml20m.py --work FOLDER", parts, options.only)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
