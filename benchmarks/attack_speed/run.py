"""CPU seconds and memory of the attacks' scoring, beside other tools' functions on the same arrays.

    python benchmarks/attack_speed/run.py [--peers FOLDER_OF_CLONES] [--cache FOLDER] [--out result.json]

Each case runs in a process of its own, on one thread: arrays are loaded, the peak is reset, the work is done. `extra_mb`
is the peak resident size during the first call less the size before it; pages of a memory map count there, so for the
large case `anonymous_mb`, the peak of memory that is not a file's, stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SMALL = ("target", "reference", "member", "target_population", "reference_population")
ROUNDS = {"ours": 7, "many": 3, "peer": 1}


def ours(name: str, folder: Path, _: Path) -> Callable[[], Any]:
    import numpy as np

    from expunge.core import registry
    from expunge.core.protocols import AttackJob

    attack = registry.load("attacks", name)()
    job = AttackJob(**{field: np.load(folder / f"{field}.npy") for field in SMALL})
    return lambda: attack.score(job).values[0]


def ours_from_logits(name: str, folder: Path, _: Path) -> Callable[[], Any]:
    """Log-softmax of 17 models' ten logits included."""
    import numpy as np
    from arrays import true_class

    from expunge.core import registry
    from expunge.core.protocols import AttackJob

    attack = registry.load("attacks", name)()
    given = {field: np.load(folder / f"{field}.npy") for field in SMALL[2:]}
    logits = np.load(folder / "logits.npy")

    def work() -> Any:
        log_p = np.concatenate([true_class(model[None]) for model in logits])
        return attack.score(AttackJob(target=log_p[-1:], reference=log_p[:-1], **given)).values[0]

    return work


def many(name: str, folder: Path, _: Path) -> Callable[[], Any]:
    """1,000,000 records by 64 models in memory maps."""
    import numpy as np

    from expunge.core import registry
    from expunge.core.protocols import AttackJob

    attack = registry.load("attacks", name)()
    population = np.load(folder / "many_population.npy")
    job = AttackJob(
        target=np.load(folder / "many_target.npy", mmap_mode="r"),
        reference=np.load(folder / "many_reference.npy", mmap_mode="r"),
        member=np.load(folder / "many_member.npy", mmap_mode="r"),
        target_population=population[-1:],
        reference_population=population[:-1],
    )
    return lambda: attack.score(job).values[0]


def peer(name: str, folder: Path, peers: Path) -> Callable[[], Any]:
    import numpy as np
    import peers as others

    arrays = {field: np.load(folder / f"{field}.npy") for field in (*SMALL, "trained")}
    if name == "leakpro_rmia":
        arrays["logits"] = np.load(folder / "logits.npy")
    if name.startswith("privacy_meter"):
        return others.privacy_meter(peers, arrays, unbiased=name.endswith("unbiased"))
    work: Callable[[], Any] = getattr(others, name)(peers, arrays)
    return work


KINDS = {"ours": ours, "logits": ours_from_logits, "many": many, "peer": peer}
SCORES = ("rmia", "lira", "lira_own", "lira_offline", "lira_t", "bavaria", "iam", "quantile")
CASES = [
    *(f"ours:{name}" for name in SCORES),
    "logits:lira",
    "peer:privacy_meter_as_it_is",
    "peer:privacy_meter_unbiased",
    "peer:leakpro_rmia",
    "peer:leakpro_lira",
    "peer:tf_privacy_lira",
    "peer:google_lira",
    *(f"many:{name}" for name in SCORES),
]


