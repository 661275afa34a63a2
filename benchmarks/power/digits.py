"""User blocks on real digits: 60 users of 10 images in a bank of 96 half-size models, fresh honest retrains of six users.

Two recipes: the embedded one, and one that memorises more (160 epochs).

The X arm is a retraining of every member without the images of the six users it held: an honest OUT draw, made by
`methods.retrain` through the farm. Everything is content-addressed in the folder; a killed run continues.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core import registry
from expunge.core.codec import canonical, encode
from expunge.core.plan import Compute
from expunge.core.protocols import Arms, AttackJob, Task
from expunge.farm.bank import Bank, BankSpec
from expunge.farm.opened import open_data
from expunge.farm.probing import ProbePlan
from expunge.stats.block import pair_scores
from expunge.stats.intervals import clopper_pearson
from expunge.stats.power import Design, measured, needed_pairs
from expunge.stats.rank import ranked_p_values
from expunge.stats.roc import auc, tpr_at_fpr
from expunge.stats.signal import Planning, read_signal, signal_correlation
from expunge.stats.threearm import PairArms, Rule
from expunge.stats.verdict import Further, judge
from expunge.training.recipe import load_recipe, parse_recipe

USERS, IMAGES, PAIRS = 60, 10, 48
LONG = {"epochs": 160, "lr": 0.1, "introduce": [0.0]}
VARIANTS = {
    "digits": ({}, 6),
    "digits, 160 epochs": (LONG, 0),
}  # changes of the recipe; users that are retrained without
SIGNALS = ("lira", "rmia")
SEED = "power-digits"
DATA = {"source": "digits", "options": {"canaries": 0}}


def users() -> tuple[Any, tuple[str, ...], dict[str, list[int]]]:
    """The data, block names by slot, and the slots of each user: 10 images drawn at random."""
    data = open_data(DATA)
    count = len(data.train.ids)
    order = np.random.default_rng(0).permutation(count)
    blocks = [f"single-{slot:04d}" for slot in range(count)]
    held: dict[str, list[int]] = {}
    for number in range(USERS):
        name = f"user-{number:02d}"
        held[name] = sorted(int(slot) for slot in order[number * IMAGES : (number + 1) * IMAGES])
        for slot in held[name]:
            blocks[slot] = name
    return data, tuple(blocks), held


def build(
    folder: Path, changes: dict[str, Any], retrained: int
) -> tuple[Bank, dict[str, list[int]], list[dict[str, Any]]]:
    """The bank and, for every member, the answers of its retraining without the first `retrained` users."""
    folder.mkdir(parents=True, exist_ok=True)
    data, blocks, held = users()
    (folder / "slots.json").write_bytes(canonical({"ids": list(data.train.ids), "blocks": list(blocks)}))
    recipe = encode(parse_recipe({**load_recipe("digits").model_dump(), **changes}).model_dump())
    bank = Bank(BankSpec(recipe=recipe, data=DATA, seed=SEED, pairs=PAIRS), folder, blocks)
    bank.build("process", Compute(processes=2))
    if not retrained:
        return bank, held, []
    gone = sorted(slot for name in list(held)[:retrained] for slot in held[name])
    plan = ProbePlan(probes=(), block=tuple(gone), neighbours=(), retained=(), population=(), seed=0)
    common = {"bank": bank.spec, "method": "retrain", "seed": SEED, "params": {}, "plan": plan, "doses": []}
    tasks = [
        Task(function="expunge.farm.member:unlearn", arguments={**common, "number": number}, label=f"x {number}")
        for number in range(2 * PAIRS)
    ]
    runner = registry.load("executors", "inline")()
    return bank, held, list(runner.run(tasks, folder, Compute(), lambda *_: None))


def arms_of_user(bank: Bank, slots: list[int], answers: list[dict[str, Any]], gone: list[int]) -> Arms:
    """O, I and, for a retrained user, X: the retraining of the pair's IN member."""
    if slots[0] not in gone:
        return bank.arms(slots)
    columns = [gone.index(slot) for slot in slots]
    rows = [answers[into] for _, into in bank.sides(slots)]
    cut = [{"block": [row["block"][c] for c in columns], "population": row["population"]} for row in rows]
    return bank.arms(slots, cut)


