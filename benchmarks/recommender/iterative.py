"""iALS and MultVAE on ml-latest-small: quality beside EASE, seconds of a retraining, and what a warm start leaves behind.

    python benchmarks/recommender/iterative.py --data FOLDER_OF_ml-latest-small [--splits 5]

Splits, films (10 ratings and more) and 150 test users are those of movielens.py. Every split has its own sweep: settings
are tried on a quarter of its training users, fitted to the other three, and the best NDCG@100 there is what is fitted
to all training users and asked about test users, once. EASE is at lambda 200 throughout, which nobody chose here.
`warm_start`: a training user of median activity, and the most active one, are deleted from the chosen iALS; residual ratio
of scores for all test users after 1, 2, 5 and 15 further sweeps (1 = as if nothing had been done, 0 = retrained).
`deletion`: that a retraining does not depend on what is left in the absent row, and seconds of retraining; MultVAE in five
slices, replayed from its last checkpoint without the median user, against a retraining, by digest.
One thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch
from hardware import hardware
from movielens import LAM, parts, split, tally, trained
from threadpoolctl import threadpool_limits

from expunge.core import registry
from expunge.core.protocols import FitJob, FitResult
from expunge.data._interactions import Histories, Interactions
from expunge.stats.ranking_quality import RankingTally
from expunge.stats.residual import residual_ratio
from expunge.testing.users import user_leaves
from expunge.training.loop import numerics_of
from expunge.training.recipe import parse_any_recipe

HERE = Path(__file__).parent
SEED = "5eed" * 8
Settings = dict[str, Any]
IALS: list[Settings] = [
    {"solver": "als", "model": {"factors": f, "alpha": a, "regularization": r}}
    for f, (a, r) in product((32, 64, 128), ((1, 1), (1, 10), (5, 10), (5, 30)))
]
LOOP = {"batch": 50, "lr": 1.0, "warmup": 0.1, "final_lr": 0.1, "weight_decay": 0.0, "threads": 1}
MULTVAE: list[Settings] = [
    {**LOOP, "epochs": e, "model": {"hidden": h, "latent": n, "beta": str(b)}}
    for (h, n), e, b in product(((200, 64), (400, 128)), (60, 120), (0.2, 1, 3))
]
SLICES = (0.0, 0.2, 0.4, 0.6, 0.8)


def adapter_of(family: str, settings: Settings, items: int) -> Any:
    recipe = parse_any_recipe({"name": "benchmark", "family": family, **settings})
    return registry.load("recommenders", family)(recipe, items=items)


def job_of(adapter: Any, train: Histories, folder: Path, **changes: Any) -> FitJob:
    data = Interactions(source="movielens", note="", scale="implicit", train=train, test=train)
    recipe = adapter.recipe
    plain = FitJob(recipe=recipe.model_dump(), seed=SEED, numerics=numerics_of(recipe, 1), data=data, folder=folder)
    return replace(plain, **{"keep_checkpoints": False, **changes})


def asked(adapter: Any, result: FitResult, rows: Any) -> np.ndarray:
    return np.asarray(adapter.outputs(adapter.load(result.model), rows))


def measured(scores: np.ndarray, seen: Any, held: Any) -> dict[str, float]:
    found = RankingTally(seen, held, (20, 100))
    found.add(np.arange(len(seen)), scores)
    return {"ndcg@100": found.ndcg(100).mean, "recall@20": found.recall(20).mean}


def fitted(family: str, settings: Settings, train: Histories, rows: Any, seen: Any, held: Any) -> dict[str, Any]:
    adapter = adapter_of(family, settings, len(train.items))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter(), time.process_time()
        result = adapter.fit(job_of(adapter, train, Path(folder) / "run"))
        spent = {"fit_seconds": time.perf_counter() - start[0], "fit_cpu_seconds": time.process_time() - start[1]}
        quality = measured(asked(adapter, result, rows), seen, held)
        return {**quality, **{name: round(seconds, 2) for name, seconds in spent.items()}}


def named(settings: Settings) -> str:
    plain = {**settings["model"], **{k: settings[k] for k in ("epochs",) if k in settings}}
    plain |= {k: settings[k] for k in ("lr", "weight_decay") if settings.get(k, LOOP[k]) != LOOP[k]}
    return " ".join(f"{name}={value}" for name, value in plain.items())


def chosen(family: str, grid: list[Settings], inner: Histories, tuning: Any) -> tuple[Settings, dict[str, float]]:
    sweep = {}
    for settings in grid:
        sweep[named(settings)] = round(fitted(family, settings, inner, *tuning)["ndcg@100"], 4)
    best = max(grid, key=lambda settings: sweep[named(settings)])
    return best, sweep


def one_split(data: str, number: int) -> tuple[dict[str, Any], Settings, Settings]:
    train, test, (inner, tuned) = split(data, number)  # type: ignore[misc]
    tuning, testing = parts(tuned, f"tune-{number}"), parts(test, f"test-{number}")
    ease = tally(trained(train, LAM), *testing)
    found: dict[str, Any] = {"ease": {"ndcg@100": ease.ndcg(100).mean, "recall@20": ease.recall(20).mean}}
    best = {}
    for family, grid in (("ials", IALS), ("multvae", MULTVAE)):
        best[family], sweep = chosen(family, grid, inner, tuning)
        got = fitted(family, best[family], train, *testing)
        found[family] = {"sweep": sweep, "chosen": named(best[family]), **got}
        print(number, family, named(best[family]), got, flush=True)
    found["warm_start"] = warm_start(train, testing[0], best["ials"])
    print(number, "ease", found["ease"], found["warm_start"], flush=True)
    return found, best["ials"], best["multvae"]


def warm_start(train: Histories, rows: Any, settings: Settings) -> dict[str, Any]:
    order = np.argsort(np.diff(train.indptr), kind="stable")
    users = {"median user": int(order[len(order) // 2]), "most active user": int(order[-1])}
    return {name: warmed(train, rows, settings, user) for name, user in users.items()}


def warmed(train: Histories, rows: Any, settings: Settings, user: int) -> dict[str, Any]:
    adapter, gone = adapter_of("ials", settings, len(train.items)), frozenset({user})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        job = job_of(adapter, train, root / "original")
        before = asked(adapter, adapter.fit(job), rows)
        again = adapter.fit(replace(job, folder=root / "retrained", absent=gone))
        ideal, ratios = asked(adapter, again, rows), {}
        for sweeps in (1, 2, 5, 15):
            target = replace(job, folder=root / f"warm-{sweeps}", absent=gone)
            candidate = adapter.warm(target, root / "original", gone, sweeps)
            ratios[str(sweeps)] = round(residual_ratio(asked(adapter, candidate, rows), before, ideal), 3)
    return {"events": int(np.diff(train.indptr)[user]), "residual_ratio_after_sweeps": ratios}


def deletion(data: str, ials: Settings, multvae: Settings) -> dict[str, Any]:
    """By digest, on the first split: the median user."""
    train = split(data, 0)[0]
    order = np.argsort(np.diff(train.indptr), kind="stable")
    user = int(order[len(order) // 2])
    with tempfile.TemporaryDirectory() as folder:
        return {
            "ials": alternating(train, ials, user, Path(folder)),
            "multvae": sliced(train, multvae, user, Path(folder)),
        }


def alternating(train: Histories, settings: Settings, user: int, root: Path) -> dict[str, Any]:
    adapter = adapter_of("ials", settings, len(train.items))
    runs = {}
    for label, histories, absent in (
        ("original", train, ()),
        ("absent", train, (user,)),
        ("gone", train.without([user]), ()),
    ):
        job = job_of(adapter, histories, root / f"ials-{label}", absent=frozenset(absent))
        start = time.perf_counter()
        runs[label] = adapter.fit(job).digest, round(time.perf_counter() - start, 2)
    return {
        "retrain_seconds": runs["absent"][1],
        "absent_row_and_emptied_row_give_one_digest": runs["absent"][0] == runs["gone"][0],
        "original_has_another": runs["original"][0] != runs["absent"][0],
    }


def sliced(train: Histories, settings: Settings, user: int, root: Path, family: str = "multvae") -> dict[str, Any]:
    adapter = adapter_of(family, {**settings, "introduce": SLICES}, len(train.items))
    job = job_of(adapter, train, root / "original", leaves=user_leaves(train), keep_checkpoints=True)
    original, gone = adapter.fit(job), frozenset({user})
    seconds, cpu, digests = {}, {}, {}
    for name, work in (("retrain", adapter.fit), ("replay", lambda j: adapter.replay(j, root / "original", gone))):
        start = time.perf_counter(), time.process_time()
        digests[name] = work(replace(job, folder=root / name, absent=gone)).digest
        seconds[name], cpu[name] = round(time.perf_counter() - start[0], 2), round(time.process_time() - start[1], 2)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "steps_replayed": f"{adapter.replay_steps(job, gone)} of {adapter.total_steps(job)}",
        "replay_is_the_retraining_by_digest": digests["replay"] == digests["retrain"] != original.digest,
    }


def summary(splits: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for family, name in product(("ease", "ials", "multvae"), ("ndcg@100", "recall@20")):
        values = [row[family][name] for row in splits]
        spread = {"mean": round(float(np.mean(values)), 4), "sd": round(float(np.std(values, ddof=1)), 4)}
        found.setdefault(family, {})[name] = {**spread, "n": len(values)}
    for user in ("median user", "most active user"):
        ratios = [row["warm_start"][user]["residual_ratio_after_sweeps"] for row in splits]
        found[f"residual ratio, {user}"] = {
            sweeps: {
                "mean": round(float(np.mean([r[sweeps] for r in ratios])), 3),
                "range": sorted(r[sweeps] for r in ratios)[:: len(ratios) - 1],
            }
            for sweeps in ratios[0]
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        record(options.data, options.splits)


def record(data: str, count: int) -> None:
    start = time.perf_counter()
    found = [one_split(data, number) for number in range(count)]
    splits = [row for row, _, _ in found]
    result = {
        "command": f"python benchmarks/recommender/iterative.py --data FOLDER --splits {count}",
        "n": {"splits": count, "training_users": 460, "test_users": 150},
        "summary": summary(splits),
        "deletion": deletion(data, *found[0][1:]),
        "splits": splits,
        "seconds": round(time.perf_counter() - start, 1),
        "hardware": hardware(),
    }
    (HERE / "iterative.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({"summary": result["summary"], "deletion": result["deletion"]}, indent=1))


if __name__ == "__main__":
    main()
