"""What another seed changes in trained recommenders, beside a deletion; quality of BPR and LightGCN. ml-latest-small.

    python benchmarks/recommender/seeds.py --data FOLDER_OF_ml-latest-small [--only seeds|bpr|lightgcn]

`seeds`: the first split of movielens.py; share of the top 20 that test users keep when a user of median activity is
deleted and the training is repeated from the same seed, and when nobody is deleted and the seed is another. If the
second is smaller, comparing lists says nothing of a deletion unless the seed is the same. `bpr`, `lightgcn`: settings
swept on a quarter of each split's training users, then asked about test users, once. `lightgcn` also in five slices, a
user of median activity replayed against a retraining, by digest. One thread.
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
from iterative import IALS, LOOP, MULTVAE, SEED, Settings, adapter_of, asked, chosen, fitted, job_of, named, sliced
from movielens import parts, split
from recorded import record_parts
from threadpoolctl import threadpool_limits

from expunge.data._interactions import Histories
from expunge.stats.ranking import overlap, top_k

HERE = Path(__file__).parent
SPLITS = 3
BPR: list[Settings] = [
    {**LOOP, "lr": lr, "epochs": epochs, "weight_decay": decay, "model": {"factors": 64, "pairs": 64}}
    for lr in (1.0, 4.0)
    for epochs in (60, 200)
    for decay in (0.0, 1e-4)
]
LIGHTGCN: list[Settings] = [
    {**LOOP, "lr": lr, "epochs": epochs, "model": {"factors": 64, "pairs": 64, "layers": layers}}
    for layers in (1, 2, 3)
    for lr in (40.0, 100.0)
    for epochs in (60, 200)
]


def seeds(data: str) -> dict[str, Any]:
    train, test, _ = split(data, 0)  # type: ignore[misc]
    rows, seen, _ = parts(test, "test-0")
    lengths = np.diff(train.indptr)
    gone = frozenset({median(train)})
    found: dict[str, Any] = {"user_events": int(lengths[next(iter(gone))]), "test_users": len(test)}
    families = (("ials", IALS[5]), ("multvae", MULTVAE[1]), ("bpr", BPR[2]), ("lightgcn", LIGHTGCN[7]))
    for family, settings in families:
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


def median(train: Histories) -> int:
    """A user of median activity."""
    return int(np.argsort(np.diff(train.indptr), kind="stable")[len(train) // 2])


def quality(data: str, family: str, grid: list[Settings]) -> dict[str, Any]:
    found = []
    for number in range(SPLITS):
        train, test, (inner, tuned) = split(data, number)  # type: ignore[misc]
        best, sweep = chosen(family, grid, inner, parts(tuned, f"tune-{number}"))
        got = fitted(family, best, train, *parts(test, f"test-{number}"))
        found.append({"sweep": sweep, "chosen": named(best), **got})
        print(number, family, named(best), got, flush=True)
    values = {name: [one[name] for one in found] for name in ("ndcg@100", "recall@20")}
    summary = {
        name: {"mean": round(float(np.mean(v)), 4), "sd": round(float(np.std(v, ddof=1)), 4)}
        for name, v in values.items()
    }
    return {"n": SPLITS, "summary": summary, "splits": found}


def lightgcn(data: str) -> dict[str, Any]:
    train = split(data, 0)[0]
    with tempfile.TemporaryDirectory() as folder:
        deletion = sliced(train, LIGHTGCN[7], median(train), Path(folder), "lightgcn")
    return {**quality(data, "lightgcn", LIGHTGCN), "deletion": {"settings": named(LIGHTGCN[7]), **deletion}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--only", choices=("seeds", "bpr", "lightgcn"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        record_parts(
            HERE / "seeds.json",
            "python benchmarks/recommender/seeds.py --data FOLDER",
            {
                "seeds": lambda: seeds(options.data),
                "bpr": lambda: quality(options.data, "bpr", BPR),
                "lightgcn": lambda: lightgcn(options.data),
            },
            options.only,
        )


if __name__ == "__main__":
    main()