def child(case: str, folder: Path, peers: Path, scores: Path) -> dict[str, Any]:
    """One case, measured in this process."""
    import numpy as np
    from peers import Unavailable

    kind, name = case.split(":")
    try:
        work = KINDS[kind](name, folder, peers)
    except Unavailable as error:
        return {"case": case, "unavailable": str(error)}
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    with _Anonymous() as anonymous:
        values = np.asarray(work())
    extra, rounds = _status("VmHWM") - before, ROUNDS.get(kind, ROUNDS["ours"])
    np.save(scores, values)
    cpu, wall = [], []
    for _ in range(rounds):
        begun, clock = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - begun)
        wall.append(time.perf_counter() - clock)
    trained = np.load(folder / ("many_trained.npy" if kind == "many" else "trained.npy"))
    return {
        "case": case,
        "cpu_s": {"median": _short(statistics.median(cpu)), "least": _short(min(cpu)), "most": _short(max(cpu))},
        "wall_s": _short(statistics.median(wall)),
        "rounds": rounds,
        "extra_mb": _short(extra),
        "anonymous_mb": _short(anonymous.peak),
        "auc": round(_auc(values, trained), 4),
    }


class _Anonymous:
    """Peak growth of memory that belongs to no file, sampled every 2 ms."""

    def __enter__(self) -> _Anonymous:
        self.start, self.peak, self.stop = _status("RssAnon"), 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.002):
            self.peak = max(self.peak, _status("RssAnon") - self.start)

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def _status(field: str) -> float:
    """MB from /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def _auc(values: Any, trained: Any) -> float:
    from scipy.stats import rankdata

    ranks, inside = rankdata(values), int(trained.sum())
    return float((ranks[trained].sum() - inside * (inside + 1) / 2) / (inside * (trained.size - inside)))


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def compare(scores: dict[str, Path]) -> dict[str, Any]:
    """Largest difference of our scores from each peer's, where the peer ran."""
    import numpy as np

    found: dict[str, Any] = {}
    for mine, theirs in [
        ("ours:rmia", "peer:privacy_meter_unbiased"),
        ("ours:rmia", "peer:privacy_meter_as_it_is"),
        ("ours:rmia", "peer:leakpro_rmia"),
        ("ours:lira", "peer:leakpro_lira"),
        ("ours:lira", "peer:tf_privacy_lira"),
        ("ours:lira", "peer:google_lira"),
    ]:
        if scores[mine].exists() and scores[theirs].exists():
            one, other = np.load(scores[mine]), np.load(scores[theirs])
            found[f"{mine} - {theirs}"] = {
                "largest": float(np.abs(one - other).max()),
                "mean": float((other - one).mean()),
                "rank_correlation": round(
                    float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1]), 6
                ),
            }
    return found


def parent(options: argparse.Namespace) -> dict[str, Any]:
    from arrays import make
    from hardware import hardware
    from peers import CLONES

    folder = options.cache / "arrays"
    make(folder)
    rows, scores = [], {case: options.cache / f"{case.replace(':', '-')}.npy" for case in CASES}
    for case in CASES:
        scores[case].unlink(missing_ok=True)
        command = [
            sys.executable,
            __file__,
            "--one",
            case,
            "--cache",
            str(options.cache),
            "--peers",
            str(options.peers),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
        last = done.stderr.strip().splitlines()[-1:]
        row = json.loads(done.stdout) if done.returncode == 0 else {"case": case, "unavailable": "".join(last)}
        print(json.dumps(row), flush=True)
        rows.append(row)
    return {
        "command": "python benchmarks/attack_speed/run.py --peers FOLDER_OF_CLONES",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "arrays": "50,000 records x 16 references x 10,000 population, 1 target; `many`: 1,000,000 x 64 float32",
        "peers": {tool: commit for tool, (_, commit) in CLONES.items()},
        "rows": rows,
        "differences": compare(scores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="folder with clones of the other tools")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "attack_speed")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    parser.add_argument("--one", choices=CASES)
    options = parser.parse_args()
    if options.one:
        scores = options.cache / f"{options.one.replace(':', '-')}.npy"
        print(json.dumps(child(options.one, options.cache / "arrays", options.peers, scores)))
        return
    result = parent(options)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
