"""Ten thousand users in one case at the shape of ML-20M, on the command line: request, kill -9 midway, certificate.

    python benchmarks/recommender/queue_case.py --work EMPTY_FOLDER [--users N --items N --events N --queue 10000]

Synthetic events (`powerlaw`), EASE. Every step is a process of its own; peak memory is that of the largest so far. The run
is killed when half of the queue is durable, three seconds into the next stretch, and then run again. FOLDER needs 30 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from recorded import record_parts

from expunge import Workspace
from expunge.training.closed_form.queued import PREFIX

HERE = Path(__file__).parent
EXPUNGE = Path(sys.executable).with_name("expunge")


def step(*words: str) -> tuple[dict[str, Any], dict[str, float]]:
    """One verb: its result, and what it took."""
    start = time.perf_counter()
    done = subprocess.run([str(EXPUNGE), *words, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    took = {
        "wall": round(time.perf_counter() - start, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, 2),
        "exit": done.returncode,
    }
    print(" ".join(words), took, flush=True)
    return json.loads(done.stdout or "{}"), took


def prepared(work: Path, shape: dict[str, int]) -> dict[str, Any]:
    """A trained workspace whose verifier was tried."""
    options = [word for name, value in shape.items() for word in ("--option", f"{name}={value}")]
    found: dict[str, Any] = {"shape": shape}
    if not (work / "w" / "expunge.toml").exists():
        source = ("--source", "powerlaw", "--recipe", "ease")
        found["init"] = step("init", str(work / "w"), *source, *options)[1]
        found["train"] = step("train", "-w", str(work / "w"))[1]
        said, took = step("selftest", str(work / "w"), "--quick")
        found["selftest"] = {**took, "sentence": said.get("sentence", "")}
    return found


def listed(work: Path, count: int) -> Path:
    """A keyed draw of users with events, whose history nobody else has: of two who have the same, one alone is held."""
    with Workspace.open(work / "w") as workspace:
        train = workspace.data.train
        histories = [train.indices[start:end].tobytes() for start, end in pairwise(train.indptr)]
        times = Counter(histories)
        alone = [slot for slot, history in enumerate(histories) if history and times[history] == 1]
        order = np.random.Generator(np.random.Philox(7)).permutation(alone)[:count]
        path = work / "queue.txt"
        path.write_text("".join(f"{workspace.book.ids[slot]}\n" for slot in order.tolist()))
    return path


def killed(work: Path, count: int, root: tuple[str, ...]) -> dict[str, Any]:
    """Run, and kill with -9 when half is durable."""
    start = time.perf_counter()
    command = [str(EXPUNGE), "run", *root]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and done(work) < count // 2:
        time.sleep(0.5)
    time.sleep(3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    return {"after_seconds": round(time.perf_counter() - start, 1), "durable": done(work), "exit": child.returncode}


def done(work: Path) -> int:
    """Deletions that are durable."""
    marks = list((work / "w" / "store" / "runs").glob(f"*/{PREFIX}*/manifest.json"))
    return int(json.loads(marks[0].read_bytes())["done"]) if marks else 0


def case(work: Path, shape: dict[str, int], count: int) -> dict[str, Any]:
    found = prepared(work, shape)
    queue = listed(work, count)
    root = ("-w", str(work / "w"))
    found["queue"] = count
    said, found["request"] = step("request", *root, "--ids-from", str(queue))
    root = (*root, "--case", said["case"])
    found["killed"] = killed(work, count, root)
    said, took = step("run", *root)
    outcome = said.get("outcome", said)
    trials = outcome.get("trials") or [{}]
    found["run_again"] = {
        **took,
        "guarantee": outcome.get("guarantee"),
        "method_seconds": trials[-1].get("seconds"),
        "verdicts": {each["check"]: each["verdict"] for each in trials[-1].get("findings", ())},
    }
    bundle = (outcome.get("certificate") or {}).get("path")
    if bundle:
        found["verify"] = step("verify", bundle, "--roots", str(work / "w" / "roots.json"))[1]
    found["left_of_the_queue"] = len(list((work / "w" / "store" / "runs").glob(f"*/{PREFIX}*")))
    with Workspace.open(work / "w") as workspace:
        kinds = [entry.kind for entry in workspace.log.entries()]
        found["log"] = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--users", type=int, default=136_677)
    parser.add_argument("--items", type=int, default=20_108)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--queue", type=int, default=10_000)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    shape = {
        "users": options.users,
        "items": options.items,
        "events": options.events,
        "test_users": options.users // 68,
    }
    command = "python benchmarks/recommender/queue_case.py --work FOLDER"
    whole = {f"{options.users}x{options.items}": lambda: case(options.work, shape, options.queue)}
    record_parts(HERE / "queue_case.json", command, whole, None)


if __name__ == "__main__":
    main()
