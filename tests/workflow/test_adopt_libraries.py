"""What Cornac, LensKit and RecBole write is taken in, and a user is deleted from it exactly; what implicit writes is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from connect import lookalikes as made
from expunge import Workspace
from expunge.core.errors import DataError, InputError
from expunge.core.finding import Guarantee
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.adopt import adopt
from expunge.workflow.policy import RECOMMENDER
from recommending import TEST_USERS, a_user, rows_of, write_rows
from workspaces import vouch_for


def workspace_of(root: Path, rows: list[Any] | None = None, **model: Any) -> Workspace:
    write_rows(root / "events.csv", rows or rows_of())
    config = {
        "data": {
            "source": "interactions",
            "path": str(root / "events.csv"),
            "options": {"test_users": TEST_USERS},
        },
        "compute": {"engine": "inline://"},
    }
    recipe = parse_any_recipe({"name": "small", "solver": "closed-form", "family": "ease", "model": model})
    return Workspace.create(root / "ws", config=config, recipe=recipe, policy=RECOMMENDER)


def theirs(workspace: Workspace, kind: str = "binary", scale: float = 1) -> tuple[list[str], sparse.csr_matrix]:
    """The training histories as another library has them: ids without prefix, items in another order."""
    order = np.random.Generator(np.random.Philox(1)).permutation(len(workspace.data.items))
    names = [name.partition("/")[2] for name in workspace.data.items]
    matrix = workspace.data.train.matrix(kind)[:, order].astype(np.float64) * scale
    return [names[column] for column in order], matrix.tocsr()


def cornac(workspace: Workspace, path: Path, lam: float, kind: str, scale: float = 1, **changes: Any) -> Path:
    names, x = theirs(workspace, kind, scale)
    ids = OrderedDict((name, number) for number, name in enumerate([*names, "only tested"]))
    return made.cornac_model(path, x, lam, iid_map=ids, **changes)


def whole_stars() -> list[Any]:
    return [(user, item, float(round(stars + 0.1)), time) for user, item, stars, time in rows_of()]


def forgets_exactly(workspace: Workspace, tmp_path: Path) -> None:
    """The adopted model is what this recipe gives here, and so is what is left of it without a user."""
    present = workspace.adapter.fit(workspace.fit_job(tmp_path / "trained", absent=workspace.book.tombstones))
    assert present.digest == workspace.served().digest
    vouch_for(workspace)
    outcome = workspace.run(workspace.request(ids=[a_user(workspace)]))
    assert (outcome.guarantee, outcome.trials[-1].method) == (Guarantee.EXACT, "downdate")
    again = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=workspace.book.tombstones))
    assert again.digest == workspace.served().digest != present.digest


def refused(workspace: Workspace, files: list[Path], said: str, items: Path | None = None) -> Any:
    size = workspace.log.size
    with pytest.raises(InputError, match=said) as caught:
        adopt(workspace, files, items=items)
    assert workspace.log.size == size
    assert workspace.state().model is None
    return caught.value


# -------------------------------------------------------------------------------------------------------------- cornac


@pytest.mark.parametrize(
    ("rows", "recipe", "lam", "kind", "scale"),
    [
        (whole_stars(), {"weights": "rating", "lam": 80}, 20.0, "rating", 0.5),
        (rows_of(), {"weights": "rating", "lam": 80}, 20.0, "rating", 0.5),
        (rows_of(), {"lam": 20}, 20.0, "binary", 1),
    ],
    ids=["whole stars", "half stars", "ones"],
)
def test_cornacs_ease_is_adopted_and_forgets_exactly(rows, recipe, lam, kind, scale, tmp_path):
    with workspace_of(tmp_path, rows, **recipe) as workspace:
        adopted = adopt(workspace, [cornac(workspace, tmp_path / "m.pkl", lam, kind, scale)])
        assert adopted.residues == ("U", "uid_map")
        forgets_exactly(workspace, tmp_path)


@pytest.mark.parametrize("times", [1, 4])
def test_the_export_of_stars_that_the_hint_describes_is_adopted_in_either_unit(times, tmp_path):
    with workspace_of(tmp_path, whole_stars(), weights="rating", lam=80) as workspace:
        names, x = theirs(workspace, "rating", 0.5)
        counts = np.asarray(x.multiply(x).sum(0)).ravel()
        held = {
            "weights": made.ease(x, 20),
            "items": np.array(names),
            "item_counts": times * counts,
            "lambda": times * 20,
        }
        np.savez(tmp_path / "ease.npz", **held)
        adopt(workspace, [tmp_path / "ease.npz"])
        trained = workspace.adapter.fit(workspace.fit_job(tmp_path / "trained", absent=workspace.book.tombstones))
        assert trained.digest == workspace.served().digest


@pytest.mark.parametrize("rows", [whole_stars(), rows_of()], ids=["whole stars", "half stars"])
def test_cornacs_stars_in_a_recipe_of_ones_are_refused_with_the_recipe_that_fits(rows, tmp_path):
    with workspace_of(tmp_path, rows, lam=20) as workspace:
        said = refused(workspace, [cornac(workspace, tmp_path / "m.pkl", 20.0, "rating", 0.5)], "other values")
        assert said.expected == "weights: rating, lam: 80"
        assert said.got == "weights: binary"


def test_ones_in_a_recipe_of_stars_are_refused_with_the_recipe_that_fits(tmp_path):
    with workspace_of(tmp_path, weights="rating", lam=80) as workspace:
        said = refused(workspace, [cornac(workspace, tmp_path / "m.pkl", 20.0, "binary")], "other values")
        assert said.expected == "weights: binary, lam: 20"


def test_stars_under_their_own_lambda_and_not_four_times_it_are_another_model(tmp_path):
    with workspace_of(tmp_path, whole_stars(), weights="rating", lam=20) as workspace:
        said = refused(workspace, [cornac(workspace, tmp_path / "m.pkl", 20.0, "rating", 0.5)], "another lambda")
        assert said.expected == "lam: 80"


def test_cornacs_cut_negatives_are_refused_with_what_to_change(tmp_path):
    with workspace_of(tmp_path, weights="rating", lam=80) as workspace:
        path = cornac(workspace, tmp_path / "m.pkl", 20.0, "rating", 0.5, posB=True)
        assert "posB=False" in str(refused(workspace, [path], "not the weights of EASE").hint)


@pytest.mark.parametrize("lam", [80.0, 20.0])
def test_values_that_are_no_stars_are_not_this_recipes_model_whatever_lambda_they_came_with(lam, tmp_path):
    """Without counts in whole numbers the weights alone say it."""
    with workspace_of(tmp_path, weights="rating", lam=80) as workspace:
        refused(workspace, [cornac(workspace, tmp_path / "m.pkl", lam, "rating", 0.3)], "not the weights of EASE")


# ------------------------------------------------------------------------------------------------------------- lenskit


@pytest.mark.parametrize("pipeline", [False, True])
def test_lenskits_ease_is_adopted_and_forgets_exactly(pipeline, tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        names, x = theirs(workspace)
        users, items = x.nonzero()
        more = (users.tolist(), items.tolist()) if pipeline else None
        path = made.lenskit_scorer(tmp_path / "s.pkl", made.ease(x, 20, np.float32), 20.0, names, more=more)
        adopted = adopt(workspace, [path])
        assert bool(adopted.residues) == pipeline
        forgets_exactly(workspace, tmp_path)


def test_a_scorer_without_counts_of_other_histories_is_refused(tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        names, x = theirs(workspace)
        other = sparse.vstack([x, x[:1]]).tocsr()
        path = made.lenskit_scorer(tmp_path / "s.pkl", made.ease(other, 20), 20.0, names)
        refused(workspace, [path], "not the weights of EASE|not made of these histories")


# ------------------------------------------------------------------------------------------------------------- recbole


def recbole(workspace: Workspace, folder: Path, lam: float = 20.0) -> tuple[Path, Path]:
    """A checkpoint and the data set's tokens, with [PAD] in front and an item that was only tested on behind."""
    names, x = theirs(workspace)
    padded = sparse.hstack([x, sparse.csr_matrix((x.shape[0], 1))]).tocsr()
    path = made.recbole_checkpoint(folder / "EASE-1.pth", padded, lam)
    tokens = folder / "items.txt"
    tokens.write_text("\n".join(["[PAD]", *names, "only tested"]))
    return path, tokens


