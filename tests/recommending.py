"""A small recommender in a workspace: random users in a CSV file, EASE, and what a service keeps around it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge import Workspace
from expunge.core.codec import loads
from expunge.core.errors import NotErased
from expunge.core.finding import Verdict
from expunge.evidence.keys import read_roots
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.verify import verify_bundle
from expunge.testing.users import random_histories
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.policy import RECOMMENDER, read_policy
from expunge.workflow.recompute import recompute
from expunge.workflow.selftest.gate import pseudonyms
from workspaces import vouch_for

USERS, ITEMS, TEST_USERS = 60, 70, 15
TRAINED: dict[str, dict[str, Any]] = {  # families without sums
    "ials": {"solver": "als", "sweeps": 5, "model": {"factors": 8}},
    "multvae": {"epochs": 4, "batch": 16, "lr": 0.1, "threads": 1, "introduce": (0.0, 0.5), "model": {"hidden": 16}},
    "lightgcn": {"epochs": 4, "batch": 16, "lr": 10, "threads": 1, "introduce": (0.0, 0.5), "model": {"factors": 16}},
}


def rows_of(seed: int = 3) -> list[tuple[str, str, float, int]]:
    """(user, item, stars, time) of every event."""
    histories = random_histories(USERS, ITEMS, seed=seed)
    found = []
    for slot in range(USERS):
        columns, values = histories.row(slot)
        for column, value in zip(columns.tolist(), values.tolist(), strict=True):
            found.append((f"u{slot:03d}", f"m{column:03d}", value / 2, 10**9 + column))
        if slot % 5 == 0:  # a film that nobody else has seen
            found.append((f"u{slot:03d}", f"x{slot:03d}", 4.0, 10**9))
    return found


def write_rows(path: Path, rows: list[Any]) -> None:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("user_id", "item_id", "rating", "timestamp"))
        lines.writerows(rows)


def make(root: Path, *, rows: list[Any] | None = None, family: str = "ease", **tables: Any) -> Workspace:
    """An open, trained and vouched-for workspace whose source lies beside it."""
    source = root.parent / "events.csv"
    if not source.exists():
        write_rows(source, rows or rows_of())
    config = {
        "data": {"source": "interactions", "path": str(source), "options": {"test_users": TEST_USERS}},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "owner": {"name": "test owner"},
        "compute": {"engine": "inline://"},
        **tables,
    }
    recipe = parse_any_recipe({"name": "small", "family": family, **TRAINED.get(family, {"solver": "closed-form"})})
    workspace = Workspace.create(root, config=config, recipe=recipe, policy=RECOMMENDER)
    workspace.train()
    vouch_for(workspace)
    return workspace


def a_user(workspace: Workspace, rank: float = 0.5) -> str:
    """A present user by activity: 0 is the least active, 1 the most."""
    lengths = np.diff(workspace.data.train.indptr)
    order = [slot for slot in np.argsort(lengths, kind="stable").tolist() if workspace.book.ids[slot] is not None]
    return str(workspace.book.ids[order[round(rank * (len(order) - 1))]])


def a_user_to_judge(workspace: Workspace) -> str:
    """A user the self-test on record did not try its cheats on: which ones it tries is drawn with the workspace's key."""
    tried, book = set(workspace.vouched().report.blocks), workspace.book
    free = (
        name for name, block in zip(book.ids, book.blocks, strict=True) if not tried & {*pseudonyms(workspace, [block])}
    )
    return next(name for name in free if name is not None)


def cached_lists(path: Path, model: str, users: list[str]) -> None:
    path.write_text(json.dumps({user: {"model": model, "items": ["m001", "m002"]} for user in users}))


def verdicts(outcome) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in outcome.trials[-1].findings}


def failed_steps(workspace: Workspace, outcome) -> list[str]:
    receipt = outcome.certificate.path.parent / "receipt.json"
    result = verify_bundle(
        outcome.certificate.path,
        roots=read_roots(workspace.root / "roots.json"),
        policy=read_policy(workspace.root / "policy.yaml"),
        against=str(loads(receipt.read_bytes())["checkpoint"]),
    )
    return [f"{step.number}: {step.reason}" for step in result.steps if step.status == "failed"]


def finding(outcome, name: str):
    return next(item for item in outcome.trials[-1].findings if item.check == name)


def with_place(workspace: Workspace, kind: str, path: Path, options: str = "", second: str = "") -> Workspace:
    """The same workspace with one place declared."""
    folder = workspace.root
    workspace.close()
    with (folder / "expunge.toml").open("a") as file:
        file.write(f'\n[[places]]\nname = "a place{second}"\nkind = "{kind}"\npath = "{path}"\n{options}')
    return Workspace.open(folder)


def refused(workspace: Workspace, name: str) -> str:
    """Why nothing was released."""
    with pytest.raises(NotErased) as caught:
        workspace.run(workspace.request(ids=[name]))
    assert workspace.state().incidents
    return str(caught.value.got)


def second_holders_model(bundle: Path, source: Path, folder: Path) -> str:
    """Digest of what somebody else's key recomputes from their own copy of the source."""
    key = folder / "second.pem"
    if not key.exists():
        FileSigner.create(key)
    package, out = bundle.parent / "recompute.json", folder / "cosignature.json"
    return recompute(bundle, package, data=str(source), key=f"file:{key}", by="second", out=out).model
