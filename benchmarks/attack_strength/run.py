"""How strong is every attack on real images? AUC and TPR at 1 % and 0.1 % FPR on the bank that `bank.py` trained.

    python benchmarks/attack_strength/run.py --data FOLDER --work CACHE [--targets 8] [--probed 1000]

Each of the first `--targets` models is attacked with the models of all other pairs as references: an audit in which
the auditor never holds the target's own complement. Attacks that look into the model are measured on a seeded sample
of `--probed` records and as many unseen ones (every model has to be asked), those that ask a model many times
for one record on a fraction (`SLOW`). The interval is a t-interval over target
models, because records that share a model are no independent trials. Resumable: one JSON an attack under CACHE.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bank import RECORDS, open_bank, parse
from numpy.typing import NDArray
from scipy import special

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

from expunge.core import registry
from expunge.core.protocols import AttackJob, FitJob, Probe
from expunge.farm.bank import read_arrays
from expunge.farm.member import adapter_for
from expunge.farm.probing import Probed, ProbePlan, arrays_of, run_probes
from expunge.stats.roc import auc, tpr_at_fpr
from expunge.training.loop import numerics_of

Floats = NDArray[np.float64]
RATES = (0.01, 0.001)
SLOW = {"curvature": 10, "gradient_ratio": 5, "label_only": 5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=8)
    parser.add_argument("--probed", type=int, default=1000)
    parser.add_argument("--attacks", nargs="*", default=registry.names("attacks"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    options = parse(parser)
    bank, data = open_bank(options)
    sketches, rows = bank.sketches(), {}
    cache = bank.folder.with_name(bank.folder.name + "-strength")
    cache.mkdir(exist_ok=True)
    for name in options.attacks:
        probed = options.probed // SLOW.get(name, 1)
        file = cache / f"{name}-{options.targets}-{probed}.json"
        if not file.exists():
            started = time.process_time()
            signals = signals_of(name, bank, data, sketches, probed, cache)
            found = strength(registry.load("attacks", name)(), *signals, options.targets)
            file.write_text(json.dumps({**found, "cpu_seconds": round(time.process_time() - started, 1)}))
        rows[name] = json.loads(file.read_text())
        print(name, json.dumps(rows[name]), file=sys.stderr, flush=True)
    correct = bank.sketches().correct
    inside = sketches.inside
    trained = float(np.mean(np.exp(sketches.train[inside]) > 0.5))
    result = {
        "question": "AUC and TPR of every attack on models trained on half of the images, references from other pairs",
        "command": f"run.py --data FOLDER --work CACHE --targets {options.targets} --probed {options.probed}",
        "data": data.note,
        "records": RECORDS,
        "models": int(inside.shape[0]),
        "references": int(inside.shape[0]) - 2,
        "recipe": {k: bank.spec.recipe[k] for k in ("name", "model", "epochs", "crop", "flip", "precision")},
        "test_accuracy": round(float(correct.mean()), 4),
        "members_with_p_above_half": round(trained, 4),
        "attacks": rows,
        **hardware(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))


def signals_of(
    name: str, bank: Any, data: Any, sketches: Any, probed: int, cache: Path
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(M, N) signal on training records, (M, Z) on unseen ones, and membership (M, N)."""
    attack = registry.load("attacks", name)()
    if not isinstance(attack, Probe):
        return sketches.train.astype(np.float64), sketches.test.astype(np.float64), sketches.inside
    generator = np.random.Generator(np.random.Philox(2024))
    block = tuple(sorted(generator.permutation(len(data.train))[:probed].tolist()))
    unseen = tuple(sorted(generator.permutation(len(data.test))[:probed].tolist()))
    plan = ProbePlan(probes=(f"attacks/{name}",), block=block, neighbours=(), retained=(), population=unseen, seed=2024)
    rows = [_asked(name, bank, data, plan, number, cache) for number in range(2 * bank.spec.pairs)]
    return (
        np.stack([row["block"] for row in rows]),
        np.stack([row["population"] for row in rows]),
        sketches.inside[:, list(block)],
    )


def _asked(name: str, bank: Any, data: Any, plan: ProbePlan, number: int, cache: Path) -> dict[str, Floats]:
    file = cache / f"{name}-{len(plan.block)}-{number}.npz"
    if file.exists():
        return read_arrays(file)
    adapter = adapter_for(bank.spec.recipe, data)
    fit = FitJob(
        recipe=bank.spec.recipe,
        seed="0" * 32,
        numerics=numerics_of(adapter.recipe, 1),
        data=data,
        folder=cache / "scratch",
    )
    weights = bank.home("bank", number) / "run" / "model.safetensors"
    answers = run_probes(plan, Probed(adapter=adapter, weights=weights, partner=None, fit=fit))
    arrays = arrays_of(answers)[plan.probes[0]]
    np.savez(file, **arrays)
    return arrays


def strength(attack: Any, train: Floats, unseen: Floats, member: NDArray[np.bool_], targets: int) -> dict[str, Any]:
    """Mean over targets with a t-interval of AUC and TPR at the rates."""
    areas, rates = [], {rate: [] for rate in RATES}
    for target in range(targets):
        others = np.arange(len(train)) // 2 != target // 2
        job = AttackJob(
            target=train[target : target + 1],
            reference=train[others],
            member=member[others],
            target_population=unseen[target : target + 1],
            reference_population=unseen[others],
        )
        scores = np.asarray(attack.score(job).values)[0]
        inside = member[target]
        areas.append(auc(scores[inside], scores[~inside]).estimate)
        for rate, found in rates.items():
            found.append(tpr_at_fpr(scores[inside], scores[~inside], rate).estimate)
    return {
        "records": int(train.shape[1]),
        "targets": targets,
        "auc": interval(areas),
        **{f"tpr_at_{100 * rate:g}_percent": interval(found) for rate, found in rates.items()},
    }


def interval(values: list[float]) -> list[float]:
    """Mean, and the 95 % t-limits over targets."""
    column = np.array(values)
    half = float(special.stdtrit(column.size - 1, 0.975)) * column.std(ddof=1) / math.sqrt(column.size)
    return [round(float(value), 5) for value in (column.mean(), column.mean() - half, column.mean() + half)]


def table(rows: dict[str, Any]) -> str:
    lines = ["| attack | records | AUC | TPR at 1 % FPR | TPR at 0.1 % FPR |", "|---|---|---|---|---|"]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["auc"][0]):
        cells = [
            "{:.3f} [{:.3f}, {:.3f}]".format(*row["auc"]),
            *("{:.2f} % [{:.2f}, {:.2f}]".format(*(100 * v for v in row[f"tpr_at_{r}_percent"])) for r in ("1", "0.1")),
        ]
        lines.append(f"| {name} | {row['records']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
