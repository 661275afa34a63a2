"""A film recommender forgets a user, end to end: request, deletion, ladder of checks, certificate, verification.

    python examples/movielens_user/forget.py FOLDER                             # synthetic users
    python examples/movielens_user/forget.py FOLDER --data ml-latest-small --user 42

With --lists, a cache of recommendation lists beside the model is declared, found by the census, and cleaned.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from expunge import Workspace
from expunge.evidence.keys import read_roots
from expunge.evidence.verify import verify_bundle
from expunge.training.recipe import load_any_recipe
from expunge.workflow.policy import RECOMMENDER, read_policy


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("example-work"))
    parser.add_argument("--data", type=Path, help="folder of an unpacked MovieLens archive")
    parser.add_argument("--user", help="number of the user; by default one of median activity")
    parser.add_argument("--lists", action="store_true")
    return parser.parse_args()


def source(data: Path | None) -> dict:
    """Test users are set apart before anything is trained: quality is measured on them, and none of them is deleted."""
    if data is None:
        return {"source": "powerlaw", "options": {"users": 400, "items": 600, "test_users": 80}}
    return {"source": "movielens", "path": str(data.resolve()), "options": {"test_users": 122}}


def median_user(workspace: Workspace) -> str:
    lengths = np.diff(workspace.data.train.indptr)
    return workspace.book.ids[int(np.argsort(lengths, kind="stable")[len(lengths) // 2])]


def main() -> None:
    asked = options()
    places = [{"name": "cached lists", "kind": "lists", "path": "cache.json"}] if asked.lists else []
    config = {"data": source(asked.data), "owner": {"name": "example"}, "places": places}
    with Workspace.create(asked.folder, config=config, recipe=load_any_recipe("ease"), policy=RECOMMENDER) as workspace:
        workspace.train()
        workspace.selftest("quick")  # every known cheat is tried on the verifier before anybody is certified
        user = f"user/{asked.user}" if asked.user else median_user(workspace)
        if asked.lists:
            mine = {"model": workspace.served().digest, "items": list(workspace.data.items[:10])}
            (asked.folder / "cache.json").write_text(json.dumps({user.partition("/")[2]: mine}))
        outcome = workspace.run(workspace.request(ids=[user]))

    for finding in outcome.trials[-1].findings:
        print(f"{finding.check:13} {finding.verdict.value:13} {finding.reason}")
    print(outcome.verdict.value, outcome.guarantee.value, outcome.certificate.path)

    # The relying party's side: needs neither numpy nor torch, and no network.
    roots, policy = read_roots(asked.folder / "roots.json"), read_policy(asked.folder / "policy.yaml")
    print("\n".join(verify_bundle(outcome.certificate.path, roots=roots, policy=policy).lines()))


if __name__ == "__main__":
    main()
