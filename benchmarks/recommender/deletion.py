"""Whole deletions of users from EASE on ml-latest-small: from the request to the certificate, every check included.

    python benchmarks/recommender/deletion.py --data FOLDER_OF_ml-latest-small --work EMPTY_FOLDER [--only requests|red_team]

`requests`: users by activity (least, quartiles, most) and a batch of five, each a case of its own: seconds of the method,
of the checks V0 to V5 and quality, and of everything (log, purge with overwriting, certificate, report). The quick
self-test runs once before them. `red_team`: the attack on the weights, before and after a deletion (V2 from weights
alone, which inverts P).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from recorded import record_parts

from expunge import Workspace
from expunge.evidence.keys import read_roots
from expunge.evidence.verify import verify_bundle
from expunge.training.recipe import load_any_recipe
from expunge.workflow import pipeline
from expunge.workflow.policy import RECOMMENDER, read_policy
from expunge.workflow.red_team import Victim, user_of
from expunge.workflow.story_movielens import TEST_USERS

HERE = Path(__file__).parent
RANKS = {"least active": 0.0, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "most active": 1.0}


def by_activity(workspace: Workspace, rank: float) -> str:
    lengths = np.diff(workspace.data.train.indptr)
    present = [s for s in np.argsort(lengths, kind="stable").tolist() if workspace.book.ids[s] and lengths[s]]
    return str(workspace.book.ids[present[round(rank * (len(present) - 1))]])


def one(workspace: Workspace, names: list[str]) -> dict[str, Any]:
    """A case, timed."""
    inside: dict[str, float] = {}
    judge = pipeline.judge

    def timed(*given: Any) -> Any:
        start = time.perf_counter()
        trial = judge(*given)
        inside["checks"] = time.perf_counter() - start
        return trial

    pipeline.judge = timed
    start, cpu = time.perf_counter(), time.process_time()
    try:
        outcome = workspace.run(workspace.request(ids=names))
    finally:
        pipeline.judge = judge
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    checked = verify_bundle(
        outcome.certificate.path,
        roots=read_roots(workspace.root / "roots.json"),
        policy=read_policy(workspace.root / "policy.yaml"),
    )
    findings = {finding.check: finding for finding in outcome.trials[-1].findings}
    return {
        "users": len(names),
        "guarantee": outcome.guarantee.value,
        "verified": checked.ok,
        "method": outcome.trials[-1].method,
        "seconds_method": round(outcome.trials[-1].seconds, 3),
        "seconds_checks": round(inside["checks"], 3),
        "seconds_all": round(wall, 3),
        "cpu_seconds_all": round(cpu, 3),
        "verdicts": {name: finding.verdict.value for name, finding in sorted(findings.items())},
        "leverage": findings["algebra"].details.get("leverage"),
        "largest_score_difference_to_retraining": findings["behaviour"].estimate,
        "left_out_difference": findings["left_out"].estimate,
        "left_out_difference_of_the_original": findings["left_out"].original,
    }


def prepared(data: str, folder: Path) -> tuple[Workspace, dict[str, Any]]:
    """A trained workspace whose verifier was tried."""
    if (folder / "expunge.toml").exists():
        return Workspace.open(folder), {}
    source = {"source": "movielens", "path": data, "options": {"test_users": TEST_USERS}}
    config = {"data": source, "owner": {"name": "benchmark"}, "compute": {"engine": "inline://"}}
    workspace = Workspace.create(folder, config=config, recipe=load_any_recipe("ease"), policy=RECOMMENDER)
    workspace.train()
    start = time.perf_counter()
    report = workspace.selftest("quick").report
    seconds = {"seconds_training": round(workspace.served().seconds, 2)}
    return workspace, {
        **seconds,
        "seconds_self_test": round(time.perf_counter() - start, 1),
        "self_test": report.sentence,
    }


def requests(data: str, folder: Path) -> dict[str, Any]:
    workspace, before = prepared(data, folder)
    with workspace:
        train = workspace.data.train
        found = {**before, "users": len(train), "items": len(train.items), "events": train.events}
        one(workspace, [by_activity(workspace, 0.4)])  # imports and page cache; not recorded
        found["cases"] = {name: one(workspace, [by_activity(workspace, rank)]) for name, rank in RANKS.items()}
        batch = [by_activity(workspace, rank) for rank in (0.1, 0.3, 0.55, 0.7, 0.9)]
        found["cases"]["batch of five"] = one(workspace, batch)
    return found


def red_team(data: str, folder: Path) -> dict[str, Any]:
    workspace, _ = prepared(data, folder)
    with workspace:
        name = user_of(workspace, "readable")
        victim = Victim(workspace, name)
        start = time.perf_counter()
        before = victim.read()
        seconds = time.perf_counter() - start
        one(workspace, [name])
        after = victim.read()
    said = {when: text.partition("reads")[0] + text.rpartition(":")[2].strip() for when, text in (("before", before),)}
    return {"seconds_one_attack": round(seconds, 1), **said, "after": after}  # no item of the history is recorded


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=("requests", "red_team"))
    options = parser.parse_args()
    data = str(Path(options.data).resolve())
    parts = {
        name: lambda part=part: part(data, options.work)
        for name, part in (("requests", requests), ("red_team", red_team))
    }
    command = "python benchmarks/recommender/deletion.py --data FOLDER --work FOLDER"
    record_parts(HERE / "deletion.json", command, parts, options.only)


if __name__ == "__main__":
    main()
