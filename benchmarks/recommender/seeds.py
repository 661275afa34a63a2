"""What another seed changes in trained recommenders, beside what a deletion changes; and BPR's quality. ml-latest-small.

    python benchmarks/recommender/seeds.py --data FOLDER_OF_ml-latest-small [--only seeds|bpr]

`seeds`: the first split of movielens.py; share of the top 20 that test users keep when a user of median activity is
deleted and the training is repeated from the same seed, and when nobody is deleted and the seed is another. If the
second is smaller, comparing lists says nothing of a deletion unless the seed is the same. `bpr`: settings swept on a
quarter of each split's training users, then asked about test users, once. One thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch
from iterative import IALS, LOOP, MULTVAE, SEED, Settings, adapter_of, asked, chosen, fitted, job_of, named
from movielens import parts, split
from recorded import record_parts
from threadpoolctl import threadpool_limits

from expunge.stats.ranking import overlap, top_k

HERE = Path(__file__).parent
SPLITS = 3
BPR: list[Settings] = [
    {**LOOP, "lr": lr, "epochs": epochs, "weight_decay": decay, "model": {"factors": 64, "pairs": 64}}
    for lr in (1.0, 4.0)
    for epochs in (60, 200)
    for decay in (0.0, 1e-4)
]


def seeds(data: str) -> dict[str, Any]:
    train, test, _ = split(data, 0)  # type: ignore[misc]
    rows, seen, _ = parts(test, "test-0")
    lengths = np.diff(train.indptr)
    gone = frozenset({int(np.argsort(lengths, kind="stable")[len(lengths) // 2])})
    found: dict[str, Any] = {"user_events": int(lengths[next(iter(gone))]), "test_users": len(test)}
    for family, settings in (("ials", IALS[5]), ("multvae", MULTVAE[1]), ("bpr", BPR[2])):
        lists = {}
        for name, changes in (("original", {}), ("without", {"absent": gone}), ("other seed", {"seed": SEED[::-1]})):
            adapter = adapter_of(family, settings, len(train.items))
            with tempfile.TemporaryDirectory() as folder:
                result = adapter.fit(job_of(adapter, train, Path(folder) / "run", **changes))
                lists[name] = top_k(asked(adapter, result, rows), seen, 20)
        shared = {name: overlap(lists["original"], lists[name], len(train.items)) for name in ("without", "other seed")}
        found[family] = {
            "settings": named(settings),
            "kept_of_top_20": {name: round(both.mean_shared, 4) for name, both in shared.items()},
        }
    return found


def bpr(data: str) -> dict[str, Any]:
    found = []
    for number in range(SPLITS):
        train, test, (inner, tuned) = split(data, number)  # type: ignore[misc]
        best, sweep = chosen("bpr", BPR, inner, parts(tuned, f"tune-{number}"))
        got = fitted("bpr", best, train, *parts(test, f"test-{number}"))
        found.append({"sweep": sweep, "chosen": named(best), **got})
    values = {name: [one[name] for one in found] for name in ("ndcg@100", "recall@20")}
    summary = {
        name: {"mean": round(float(np.mean(v)), 4), "sd": round(float(np.std(v, ddof=1)), 4)}
        for name, v in values.items()
    }
    return {"n": SPLITS, "summary": summary, "splits": found}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--only", choices=("seeds", "bpr"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        record_parts(
            HERE / "seeds.json",
            "python benchmarks/recommender/seeds.py --data FOLDER",
            {"seeds": lambda: seeds(options.data), "bpr": lambda: bpr(options.data)},
            options.only,
        )


if __name__ == "__main__":
    main()
