"""Users of whom no event is left, or never was: no model depends on them, and they can still be deleted."""

from __future__ import annotations

import json

import pytest

from expunge import EventSelector
from expunge.core import registry
from expunge.core.errors import Held, NotErased
from expunge.core.finding import Guarantee
from expunge.training.checkpoint import weights_identity
from recommending import failed_steps, make, rows_of, with_place

LONE = ("zz1", "m001", 4.0, 10**9)
SAID = "The weights did not have to change"


@pytest.mark.parametrize("family", ["ease", "popularity", "itemknn", "ials", "multvae"])
def test_an_emptied_user_can_be_deleted(tmp_path, family):
    workspace = make(tmp_path / "ws", rows=[*rows_of(), LONE], family=family)
    (tmp_path / "ids.json").write_text(json.dumps({"zz1": 0, "u001": 1}))
    workspace = with_place(workspace, "id_map", tmp_path / "ids.json")
    workspace.run(workspace.request(events=EventSelector(users=("user/zz1",), items=("item/m001",))))
    before = workspace.served().digest
    outcome = workspace.run(workspace.request(ids=["user/zz1"]))
    assert outcome.guarantee is Guarantee.EXACT
    assert SAID in outcome.certificate.sentence
    assert failed_steps(workspace, outcome) == []
    assert workspace.served().digest == before
    assert "user/zz1" not in workspace.book.ids
    assert json.loads((tmp_path / "ids.json").read_text()) == {"u001": 1}
    assert not workspace.state().incidents
    workspace.close()


def test_two_emptied_users_are_deleted_together_because_their_histories_are_the_same(tmp_path):
    rows = [*rows_of(), LONE, ("zz2", "m001", 3.0, 10**9)]
    with make(tmp_path / "ws", rows=rows) as workspace:
        both = ("user/zz1", "user/zz2")
        workspace.run(workspace.request(events=EventSelector(users=both, items=("item/m001",))))
        with pytest.raises(Held, match="the very same history"):
            workspace.run(workspace.request(ids=["user/zz1"]))
        assert not workspace.state().incidents
        outcome = workspace.run(workspace.request(ids=list(both)))
        assert failed_steps(workspace, outcome) == []


def test_a_no_op_is_no_deletion_of_a_user_with_events(tmp_path, monkeypatch):
    """The attack: the weights stay as they are, of a trained family, and the control is to make that a pass."""
    workspace = make(tmp_path / "ws", family="multvae")
    served = workspace.root / workspace.served().run

    def nothing(self, job):
        found = job.adapter.fit(job.job)
        (found.model).write_bytes((served / "model.safetensors").read_bytes())
        return type(found)(
            **{**{n: getattr(found, n) for n in found.__slots__}, "digest": weights_identity(found.model)}
        )

    for method in ("replay", "retrain"):
        monkeypatch.setattr(registry.load("methods", method), "unlearn", nothing)
    with pytest.raises(NotErased, match="nothing was released"):
        workspace.run(workspace.request(ids=["user/u004"]))
    workspace.close()
