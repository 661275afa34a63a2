"""The attack of the film demo: a history is read out of exported weights, and no longer once its user was deleted."""

from types import SimpleNamespace

import numpy as np
import pytest

from expunge.core.errors import InputError
from expunge.data._interactions import Histories
from expunge.workflow.red_team import Victim, user_of
from recommending import make


@pytest.fixture
def workspace(tmp_path):
    with make(tmp_path / "ws", family="ease") as opened:
        yield opened


def test_a_history_is_read_from_the_weights_alone_until_its_user_is_deleted(workspace):
    name = user_of(workspace, "readable")
    train = workspace.data.train
    columns = train.row(train.slots([name])[0])[0]
    victim = Victim(workspace, name)
    before = victim.read()
    pairs = len(train.items) * (len(train.items) - 1)
    assert f"{pairs:,} of {pairs:,} pair counts right" in before
    assert f"{len(columns)} of {len(columns)} right, 0 wrong" in before
    own = [train.items[c] for c in columns.tolist()]
    assert any(item in before for item in own)
    workspace.run(workspace.request(ids=[name]))
    after = victim.read()
    assert after.endswith("own items have no owner any more: nothing to read")
    assert not any(item in after for item in own)


def test_a_model_that_was_left_as_it_is_still_gives_the_history_away(workspace):
    """The control: somebody else is deleted, and the attack still works on this one."""
    name = user_of(workspace, "readable")
    victim, other = Victim(workspace, name), user_of(workspace, "largest")
    assert other != name
    workspace.run(workspace.request(ids=[other]))
    assert "right, 0 wrong" in victim.read()


def test_users_are_chosen_by_what_they_did(workspace):
    lengths = np.diff(workspace.data.train.indptr)
    slot = {kind: workspace.data.train.slots([user_of(workspace, kind)])[0] for kind in ("median", "largest")}
    assert lengths[slot["largest"]] == lengths.max()
    assert lengths[slot["median"]] == np.sort(lengths)[len(lengths) // 2]


def test_nobody_is_readable_where_every_item_has_two_owners():
    two = Histories(
        ids=("user/a", "user/b"),
        blocks=("a", "b"),
        items=("m1", "m2"),
        indptr=np.array([0, 2, 4]),
        indices=np.array([0, 1, 0, 1], np.int32),
        values=np.full(4, 2, np.uint8),
    )
    workspace = SimpleNamespace(data=SimpleNamespace(train=two), book=SimpleNamespace(ids=two.ids))
    with pytest.raises(InputError, match="no such user"):
        user_of(workspace, "readable")
    assert user_of(workspace, "largest") == "user/b"
