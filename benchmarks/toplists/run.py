"""How many top lists a user's deletion changes, and how many of them have to be ranked anew.

    python benchmarks/toplists/run.py --data FOLDER_OF_MOVIELENS [--out result.json]

For users at five places in the order of activity, on every family that keeps top lists. Counts are exact and the same
on every machine; seconds are of one run and belong beside the rebuild of the same run. Each repair is held to that
rebuild, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from expunge.core import registry
from expunge.data.movielens import Movielens
from expunge.training.closed_form.pairs import PairModel
from expunge.training.recipe import parse_any_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

HERE = Path(__file__).parent
FAMILIES = (
    ("itemknn", {"similarity": "cosine", "shrink": 10}),
    ("itemknn", {"similarity": "cosine", "shrink": 0}),
    ("itemknn", {"similarity": "jaccard", "shrink": 10}),
    ("covisitation", {"normalisation": "conditional"}),
    ("covisitation", {"normalisation": "lift"}),
)
PLACES = {"10 %": 0.1, "median, lower": 0.5, "median, upper": 0.5, "90 %": 0.9, "largest": 1.0}


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return round(time.perf_counter() - start, 3), found


def users(sizes: np.ndarray) -> dict[str, int]:
    """Place -> slot; of users who have as many events, the first."""
    order = np.argsort(sizes, kind="stable")
    rank = {name: share * (len(sizes) - 1) for name, share in PLACES.items()}
    return {n: int(order[int(np.ceil(r) if n.endswith("upper") else np.floor(r))]) for n, r in rank.items()}


def deletion(adapter: Any, model: PairModel, row: sparse.csr_matrix) -> dict[str, Any]:
    """Take one user out, and compare with a rebuild."""
    lists, none = model.lists, sparse.csr_matrix(row.shape, dtype=row.dtype)
    touched = int((model.sums["pairs"][:, row.indices] > 0).any(axis=1).sum())
    old, ranked, repaired = (lists.columns.copy(), lists.values.copy()), lists.ranked, lists.repaired
    erased, _ = seconds(lambda: adapter.erase(model, row, none))
    settled, _ = seconds(lists.settle)
    rebuilt, again = seconds(lambda: adapter.derived(row, model.sums))
    if not (np.array_equal(again.columns, lists.columns) and np.array_equal(again.values, lists.values)):
        raise SystemExit("repaired lists are not those of a rebuild")
    members = (old[0] != lists.columns).any(axis=1)
    found = {
        "events": len(row.indices),
        "lists_with_a_value_that_can_change": touched,
        "lists_that_changed": int((members | (old[1] != lists.values).any(axis=1)).sum()),
        "of_which_in_members_or_order": int(members.sum()),
        "ranked_anew": lists.ranked - ranked,
        "repaired": lists.repaired - repaired,
        "seconds": {"erase_and_repair": erased, "rank_anew": settled, "rebuild_of_lists": rebuilt},
    }
    adapter.erase(model, none, row)  # back in: the next user is taken from the same model
    lists.settle()
    return found


def family(name: str, settings: dict[str, Any], data: Any) -> dict[str, Any]:
    plain = {"name": name, "solver": "closed-form", "family": name, "model": settings}
    adapter = registry.load("recommenders", name)(parse_any_recipe(plain), items=len(data.items))
    rows = adapter.matrix(data.train)
    counted, sums = seconds(lambda: adapter.sums_of(rows))
    model = PairModel(sums=sums, lists=adapter.derived(rows, sums))
    deleted = {p: deletion(adapter, model, rows[[slot]]) for p, slot in users(np.diff(data.train.indptr)).items()}
    return {"family": name, "settings": adapter.settings, "seconds_to_count": counted, "deletions": deleted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    data = Movielens(path=options.data, kind="binary").open()
    size = {"users": len(data.train), "items": len(data.items), "events": data.train.events}
    result = {"data": data.note, **size, "families": [family(name, dict(s), data) for name, s in FAMILIES]}
    result["hardware"] = hardware()
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for found in result["families"]:
        print(found["family"], found["settings"])
        for place, row in found["deletions"].items():
            print(f"  {place}: {row}")


if __name__ == "__main__":
    main()