def image_scores(bank: Bank, slots: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """LiRA of every image under both models of each pair, fitted on the other pairs: members, nonmembers."""
    sketches, attack = bank.sketches(), registry.load("attacks", "lira")()
    logs, inside = sketches.train[:, slots], sketches.inside[:, slots]
    into, out = [], []
    for pair in range(PAIRS):
        own = np.isin(np.arange(2 * PAIRS), (2 * pair, 2 * pair + 1))
        job = AttackJob(
            target=logs[own],
            reference=logs[~own],
            member=inside[~own],
            target_population=sketches.test[own],
            reference_population=sketches.test[~own],
        )
        values = np.asarray(attack.score(job).values)
        into.append(values[inside[own]])
        out.append(values[~inside[own]])
    return np.concatenate(into), np.concatenate(out)


def share(hits: np.ndarray) -> dict[str, Any]:
    """Rate with its exact interval."""
    bounds = clopper_pearson(int(hits.sum()), hits.size)
    return {
        "rate": round(float(hits.mean()), 4),
        "interval": [round(bounds.low, 4), round(bounds.high, 4)],
        "n": hits.size,
    }


def ranks(scores: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """p of each pair's model among the OUT models of the other pairs, (n,)."""
    others = np.stack([np.delete(anchors, k) for k in range(len(anchors))])
    return ranked_p_values(scores, others)


def figures(bank: Bank, held: dict[str, list[int]], answers: list[dict[str, Any]], retrained: int) -> dict[str, Any]:
    """Everything that is reported."""
    gone = sorted(slot for name in list(held)[:retrained] for slot in held[name])
    arms = {name: arms_of_user(bank, slots, answers, gone) for name, slots in held.items()}
    found: dict[str, Any] = {"users": USERS, "images_each": IMAGES, "models": 2 * PAIRS}
    found["test_accuracy"] = round(float(bank.sketches().correct.mean()), 4)
    blocks: dict[str, dict[str, Any]] = {}
    for signal in SIGNALS:
        score = registry.load("attacks", signal)().score
        blocks[signal] = {name: pair_scores(score, arm) for name, arm in arms.items()}
        found[signal] = user_level(blocks[signal])
    into, out = image_scores(bank, sorted(slot for slots in held.values() for slot in slots))
    area = auc(into, out)
    found["lira"]["image_level"] = {
        "auc": round(area.estimate, 4),
        "auc_interval_if_independent": [round(area.low, 4), round(area.high, 4)],
        "tpr_at_1_percent": round(tpr_at_fpr(into, out, 0.01).estimate, 4),
        "n": [into.size, out.size],
    }
    found["three_arms"] = {name: verdicts(name, blocks) for name in list(held)[:retrained]}
    return found


def user_level(scores: dict[str, Any]) -> dict[str, Any]:
    """Power and false positives of the deciding rank p-value, AUC, gaps."""
    into, out = (np.stack([getattr(s, side) for s in scores.values()]) for side in ("into", "out"))
    fresh = [s for s in scores.values() if s.unlearned is not None]
    power = np.stack([ranks(s.into, s.out) for s in scores.values()])
    left_out = np.stack([ranks(s.out, s.out) for s in scores.values()])
    honest = np.array([ranks(s.unlearned, s.out) for s in fresh])
    gaps = (into - out).mean(1) / out.std(1, ddof=1)
    per_user = [auc(i, o).estimate for i, o in zip(into, out, strict=True)]
    rows: dict[str, Any] = {
        "gap_sd_of_out": {str(q): round(float(np.quantile(gaps, q)), 3) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        "auc_user_level_pooled": round(auc(into.ravel(), out.ravel()).estimate, 4),
        "auc_user_level_mean_of_users": round(float(np.mean(per_user)), 4),
    }
    for alpha in (0.05, 0.01):
        rows[f"alpha {alpha}"] = {
            "power_over_users_and_models": share(power <= alpha),
            "users_with_power_at_least_half": share((power <= alpha).mean(1) >= 0.5),
            "false_positives_left_out_models": share(left_out <= alpha),
        }
        if honest.size:
            rows[f"alpha {alpha}"]["false_positives_fresh_retrains"] = share(honest <= alpha)
    return rows


def verdicts(name: str, blocks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """r, correlations, the whole rule at t = .5 and what the plan says, per signal."""
    rule, rows = Rule(margin=0.5, alpha=0.0125, fail_alpha=0.0125), {}
    readings = [blocks[signal][name] for signal in SIGNALS]
    plan = Planning(power=0.8, signals=3, correlation=signal_correlation(readings), seed=0, further=Further())
    for signal, scores in zip(SIGNALS, readings, strict=True):
        reading = read_signal(signal, scores, rule, plan)
        verdict = judge(PairArms.of(scores.out, scores.into, scores.unlearned), rule, Further())
        covariance = measured(scores.out, scores.into, scores.unlearned)
        design = Design(
            margin=0.5, alpha=0.0125, power=0.8, signals=3, correlation=plan.correlation, covariance=covariance,
            further=Further(),
        )  # fmt: skip
        oi, xo, xi = reading.correlations
        rows[signal] = {
            "gap": round(reading.gap.estimate, 3),
            "gap_interval": [round(reading.gap.low, 3), round(reading.gap.high, 3)],
            "correlation_OI": round(oi, 3),
            "correlation_XO": round(xo, 3),
            "correlation_XI": round(xi, 3),
            "variance_ratio_XO": round(verdict.variance.estimate, 3),
            "r": reading.result.residual.estimate,
            "missing": list(verdict.missing),
            "pairs_needed_at_the_estimated_gap": needed_pairs(design, gap=reading.gap.estimate, seed=0),
        }
    return {"signal_correlation": round(plan.correlation, 3), **rows}


def run(folder: Path) -> dict[str, Any]:
    """The section of result.json."""
    found = {}
    for name, (changes, retrained) in VARIANTS.items():
        home = folder / name.replace(", ", "-").replace(" ", "-")
        found[name] = json.loads(json.dumps(figures(*build(home, changes, retrained), retrained)))
    return found
