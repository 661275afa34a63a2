"""Users whose events have decayed to nothing: the model without them is the model there was. And no-ops that say so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import recommending
from expunge import EventSelector, Workspace
from expunge.core import registry
from expunge.core.errors import InputError, NotErased
from expunge.core.finding import Guarantee, Verdict
from expunge.evidence import standalone
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.statement import parse_statement
from expunge.training.checkpoint import weights_identity
from expunge.workflow import purge
from expunge.workflow.selftest.conduct import surrogates
from recommending import failed_steps, finding, refused, rows_of, verdicts, with_place

DAY = 86_400
NOW = 10**9 + DAY
OLD = 100 * DAY  # a hundred half-lives: nothing is left after 32
SAID = "The weights did not have to change"


def aged(row):
    """Every fourth user was last seen long ago."""
    user, item, stars, moment = row
    return user, item, stars, moment - (OLD if int(user[1:]) % 4 == 1 else 0)


def users(workspace: Workspace, *, old: bool) -> list[str]:
    names = [str(name) for name in workspace.book.ids if name is not None]
    return [name for name in names if (int(name.partition("/u")[2]) % 4 == 1) is old]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    settings = {"half_life_days": "1", "now": str(NOW)}
    monkeypatch.setitem(recommending.TRAINED, "popularity", {"solver": "closed-form", "model": settings})
    with recommending.make(tmp_path / "ws", family="popularity", rows=[aged(row) for row in rows_of()]) as made:
        yield made


def served_file(workspace: Workspace) -> Path:
    return workspace.root / workspace.served().run / "model.safetensors"


def no_op(self, job):
    """The original's file, under no new name at all."""
    job.target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(job.source / "model.safetensors", job.target / "model.safetensors")
    found = job.adapter.fit(replace(job.job, folder=job.target))
    assert found.digest == weights_identity(job.source / "model.safetensors")
    return found


@pytest.mark.parametrize("method", ["downdate", "retrain"])
def test_a_user_who_weighs_nothing_any_more_gets_a_certificate_that_says_so(workspace, method):
    name = users(workspace, old=True)[0]
    slot, before = workspace.book.slots_of([name])[0], workspace.served()
    outcome = workspace.run(workspace.request(ids=[name]), [method])
    assert outcome.guarantee is Guarantee.EXACT
    assert SAID in outcome.certificate.sentence
    found = finding(outcome, "algebra")
    assert (found.verdict, found.estimate, found.original) == (Verdict.PASS, 0.0, 0.0)
    assert "did not have to change" in found.reason
    assert verdicts(outcome)["left_out"] is Verdict.UNVERIFIABLE
    after = workspace.served()
    assert after.digest == before.digest == weights_identity(served_file(workspace))
    assert slot in after.absent
    assert slot not in before.absent
    assert after.run != before.run
    assert [folder.name for folder in (workspace.root / "store" / "runs").iterdir()] == [Path(after.run).name]
    assert workspace.book.ids[slot] is None
    assert failed_steps(workspace, outcome) == []


def test_the_standalone_verifier_generates_the_same_sentence(workspace):
    outcome = workspace.run(workspace.request(ids=users(workspace, old=True)[:1]))
    roots = str(workspace.root / "roots.json")
    command = [sys.executable, standalone.__file__, str(outcome.certificate.path), "--roots", roots]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert SAID in done.stdout


def test_places_are_cleaned_all_the_same(workspace, tmp_path):
    name = users(workspace, old=True)[0]
    other = users(workspace, old=False)[0].partition("/")[2]
    gone = name.partition("/")[2]
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({user: {"model": "sha256:" + "0" * 64, "items": ["m001"]} for user in (gone, other)}))
    with with_place(workspace, "lists", path) as opened:
        outcome = opened.run(opened.request(ids=[name]))
        assert outcome.guarantee is Guarantee.EXACT
        assert finding(outcome, "census").original > 0
    assert gone not in path.read_text()


def test_other_deletions_come_after_it_and_the_same_user_is_gone(workspace):
    old, other = users(workspace, old=True)[0], users(workspace, old=False)[0]
    workspace.run(workspace.request(ids=[old]))
    served = workspace.served().digest
    second = workspace.run(workspace.request(ids=[other]))
    assert SAID not in second.certificate.sentence
    assert workspace.served().digest != served
    assert len(workspace.book.tombstones) == 2
    assert failed_steps(workspace, second) == []
    with pytest.raises(InputError, match="already deleted"):
        workspace.request(ids=[old])


