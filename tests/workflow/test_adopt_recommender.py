"""A recommender that was trained elsewhere is taken in when its counts are those of the workspace's users, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge import Workspace
from expunge.core.errors import DataError, InputError
from expunge.core.finding import Guarantee
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.adopt import adopt
from expunge.workflow.policy import RECOMMENDER
from recommending import TEST_USERS, a_user, make, rows_of, write_rows
from workspaces import vouch_for


def untrained(root: Path, source: Path, **model: Any) -> Workspace:
    config = {
        "data": {"source": "interactions", "path": str(source), "options": {"test_users": TEST_USERS}},
        "compute": {"engine": "inline://"},
    }
    recipe = parse_any_recipe({"name": "small", "solver": "closed-form", "family": "ease", "model": model})
    return Workspace.create(root, config=config, recipe=recipe, policy=RECOMMENDER)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    make(folder / "ws").close()
    return folder


def export(folder: Path, file: Path, dtype: Any = np.float32, **changes: Any) -> Path:
    """B as another library would store it: items in another order, without the source's prefix."""
    with Workspace.open(folder / "ws") as workspace:
        model = workspace.adapter.load(workspace.root / workspace.served().run / "model.safetensors")
        items = [name.partition("/")[2] for name in workspace.data.items]
    order = np.random.Generator(np.random.Philox(1)).permutation(len(items))
    arrays = {
        "weights": model.weights()[np.ix_(order, order)].astype(dtype),
        "items": np.array([items[k] for k in order]),
        "item_counts": np.diagonal(model.gram)[order].astype(np.int64),
        "lambda": np.array(model.lam),
    }
    np.savez(file, **{**arrays, **changes})
    return file


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_adopted_model_is_the_one_that_training_gives_and_forgets_exactly(trained, tmp_path, dtype):
    file = export(trained, tmp_path / "theirs.npz", dtype)
    with Workspace.open(trained / "ws") as other:
        digest = other.served().digest
    with untrained(tmp_path / "ws", trained / "events.csv") as workspace:
        adopted = adopt(workspace, [file])
        assert adopted.record.digest == digest
        assert [option.name for option in adopted.menu if option.possible] == ["downdate", "retrain"]
        vouch_for(workspace)
        outcome = workspace.run(workspace.request(ids=[a_user(workspace)]))
        assert outcome.guarantee is Guarantee.EXACT
        assert outcome.trials[-1].method == "downdate"
        again = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=workspace.book.tombstones))
        assert again.digest == workspace.served().digest


def refused(
    trained: Path, tmp_path: Path, said: str, error: type = InputError, *, source: Path | None = None, **changes
):
    file = export(trained, tmp_path / "theirs.npz", **changes)
    with untrained(tmp_path / "ws", source or trained / "events.csv") as workspace:
        size = workspace.log.size
        with pytest.raises(error, match=said):
            adopt(workspace, [file], "arrays")
        assert workspace.log.size == size
        assert workspace.state().model is None


def test_a_model_of_other_histories_is_refused(trained, tmp_path):
    write_rows(tmp_path / "fewer.csv", [row for row in rows_of() if row[0] != "u003"])
    refused(trained, tmp_path, "not made of these histories", DataError, source=tmp_path / "fewer.csv")


def test_another_lambda_is_refused(trained, tmp_path):
    refused(trained, tmp_path, "another lambda", **{"lambda": np.array(1.0)})


def test_items_that_are_not_here_are_refused(trained, tmp_path):
    with Workspace.open(trained / "ws") as workspace:
        names = np.array([f"other{number}" for number in range(len(workspace.data.items))])
    refused(trained, tmp_path, "not in the workspace", DataError, items=names)


def test_a_pruned_model_is_refused(trained, tmp_path):
    with np.load(export(trained, tmp_path / "whole.npz")) as whole:
        pruned = np.where(np.abs(whole["weights"]) < np.quantile(np.abs(whole["weights"]), 0.8), 0, whole["weights"])
    refused(trained, tmp_path, "not the weights of EASE|not whole|not-closed-form", DataError, weights=pruned)


def test_a_missing_file_and_an_unknown_format_are_refused(trained, tmp_path):
    with untrained(tmp_path / "ws", trained / "events.csv") as workspace:
        with pytest.raises(InputError, match="no such file"):
            adopt(workspace, [tmp_path / "nowhere.npz"])
        with pytest.raises(InputError, match="unknown format"):
            adopt(workspace, [export(trained, tmp_path / "a.npz")], "surprise")
        (tmp_path / "noise.bin").write_bytes(b"\0" * 100)
        with pytest.raises(InputError, match="no reader recognises"):
            adopt(workspace, [tmp_path / "noise.bin"])


def test_a_workspace_that_serves_a_model_adopts_none(trained, tmp_path):
    file = export(trained, tmp_path / "theirs.npz")
    with Workspace.open(trained / "ws") as workspace, pytest.raises(InputError, match="already serves"):
        adopt(workspace, [file])
