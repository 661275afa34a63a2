"""The story of a recommender: users are forgotten, one after another, with everything around the model."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from expunge.stats.ranking import ItemLists, top_k
from expunge.training.recipe import load_any_recipe
from expunge.workflow.policy import RECOMMENDER
from expunge.workflow.stories import Deletion, Story
from expunge.workflow.workspace import Workspace

TEST_USERS = 122
SYNTHETIC: Mapping[str, Any] = {"users": 610, "items": 1500, "test_users": TEST_USERS}
SERVED = 60  # users with a cached list
FOLDER = "around"  # beside the workspace's own folders: what a service keeps around a model


def movielens_story(data: Path | None, *, red_team: bool = False) -> Story:
    """Four requests to a film recommender on MovieLens, or on synthetic users where no `data` is given.

    Around the model lie an export of ratings, an id map and cached lists, which the census finds and cleans.
    """
    source: dict[str, Any] = {"source": "powerlaw", "options": dict(SYNTHETIC)}
    if data is not None:
        source = {"source": "movielens", "path": str(data.resolve()), "options": {"test_users": TEST_USERS}}
    what = "synthetic users shaped like MovieLens (--data FOLDER for the real ones)" if data is None else "MovieLens"
    return Story(
        title=f"expunge demo: users of a film recommender, {what}, EASE in closed form",
        estimate="a minute or two on 2 cores; most of it is the self-test, a deletion takes seconds",
        config={
            "data": source,
            "owner": {"name": "demo"},
            "places": tuple({"name": name, "kind": kind, "path": f"{FOLDER}/{file}"} for name, kind, file in _PLACES),
        },
        recipe=load_any_recipe("ease"),
        deletions=(
            Deletion(title="a user whose whole history the weights give away", chosen="readable"),
            Deletion(title="a user of median activity", chosen="median"),
            Deletion(title="the most active user", chosen="largest"),
            Deletion(title="somebody who is not there: must be answered, and delete nothing", ids=("user/nobody",)),
        ),
        images_per_step=0,
        policy=RECOMMENDER,
        prepare=surroundings,
        red_team=red_team,
    )


_PLACES = (
    ("export of ratings", "events", "ratings.csv"),
    ("id map", "id_map", "users.json"),
    ("cached lists", "lists", "lists.json"),
)


def surroundings(workspace: Workspace) -> None:
    """What a service keeps around its model, written once: an export, an id map, and lists for some users."""
    folder = workspace.root / FOLDER
    if folder.exists():
        return
    folder.mkdir(mode=0o700)
    train = workspace.data.train
    users = [str(name).partition("/")[2] for name in train.ids]
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("user_id", "item_id", "rating"))
        for slot, user in enumerate(users):
            columns, values = train.row(slot)
            rows.writerows(
                (user, train.items[c], v / 2) for c, v in zip(columns.tolist(), values.tolist(), strict=True)
            )
    (folder / "users.json").write_text(json.dumps({user: slot for slot, user in enumerate(users)}), encoding="utf-8")
    (folder / "lists.json").write_text(json.dumps(_lists(workspace, users)), encoding="utf-8")


def _lists(workspace: Workspace, users: list[str]) -> dict[str, Any]:
    """Ten items for the first users and for the most active one, each with the model they come from."""
    train, served = workspace.data.train, workspace.served()
    slots = np.union1d(np.arange(min(SERVED, len(train))), np.argmax(np.diff(train.indptr)))
    rows = workspace.adapter.matrix(train)[slots]
    model = workspace.adapter.load(workspace.root / served.run / "model.safetensors")
    seen = ItemLists.of(rows.indptr, rows.indices, len(train.items))
    lists = top_k(workspace.adapter.outputs(model, rows), seen, 10)
    named = zip(slots.tolist(), lists.tolist(), strict=True)
    return {users[s]: {"model": served.digest, "items": [train.items[i] for i in row]} for s, row in named}
