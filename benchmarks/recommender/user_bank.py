"""What a bank of users sees on ml-latest-small: how far members' own items stand out, and how little a level says alone.

    python benchmarks/recommender/user_bank.py --data FOLDER_OF_ml-latest-small [--pairs N] [--only ials|multvae|bpr|lightgcn]

First split of movielens.py, each family with the settings of seeds.py. Per user the gap I - O of the mean log-probability
of their own items, each fifth left out of the fold-in in turn, in SD of O over the pairs. `auc_of_levels`: of a model's own
users against those of the other half, by the bare level, mean over models: .5 = a level says nothing. `auc_of_contrasts`:
the same users, each by the level less the mean of the other models that did not see them. One thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from iterative import IALS, MULTVAE, SEED, Settings, adapter_of, named
from movielens import split
from recorded import record_parts
from scipy import stats
from seeds import BPR, LIGHTGCN

from expunge.core.codec import canonical, encode
from expunge.core.plan import Compute
from expunge.data._interactions import Interactions
from expunge.farm.bank import Bank, BankSpec
from expunge.farm.users import save_users
from expunge.stats.roc import auc

HERE = Path(__file__).parent
FAMILIES: dict[str, Settings] = {"ials": IALS[5], "multvae": MULTVAE[1], "bpr": BPR[2], "lightgcn": LIGHTGCN[7]}


def seen(data: str, pairs: int, family: str) -> dict[str, Any]:
    train, test, _ = split(data, 0)
    users = Interactions(source="movielens", note="", scale="half-stars", train=train, test=test)
    recipe = adapter_of(family, FAMILIES[family], len(train.items)).recipe
    spec = BankSpec(recipe=encode(recipe.model_dump()), data={"source": "file", "options": {}}, seed=SEED, pairs=pairs)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        save_users(folder, users)
        (folder / "slots.json").write_bytes(canonical({"ids": list(train.ids), "blocks": list(train.blocks)}))
        bank = Bank(spec, folder, train.blocks)
        results = bank.build("inline", Compute())
        sketches = bank.sketches()
    lengths = np.diff(train.indptr)
    return {
        "settings": named(FAMILIES[family]),
        "pairs": pairs,
        "users": len(train),
        "seconds_a_model": round(float(np.median([float(result["seconds"]) for result in results])), 2),
        **gaps(sketches.train.astype(np.float64), sketches.inside, lengths),
        **levels(sketches.train.astype(np.float64), sketches.inside),
    }


def gaps(scores: np.ndarray, inside: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """Quantiles of the gap by activity, and how many users are seen at 2.5 % one-sided (2.5 % would be by chance)."""
    first, second = scores[0::2], scores[1::2]
    saw = inside[0::2]
    out, into = np.where(saw, second, first), np.where(saw, first, second)
    gap = (into - out).mean(0) / out.std(0, ddof=1)
    p = stats.ttest_1samp(into - out, 0, alternative="greater").pvalue
    third = np.digitize(lengths, np.quantile(lengths, (1 / 3, 2 / 3)))
    rows = {}
    for number, name in enumerate(("low", "middle", "high")):
        mine = third == number
        quantiles = [round(float(q), 2) for q in np.quantile(gap[mine], (0.1, 0.5, 0.9))]
        rows[f"activity {name}"] = {"gap_10_50_90": quantiles, "seen": round(float((p[mine] < 0.025).mean()), 3)}
    return {"by_activity": rows}


def levels(scores: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """AUC of the bare level, and of the level less what the other models that did not see the user say."""
    bare, less = [], []
    for number in range(len(scores)):
        others = np.arange(len(scores)) != number
        out = np.where(inside[others], np.nan, scores[others])
        contrast = scores[number] - np.nanmean(out, axis=0)
        mine = inside[number]
        bare.append(auc(scores[number][mine], scores[number][~mine]).estimate)
        less.append(auc(contrast[mine], contrast[~mine]).estimate)
    return {"auc_of_levels": round(float(np.mean(bare)), 3), "auc_of_contrasts": round(float(np.mean(less)), 3)}


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--data", required=True)
    asked.add_argument("--pairs", type=int, default=16)
    asked.add_argument("--only", choices=tuple(FAMILIES))
    given = asked.parse_args()
    command = f"python benchmarks/recommender/user_bank.py --data FOLDER --pairs {given.pairs}"
    parts = {family: (lambda family=family: seen(given.data, given.pairs, family)) for family in FAMILIES}
    record_parts(HERE / "user_bank.json", command, parts, given.only)


if __name__ == "__main__":
    main()