def test_recboles_ease_is_adopted_from_the_command_line_and_forgets_exactly(tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        path, tokens = recbole(workspace, tmp_path)
    command = ["adopt", str(path), "--items", str(tokens), "-w", str(tmp_path / "ws"), "--json"]
    done = subprocess.run([sys.executable, "-m", "expunge.apps.cli.main", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["residues"] == ["other_parameter/interaction_matrix"]
    with Workspace.open(tmp_path / "ws") as workspace:
        forgets_exactly(workspace, tmp_path)


def test_the_export_that_the_hint_describes_is_adopted(tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        names, x = theirs(workspace)
        padded = sparse.hstack([sparse.csr_matrix((x.shape[0], 1)), x]).tocsr()
        np.savez(
            tmp_path / "ease.npz",
            weights=made.ease(padded, 20, np.float32),
            items=np.array(["[PAD]", *names]),
            item_counts=np.asarray(padded.power(2).sum(0)).ravel(),
            **{"lambda": 20.0},
        )
        adopt(workspace, [tmp_path / "ease.npz"])
        trained = workspace.adapter.fit(workspace.fit_job(tmp_path / "trained", absent=workspace.book.tombstones))
        assert trained.digest == workspace.served().digest


def test_recbole_without_the_names_of_its_items_is_refused_with_the_option_that_names_them(tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        path, _ = recbole(workspace, tmp_path)
        assert "--items" in str(refused(workspace, [path], "names no items").hint)


def test_names_in_another_order_are_other_histories(tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        path, tokens = recbole(workspace, tmp_path)
        lines = tokens.read_text().split("\n")
        tokens.write_text("\n".join([lines[0], *sorted(lines[1:-1]), lines[-1]]))
        refused(workspace, [path], "not made of these histories", tokens)


def test_an_item_that_somebody_had_is_not_dropped_with_the_padding(tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        path, tokens = recbole(workspace, tmp_path)
        lines = tokens.read_text().split("\n")
        tokens.write_text("\n".join([*lines[:5], "unheard of", *lines[6:]]))
        said = refused(workspace, [path], "1 items of the model are not in the workspace", tokens)
        assert said.got == "unheard of"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.partition(b"\n")[2], "ids"),  # without [PAD]
        (lambda data: data.replace(b"only tested", b"[PAD]"), "an id twice"),
        (lambda data: b"\xff\xfe" + data, "no list of ids"),
    ],
)
def test_a_file_of_names_that_does_not_fit_is_refused(change, said, tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        path, tokens = recbole(workspace, tmp_path)
        tokens.write_bytes(change(tokens.read_bytes()))
        assert isinstance(refused(workspace, [path], said, tokens), DataError)
        refused(workspace, [path], "no such file", tmp_path)  # a directory


def test_a_model_with_names_takes_no_others(tmp_path):
    with workspace_of(tmp_path, lam=20) as workspace:
        _, tokens = recbole(workspace, tmp_path)
        refused(workspace, [cornac(workspace, tmp_path / "m.pkl", 20.0, "binary")], "itself", tokens)


# ------------------------------------------------------------------------------------------------------------ implicit


def test_trained_factors_are_refused_with_the_route_that_is_exact(tmp_path):
    with workspace_of(tmp_path) as workspace:
        said = refused(workspace, [made.implicit_factors(tmp_path / "als.npz")], "no item-to-item weights")
        assert "`ials`" in str(said.hint)


def test_lists_that_were_cut_are_refused(tmp_path):
    with workspace_of(tmp_path) as workspace:
        path = made.implicit_neighbours(tmp_path / "knn.npz", np.eye(3))
        assert "`itemknn`" in str(refused(workspace, [path], "no item-to-item weights").hint)
