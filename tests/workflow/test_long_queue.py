"""Hundreds of users in one case: worked off as a stream, killed and gone on with, and nothing of the stream stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from expunge import Workspace
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.training.closed_form import queued
from expunge.workflow.lists import read_ids
from recommending import make

MANY = 20


@pytest.fixture
def few_are_many(monkeypatch):
    """What 10,000 users of 100,000 are, at this size."""
    monkeypatch.setattr(queued, "LONG", 8)
    monkeypatch.setattr(queued, "BATCH", 2)
    monkeypatch.setattr(queued, "CHECKPOINT", 6)


def listed(workspace, path, many=MANY):
    lengths = np.diff(workspace.data.train.indptr)
    names = [workspace.book.ids[slot] for slot in np.flatnonzero(lengths)[:many].tolist()]
    path.write_text("\n".join(names) + "\n")
    return names


def queues(root):
    return list((root / "store" / "runs").glob(f"*/{queued.PREFIX}*"))


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from expunge import Workspace
from expunge.training.closed_form import queued
from expunge.workflow.intake import find_case
queued.LONG, queued.BATCH, queued.CHECKPOINT = 8, 2, 6
def progress(what, done, total):
    if what == "deletions":
        print(done, flush=True)
        if done == {last}:
            os.kill(os.getpid(), signal.SIGKILL)
with Workspace(Path({root!r})) as workspace:
    workspace.progress = progress
    workspace.run(find_case(workspace))
"""


def child(root, last):
    code = CHILD.format(tests=str(Path(__file__).parents[1]), root=str(root), last=last)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout, done.stderr[-3000:]
    return done.returncode, [int(line) for line in done.stdout.split()]


def test_a_case_of_many_users_killed_midway_is_gone_on_with(tmp_path):
    """Attack: kill -9 between two checkpoints. What was durable is not done again, what was not is not lost."""
    with make(tmp_path / "w") as workspace:
        names = listed(workspace, tmp_path / "ids.txt")
        workspace.request(ids=read_ids(tmp_path / "ids.txt"))
    code, seen = child(tmp_path / "w", last=16)
    assert (code, seen[-1]) == (-signal.SIGKILL, 16)
    assert len(queues(tmp_path / "w")) == 1
    code, seen = child(tmp_path / "w", last=-1)
    assert (code, seen[:2], seen[-1]) == (0, [14, 16], MANY), "12 were durable"
    assert not queues(tmp_path / "w")
    with Workspace(tmp_path / "w") as workspace:
        assert not {*names} & {*workspace.book.ids}
        served = workspace.root / workspace.served().run
        model = workspace.adapter.load(served / "model.safetensors")
        kept = [slot for slot, name in enumerate(workspace.book.ids) if name is not None]
        rows = workspace.adapter.matrix(workspace.data.train)
        assert np.array_equal(model.gram, (rows[kept].T @ rows[kept]).toarray())
        assert [entry.kind for entry in workspace.log.entries()].count("candidate.executed") == 1


def test_a_stream_of_another_model_or_of_other_users_is_destroyed(tmp_path, few_are_many):
    """Attack: what lies in the run's folder was begun for somebody else. Going on with it would skip these users."""
    with make(tmp_path / "w") as workspace:
        source = workspace.root / workspace.served().run
        rows = workspace.adapter.matrix(workspace.data.train)
        run = tmp_path / "run"
        run.mkdir()
        first, second = rows[:10], rows[10:20]
        start = lambda: workspace.adapter._stored_pair(source)  # noqa: E731
        for before in (first, second):
            queued.worked_off(run, "a model", before, 200.0, start, lambda *_: None)
        assert len(list(run.iterdir())) == 1
        gram, _ = queued.worked_off(run, "a model", second, 200.0, lambda: pytest.fail("begun"), lambda *_: None)
        assert np.array_equal(gram, start()[0] - (second.T @ second).toarray())
        queued.retire(run)
        assert not list(run.iterdir())


def test_a_stream_killed_while_it_is_destroyed_is_begun_anew(tmp_path, monkeypatch, few_are_many):
    """Attack: kill -9 between the files of a stream that is done. What is left must not stop the case for ever."""
    with make(tmp_path / "w") as workspace:
        source = workspace.root / workspace.served().run
        rows = workspace.adapter.matrix(workspace.data.train)[:10]
        start = lambda: workspace.adapter._stored_pair(source)  # noqa: E731
        run = tmp_path / "run"
        run.mkdir()
        wanted, _ = queued.worked_off(run, "a model", rows, 200.0, start, lambda *_: None)
        wanted = wanted.copy()

        def killed(file, done=[]):  # noqa: B006
            if done:
                raise KeyboardInterrupt
            done.append(file)
            file.unlink()

        with monkeypatch.context() as during:
            during.setattr(queued, "destroy_file", killed)
            with pytest.raises(KeyboardInterrupt):
                queued.retire(run)
        again, _ = queued.worked_off(run, "a model", rows, 200.0, start, lambda *_: None)
        assert np.array_equal(again, wanted)


@pytest.mark.parametrize("family", ["ease", "weighted_ease"])
def test_a_long_queue_and_a_short_one_come_to_the_same_model(tmp_path, monkeypatch, few_are_many, family):
    found = {}
    for name, long in (("stream", 8), ("at once", 10**6)):
        monkeypatch.setattr(queued, "LONG", long)
        (tmp_path / name).mkdir()
        with make(tmp_path / name / "w", family=family) as workspace:
            outcome = workspace.run(workspace.request(ids=listed(workspace, tmp_path / name / "ids.txt")))
            assert outcome.guarantee is Guarantee.EXACT
            found[name] = workspace.served().digest
    assert found["stream"] == found["at once"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1"),
        (b"a\n\nb\n", "line 2"),
        (b"a\x00b\n", "line 1"),
        (b"\xff\xfe", "UTF-8"),
        (b"a\xe2\x80\xa8b", "line 1"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, content, words):
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_ids(tmp_path / "ids.txt")


def test_a_list_without_end_is_refused(tmp_path):
    """Attack: a pipe or a device in place of a file."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="no file"):
            read_ids(path)


def test_a_list_may_come_from_another_system(tmp_path):
    (tmp_path / "ids.txt").write_bytes("\ufeffuser/ä 1\r\nuser/2\r\n".encode())
    assert read_ids(tmp_path / "ids.txt") == ["user/ä 1", "user/2"]
