"""How often the quick self-test raises an alarm on honest models, over workspaces with keys of their own.

    python benchmarks/selftest/placebos.py --keys 40
    python benchmarks/selftest/placebos.py --keys 4 --together 0     # then 1, 5, 6

Everything of `expunge demo` up to the self-test's honest models: training, a bank of 16 pairs and 40 anchors, one honest
retraining judged as EMPIRICAL on six pairs, one as EXACT, and the models left out one at a time. No cheats. `--together`
puts the two planted blocks on the same side in that many of the six pairs, as coins of their own may do; without it the
bank balances them. One line a workspace, in placebos.jsonl; an interrupted run continues, and the counts are made anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

from expunge import Workspace
from expunge.workflow.selftest import conduct
from expunge.workflow.stories import digits_story

HERE = Path(__file__).parent
PAIRS = conduct.SIZES["quick"].pairs or 0


def placed(together: int) -> Any:
    """Sides of two blocks: together in that many of the first six pairs, by coins in the others."""
    generator, kept = np.random.default_rng(), {}

    def sides(seed: str, pairs: int, blocks: int) -> np.ndarray:
        if seed not in kept:
            drawn = generator.integers(0, 2, (pairs, blocks)).astype(bool)
            apart = np.arange(PAIRS)[generator.permutation(PAIRS) >= together]
            drawn[:PAIRS, 1] = drawn[:PAIRS, 0]
            drawn[apart, 1] ^= True
            kept[seed] = drawn
        return kept[seed]

    return sides


@contextmanager
def honest_only(together: int | None, seen: list[float | None]) -> Iterator[None]:
    """No cheats; r of every honest model that membership measured is put into `seen`."""
    tried = conduct.try_method

    def noted(*given: Any) -> Any:
        found = tried(*given)
        seen.extend(
            item.estimate for item in found.findings if item.check == "membership" and item.estimate is not None
        )
        return found

    with (
        patch.object(conduct, "sabotaged_methods", lambda kind: ()),
        patch.object(conduct, "try_processes", lambda *_: {}),
        patch.object(conduct, "try_method", noted),
    ):
        if together is None:
            yield
            return
        with patch("expunge.farm.bank.balanced_sides", placed(together)):
            yield


def measured(together: int | None) -> dict[str, Any]:
    """One workspace from nothing to its honest models."""
    story, seen = digits_story(), []
    with (
        tempfile.TemporaryDirectory(prefix="expunge-placebos-") as folder,
        honest_only(together, seen),
        Workspace.create(
            Path(folder) / "work", config=story.config, recipe=story.recipe, policy=story.policy
        ) as workspace,
    ):
        workspace.train()
        workspace.bank()
        report = workspace.selftest("quick").report
    rows = [[item.source, item.check, item.alarms, item.trials] for item in report.alarms]
    return {"together": together, "r": [round(r, 4) for r in seen], "alarms": rows}


def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per placement: workspaces, those in which an honest retraining raised any alarm, and alarms by source and check."""
    found = {}
    for together in sorted({row["together"] for row in rows}, key=lambda value: (value is not None, value)):
        mine = [row for row in rows if row["together"] == together]
        alarms, trials = Counter(), Counter()
        for row in mine:
            for source, check, hits, count in row["alarms"]:
                alarms[f"{check}, {source}"] += hits
                trials[f"{check}, {source}"] += count
        retrained = [any(a[2] and a[0].startswith("full retrains") for a in row["alarms"]) for row in mine]
        found["balanced" if together is None else f"together in {together} of {PAIRS}"] = {
            "workspaces": len(mine),
            "workspaces_with_an_alarm_on_a_retraining": sum(retrained),
            "r": sorted(r for row in mine for r in row["r"]),
            "alarms": {name: f"{hits} of {trials[name]}" for name, hits in sorted(alarms.items())},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=40)
    parser.add_argument("--together", type=int, choices=range(PAIRS + 1))
    parser.add_argument("--out", type=Path, default=HERE / "placebos.json")
    options = parser.parse_args()
    lines = options.out.with_suffix(".jsonl")
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    while sum(row["together"] == options.together for row in rows) < options.keys:
        rows.append(measured(options.together))
        with lines.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        result = {"command": "python benchmarks/selftest/placebos.py", "hardware": hardware(), **counted(rows)}
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        hits = [(source, check) for source, check, alarms, _ in rows[-1]["alarms"] if alarms]
        print(rows[-1]["together"], rows[-1]["r"], hits, flush=True)


if __name__ == "__main__":
    main()
