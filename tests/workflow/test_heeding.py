"""Works that were opted out keep their places and are not there: no training of the workspace reads them."""

import json
from dataclasses import replace

import pytest

from expunge.core.errors import DataError, InputError
from expunge.core.finding import Guarantee
from expunge.data.opt_out.signals import Protocol, Says, Signal, Signals, write_signals
from picture_files import ARTISTS, make_works, write_folder
from recommending import failed_steps
from rights import NOW

pytestmark = pytest.mark.usefixtures("one_thread")


def said(record, says):
    one = Signal(protocol=Protocol.TDMREP, says=says, where="https://example.org", read=NOW, digest="0" * 64)
    return Signals(record=record, crawled=NOW, signals=(one,))


def of_artist(folder, artist):
    lines = (folder / "train" / "metadata.jsonl").read_text().splitlines()
    return [f"train/{row['file_name']}" for row in map(json.loads, lines) if row["artist"] == artist]


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "works")


def made(tmp_path, rows, **table):
    write_signals(tmp_path / "signals.jsonl", rows)
    data = {
        "source": "picture_folder",
        "path": str(tmp_path / "works"),
        "options": {"size": 16},
        "signals": "../signals.jsonl",
        **table,
    }
    return make_works(tmp_path / "ws", data=data)


def test_opted_out_works_are_in_no_step_of_the_training_and_the_rest_is_where_it_was(source, tmp_path):
    """The weights are those of a training on everything with their places empty; another artist still goes exactly."""
    gone = of_artist(source, ARTISTS[1])
    rows = [said(record, Says.RESERVED) for record in gone[:5]]
    rows += [said(gone[5], Says.UNREADABLE), said(gone[6], Says.PERMITTED)]
    with made(tmp_path, rows) as workspace:
        served = workspace.served()
        assert len(served.absent) == 6
        assert frozenset(served.absent) == workspace.book.tombstones
        blank = [workspace.data.train.images[slot] for slot in served.absent]
        assert all(not image.any() for image in blank)
        logged = next(entry.payload for entry in workspace.log.entries() if entry.kind == "signals.heeded")
        assert (logged["absent"], logged["rows"], logged["unrecorded"]) == (6, 24, 17)
        assert logged["said"] == {"reserved": 5, "permitted": 1, "silent": 17, "unreadable": 1}
        with pytest.raises(InputError):
            workspace.request(ids=[gone[0]])
        outcome = workspace.run(workspace.request(block=ARTISTS[2]))
        assert outcome.guarantee is Guarantee.EXACT
        assert failed_steps(workspace, outcome) == []
        assert len(workspace.served().absent) == 14


def test_the_model_is_the_one_that_a_deletion_would_have_left(source, tmp_path):
    gone = of_artist(source, ARTISTS[1])
    data = {"source": "picture_folder", "path": str(source), "options": {"size": 16}}
    (tmp_path / "plain" / "works").mkdir(parents=True)
    with make_works(tmp_path / "plain" / "ws", data=data) as plain:
        slots = frozenset(slot for slot, name in enumerate(plain.book.ids) if name in gone)
        job = plain.fit_job(tmp_path / "without", absent=slots)
        expected = plain.adapter.fit(replace(job, leaves=plain.book.leaves())).digest
    with made(tmp_path, [said(record, Says.RESERVED) for record in gone]) as workspace:
        assert workspace.served().digest == expected


def test_with_need_record_a_row_of_which_nothing_is_known_is_left_out(source, tmp_path):
    known = of_artist(source, ARTISTS[0]) + of_artist(source, ARTISTS[1])
    with made(tmp_path, [said(record, Says.PERMITTED) for record in known], need_record=True) as workspace:
        assert len(workspace.served().absent) == 8


def test_signals_that_cannot_be_read_or_leave_nothing_make_no_workspace(source, tmp_path):
    rows = [said(record, Says.RESERVED) for artist in ARTISTS for record in of_artist(source, artist)]
    with pytest.raises(InputError, match="nothing is left"):
        made(tmp_path, rows)
    assert not (tmp_path / "ws").exists()
    with pytest.raises(DataError, match="twice"):
        made(tmp_path, [rows[0], rows[0]])
    assert not (tmp_path / "ws").exists()


def test_users_have_no_such_signals(tmp_path):
    from expunge.workflow.config import DataTable
    from expunge.workflow.heeding import enforcement_of

    class Events:
        items = ("item/1",)

    with pytest.raises(InputError, match="users"):
        enforcement_of(DataTable(source="interactions", signals="s.jsonl"), tmp_path, Events())


def test_a_model_from_elsewhere_is_not_adopted_where_works_were_opted_out(source, tmp_path):
    from expunge.workflow.adopt import adopt

    with made(tmp_path, [said(of_artist(source, ARTISTS[0])[0], Says.RESERVED)]) as workspace:
        state = workspace.state
        workspace.state = lambda: replace(state(), model=None)
        with pytest.raises(InputError, match="nobody knows"):
            adopt(workspace, [tmp_path / "model.safetensors"])
