"""Whole deletions of a recommender's users: what is certified, what is refused, and what is left behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import recommending
from expunge import Workspace
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee, Verdict
from expunge.training.checkpoint import load_tensors
from expunge.workflow.train import refresh
from recommending import (
    a_user,
    failed_steps,
    finding,
    make,
    refused,
    rows_of,
    second_holders_model,
    verdicts,
    write_rows,
)

# ------------------------------------------------------------------------------------------------------ what is right


@pytest.mark.parametrize(
    "family", ["ease", "ridge", "weighted_ease", "itemknn", "rp3beta", "popularity", "covisitation"]
)
def test_a_user_is_forgotten_exactly_in_every_family(family, tmp_path):
    with make(tmp_path / "ws", family=family) as workspace:
        name = a_user(workspace)
        outcome = workspace.run(workspace.request(ids=[name]))
        assert outcome.guarantee is Guarantee.EXACT
        assert outcome.trials[-1].method == "downdate"
        found = verdicts(outcome)
        assert {found[check] for check in ("algebra", "census", "left_out", "behaviour", "downstream")} == {
            Verdict.PASS
        }
        told = {finding.check: finding.details for finding in outcome.trials[-1].findings}
        assert {"segment.popularity low.users", "segment.activity low.users", "candidate.novelty"} <= told[
            "ranking"
        ].keys()
        assert failed_steps(workspace, outcome) == []
        without = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=workspace.book.tombstones))
        assert without.digest == workspace.served().digest


TRAINED = [
    ("ials", "retrain"),
    *((family, method) for family in ("multvae", "lightgcn") for method in ("retrain", "replay")),
]


@pytest.mark.parametrize(("family", "method"), TRAINED)
def test_a_trained_family_is_certified_by_running_its_recipe_again(family, method, tmp_path):
    with make(tmp_path / "ws", family=family) as workspace:
        outcome = workspace.run(workspace.request(ids=[a_user(workspace)]), [method])
        assert outcome.guarantee is Guarantee.EXACT
        found = finding(outcome, "algebra")
        assert found.verdict is Verdict.PASS
        assert found.estimate == 0 < found.original
        assert verdicts(outcome)["left_out"] is Verdict.PASS
        assert verdicts(outcome)["weights_only"] is Verdict.INCONCLUSIVE
        assert failed_steps(workspace, outcome) == []
        assert not list(Path(tempfile.gettempdir()).glob("expunge-retraining-*"))


@pytest.mark.parametrize("family", ["multvae", "lightgcn"])
def test_only_the_users_own_shard_is_trained_again(family, tmp_path, monkeypatch):
    monkeypatch.setitem(recommending.TRAINED, family, {**recommending.TRAINED[family], "shards": 2})
    with make(tmp_path / "ws", family=family) as workspace:
        name = a_user(workspace)
        shards = workspace.adapter.shards(workspace.fit_job(tmp_path / "x", absent=frozenset()))
        mine = next(k for k, slots in enumerate(shards) if workspace.book.slots_of([name])[0] in slots)
        found = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]
        before = {key: tensor.clone() for key, tensor in found.items()}  # the file is a map, and will be overwritten
        outcome = workspace.run(workspace.request(ids=[name]), ["sisa"])
        assert outcome.guarantee is Guarantee.EXACT
        after = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]
        changed = {key.partition(".")[0] for key, tensor in after.items() if not tensor.equal(before[key])}
        assert changed == {f"shard{mine}"}
        assert failed_steps(workspace, outcome) == []


def test_a_training_too_long_to_run_again_is_not_certified(tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.workflow.ladder.LONGEST", -1.0)
    with make(tmp_path / "ws", family="ials") as workspace:
        assert "algebra: INCONCLUSIVE, must pass: no retraining was made" in refused(workspace, a_user(workspace))


def test_warm_starts_are_offered_and_not_tried_where_no_bank_could_judge_them(tmp_path):
    with make(tmp_path / "ws", family="ials") as workspace:
        case = workspace.request(ids=[a_user(workspace)])
        refusals = {item.method: item.refused for item in workspace.plan(case)}
        assert refusals["retrain"] is None
        assert "it takes a bank of users, and there is none" in refusals["warm_start"]


def test_retraining_is_the_fallback_and_gives_the_same_model(workspace, tmp_path):
    twin = Path(shutil.copytree(workspace.root, tmp_path / "twin"))
    name = a_user(workspace)
    workspace.run(workspace.request(ids=[name]))
    with Workspace.open(twin) as other:
        outcome = other.run(other.request(ids=[name]), ["retrain"])
        assert outcome.guarantee is Guarantee.EXACT
        assert other.served().digest == workspace.served().digest


@pytest.mark.parametrize(("split", "said"), [("last", "each user's last event"), ("time", "after four fifths")])
def test_quality_by_the_last_event_and_by_time(tmp_path, split, said):
    with make(tmp_path / "ws", quality={"split": split}) as workspace:
        outcome = workspace.run(workspace.request(ids=[a_user(workspace)]))
        assert said in finding(outcome, "ranking").details["split"]
        assert outcome.trials[-1].plan.params["split"] == split
        assert outcome.guarantee is Guarantee.EXACT


def test_without_test_users_the_quality_is_not_shown_and_it_says_what_to_do(tmp_path):
    source = {"source": "interactions", "path": str(tmp_path / "events.csv")}
    with make(tmp_path / "ws", data=source) as workspace:
        outcome = workspace.run(workspace.request(ids=[a_user(workspace)]))
    ranking = finding(outcome, "ranking")
    assert ranking.verdict is Verdict.INCONCLUSIVE
    assert "--option test_users=N" in ranking.reason


def test_several_users_in_one_request_and_one_after_another(workspace):
    batch = [a_user(workspace, rank) for rank in (0.1, 0.4, 0.8)]
    outcome = workspace.run(workspace.request(ids=batch))
    assert finding(outcome, "left_out").n == 3
    assert workspace.run(workspace.request(ids=[a_user(workspace)])).guarantee is Guarantee.EXACT
    assert len(workspace.book.tombstones) == 4
    with pytest.raises(InputError, match="already deleted"):
        workspace.request(ids=batch[:1])


def test_a_second_holder_recomputes_from_the_retained_users_alone(workspace, tmp_path):
    name = a_user(workspace)
    outcome = workspace.run(workspace.request(ids=[name]))
    theirs = tmp_path / "theirs.csv"
    write_rows(theirs, [row for row in rows_of() if f"user/{row[0]}" != name])
    bundle = outcome.certificate.path
    assert second_holders_model(bundle, theirs, tmp_path) == workspace.served().digest


def test_columns_stay_when_the_source_loses_its_users_and_their_items(workspace):
    lonely = np.bincount(workspace.data.train.indices, minlength=len(workspace.data.items)) == 1
    owner = next(s for s in range(len(workspace.data.train)) if lonely[workspace.data.train.row(s)[0]].any())
    name = str(workspace.book.ids[owner])
    workspace.run(workspace.request(ids=[name]))
    source = Path(workspace.named_data["options"]["path"])
    write_rows(source, [row for row in rows_of() if f"user/{row[0]}" != name])
    served, folder = workspace.served().digest, workspace.root
    workspace.close()
    with Workspace.open(folder) as again:
        assert len(again.data.items) == len(again.vocabulary)
        assert again.adapter.fit(again.fit_job(folder / "again", absent=again.book.tombstones)).digest == served
        assert again.run(again.request(ids=[a_user(again)])).guarantee is Guarantee.EXACT


def test_a_restored_source_brings_nobody_back(workspace, tmp_path):
    name = a_user(workspace)
    workspace.run(workspace.request(ids=[name]))  # the source still holds the user, as a restored backup would
    assert name in (row_name for row_name in {f"user/{row[0]}" for row in rows_of()})
    fitted = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=workspace.book.tombstones))
    assert fitted.digest == workspace.served().digest


def test_a_refresh_builds_the_cache_anew_and_leaves_the_model(workspace):
    workspace.run(workspace.request(ids=[a_user(workspace)]))
    served, run = workspace.served().digest, workspace.root / workspace.served().run
    drifted = np.load(run / "inverse.npy")
    np.save(run / "inverse.npy", drifted * (1 + 1e-6))
    before, after = refresh(workspace)
    assert after < 1e-12 < 1e-7 < before
    assert workspace.served().digest == served
    assert np.abs(np.load(run / "inverse.npy") - drifted).max() < 1e-12
    assert [entry.kind for entry in workspace.log.entries()].count("cache.refreshed") == 1


# -------------------------------------------------------------------------------------------------- what may not leak


def test_the_bundle_holds_no_trace_of_the_history(workspace):
    name = a_user(workspace, 0.9)
    slot = workspace.book.slots_of([name])[0]
    columns, values = workspace.data.train.row(slot)
    items = [workspace.data.items[column] for column in columns.tolist()]
    words = [name, name.partition("/")[2], *items, *(item.partition("/")[2] for item in items)]
    digests = [hashlib.sha256(word.encode()).hexdigest() for word in words] + [
        workspace.data.train.content_digest(slot)
    ]
    lists = [
        json.dumps(columns.tolist())[1:-1],
        ",".join(map(str, columns.tolist())),
        " ".join(map(str, columns.tolist())),
    ]
    outcome = workspace.run(workspace.request(ids=[name]))
    with zipfile.ZipFile(outcome.certificate.path) as archive:
        texts = {member: archive.read(member) for member in archive.namelist()}
    assert len(texts) > 5
    for word in [*words, *digests, *lists]:
        assert [member for member, text in texts.items() if word.encode() in text] == [], word
    for array in (columns, values, columns.astype(np.int64), np.asarray(columns, np.float64)):
        assert all(array.tobytes() not in text for text in texts.values())


def test_both_models_are_never_kept_because_their_difference_is_the_history(workspace):
    before = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]["gram"].clone()
    name = a_user(workspace)
    history = workspace.data.train.row(workspace.book.slots_of([name])[0])[0]
    workspace.run(workspace.request(ids=[name]))
    after = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]["gram"]
    assert int((before != after).sum()) == len(history) * (len(history) + 1) // 2  # so whoever has both reads it
    assert len(list(workspace.root.rglob("model.safetensors"))) == 1
    assert len(list(workspace.root.rglob("inverse.npy"))) == 1