def test_events_that_have_decayed_go_out_of_a_history_that_has_not(tmp_path, monkeypatch):
    """A time window long past of a user who is there to this day."""
    settings = {"half_life_days": "1", "now": str(NOW)}
    monkeypatch.setitem(recommending.TRAINED, "popularity", {"solver": "closed-form", "model": settings})
    rows = [(*row[:3], row[3] - (OLD if row[1] < "m005" else 0)) for row in rows_of()]
    with recommending.make(tmp_path / "ws", family="popularity", rows=rows) as made:
        name, before = recommending.a_user(made, 0.9), made.served().digest
        outcome = made.run(made.request(events=EventSelector(users=(name,), since=0, until=10**9 - DAY)))
        assert outcome.guarantee is Guarantee.EXACT
        assert made.served().digest == before
        assert "time window" in outcome.certificate.sentence
        assert SAID in outcome.certificate.sentence
        assert made.book.slots_of([name])[0] not in made.book.tombstones
        assert failed_steps(made, outcome) == []


def test_unchanged_weights_fail_where_the_user_weighs_anything(workspace, monkeypatch):
    """The attack: nothing was done, and the answer is that nothing had to be done."""
    monkeypatch.setattr(registry.load("methods", "downdate"), "unlearn", no_op)
    monkeypatch.setattr(registry.load("methods", "retrain"), "unlearn", no_op)
    served = workspace.served()
    why = refused(workspace, users(workspace, old=False)[0])
    assert "algebra: FAIL" in why
    assert workspace.served() == served


def test_unchanged_weights_fail_where_one_of_two_users_weighs_anything(workspace, monkeypatch):
    for method in ("downdate", "retrain"):
        monkeypatch.setattr(registry.load("methods", method), "unlearn", no_op)
    both = [users(workspace, old=True)[0], users(workspace, old=False)[0]]
    with pytest.raises(NotErased):
        workspace.run(workspace.request(ids=both))
    assert workspace.state().incidents


def test_unchanged_weights_fail_where_the_model_holds_nobody(tmp_path, monkeypatch):
    """All events have decayed: the comparison cannot be seen to see anybody, so it grants nothing."""
    settings = {"half_life_days": "1", "now": str(NOW + OLD)}
    monkeypatch.setitem(recommending.TRAINED, "popularity", {"solver": "closed-form", "model": settings})
    with recommending.make(tmp_path / "ws", family="popularity") as made:
        assert "algebra: UNVERIFIABLE" in refused(made, users(made, old=True)[0])


@pytest.mark.parametrize("step", ["_close_other_cases", "_clean_places", "_destroy_other_runs", "_blank_packages"])
def test_a_crash_after_the_release_is_repaired_by_running_again(workspace, monkeypatch, step):
    case = workspace.request(ids=users(workspace, old=True)[:1])

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(purge, step, killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.run(case)
    outcome = workspace.run(case)
    assert outcome.guarantee is Guarantee.EXACT
    assert SAID in outcome.certificate.sentence
    assert [entry.kind for entry in workspace.log.entries()].count("model.released") == 1
    assert failed_steps(workspace, outcome) == []


def test_a_crash_between_the_record_and_the_log_is_repaired_too(workspace, monkeypatch):
    case = workspace.request(ids=users(workspace, old=True)[:1])
    honest = workspace.remember_model

    def killed(record):
        honest(record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workspace, "remember_model", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.run(case)
    assert workspace.run(case).guarantee is Guarantee.EXACT


def test_the_self_test_is_not_tried_on_users_who_weigh_nothing(workspace):
    blocks = surrogates(workspace, 1_000)
    assert blocks
    assert not {*blocks} & {*users(workspace, old=True)}


def test_a_certificate_of_unchanged_weights_needs_the_finding(workspace):
    outcome = workspace.run(workspace.request(ids=users(workspace, old=True)[:1]))
    predicate = parse_statement(payload_of(read_bundle(outcome.certificate.path).json("certificate.json"))).predicate
    assert predicate.models.before == predicate.models.after
    for changes in ({"original": 4.0}, {"estimate": 1.0}, {"verdict": Verdict.UNVERIFIABLE}, {"check": "census2"}):
        forged = tuple(replace(f, **changes) if f.check == "algebra" else f for f in predicate.findings)
        with pytest.raises(InputError, match="the model after is the model before"):
            replace(predicate, findings=forged)
