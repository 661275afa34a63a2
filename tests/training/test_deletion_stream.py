"""Ten thousand deletions are one deletion; a killed process loses none of them and does none twice."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expunge.core.errors import InputError, IntegrityError
from expunge.testing.users import random_histories
from expunge.training.closed_form.gram import gram_of
from expunge.training.closed_form.inverse import inverse_of
from expunge.training.closed_form.stream import MANIFEST, DeletionStream, Pace

LAM, USERS, ITEMS = 5.0, 120, 24
PACE = Pace(batch=4, checkpoint=16)
QUEUE = [(7 * n) % USERS for n in range(70)]


@pytest.fixture
def rows():
    return random_histories(USERS, ITEMS, seed=5).matrix()


@pytest.fixture
def stream(tmp_path, rows):
    return DeletionStream.create(tmp_path / "stream", gram_of(rows), LAM)


def retrained(rows, queue=QUEUE):
    kept = np.setdiff1d(np.arange(rows.shape[0]), queue)
    return gram_of(rows[kept])


def is_a_retraining(stream, rows, queue=QUEUE):
    gram, inverse = stream.published()
    want = retrained(rows, queue)
    np.testing.assert_allclose(inverse, inverse_of(want, LAM), atol=1e-12)
    return np.array_equal(gram, want)


def test_a_stream_ends_at_the_model_that_never_had_them(stream, rows):
    marks, shown = [], []
    last = stream.run(QUEUE, rows, PACE, on_checkpoint=marks.append, progress=lambda *a: shown.append(a))
    assert is_a_retraining(stream, rows)
    assert [mark.done for mark in marks] == [0, 16, 32, 48, 64, 70]
    assert last.batches == 18
    assert shown[-1] == ("deletions", 70, 70)
    assert float(last.residual) < 1e-12


def test_without_the_stream_the_model_still_has_them(stream, rows):
    """Control."""
    gram, _ = stream.published()
    assert not np.array_equal(gram, retrained(rows))


def test_the_state_before_is_removed_at_the_end(stream, rows):
    stream.run(QUEUE, rows, PACE)
    assert sorted(file.suffix for file in stream.folder.iterdir()) == [".gram", ".inverse", ".json"]


def test_a_stopped_stream_goes_on_where_it_was(stream, rows):
    class Stop(Exception):
        pass

    def stop(mark):
        if mark.done == 32:
            raise Stop

    with pytest.raises(Stop):
        stream.run(QUEUE, rows, PACE, on_checkpoint=stop)
    again = DeletionStream(stream.folder)
    marks = []
    again.run(QUEUE, rows, PACE, on_checkpoint=marks.append)
    assert marks[0].done == 32, "a log that missed it is told again"
    assert is_a_retraining(again, rows)


def test_a_longer_queue_is_taken_up(stream, rows):
    stream.run(QUEUE[:20], rows, PACE)
    stream.run(QUEUE, rows, PACE)
    assert is_a_retraining(stream, rows)


@pytest.mark.parametrize(
    ("queue", "words"),
    [([1, 2, 1], "twice"), (QUEUE[:10], "not the queue"), ([QUEUE[1], QUEUE[0], *QUEUE[2:]], "not the queue")],
)
def test_another_queue_is_refused(stream, rows, queue, words):
    stream.run(QUEUE[:20], rows, PACE)
    before = stream.mark
    with pytest.raises(InputError, match=words):
        stream.run(queue, rows, PACE)
    assert stream.mark == before


def test_rows_purged_before_the_checkpoint_are_refused_and_not_skipped(stream, rows):
    blank = random_histories(USERS, ITEMS, seed=5).without([QUEUE[30]]).matrix()
    with pytest.raises(InputError, match="have no events"):
        stream.run(QUEUE, blank, PACE)


def test_p_is_built_anew_after_so_many_deletions(stream, rows):
    last = stream.run(QUEUE, rows, replace(PACE, refresh_every=30))
    assert last.refreshes == 2
    assert last.since_refresh == 6
    assert is_a_retraining(stream, rows)


def test_a_drifted_inverse_is_built_anew(tmp_path, rows):
    """float32 in the working copy: the residual says so at the first checkpoint."""
    gram = gram_of(rows)
    rough = inverse_of(gram, LAM).astype(np.float32).astype(float)
    stream = DeletionStream.create(tmp_path / "rough", gram, LAM, rough)
    last = stream.run(QUEUE, rows, PACE)
    assert last.refreshes == 1
    assert is_a_retraining(stream, rows)


@pytest.mark.parametrize("damage", ["short", "gone"])
def test_a_damaged_buffer_is_refused(stream, rows, damage):
    file = stream.folder / "a.inverse"
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(IntegrityError, match=r"a\.inverse"):
        DeletionStream(stream.folder).published()


def test_a_folder_with_a_stream_is_not_overwritten(stream, rows):
    with pytest.raises(InputError, match="already holds"):
        DeletionStream.create(stream.folder, gram_of(rows), LAM)


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from training.test_deletion_stream import PACE, QUEUE, USERS, ITEMS
from expunge.testing.users import random_histories
from expunge.training.closed_form.stream import DeletionStream
def slowly(what, done, total):
    Path({folder!r}, "progress").write_text(str(done))
    time.sleep(.02)
DeletionStream(Path({folder!r}, "stream")).run(QUEUE, random_histories(USERS, ITEMS, seed=5).matrix(), PACE, progress=slowly)
"""


@pytest.mark.parametrize("at", [4, 24, 40, 68])
def test_killed_with_9_midway_and_resumed_nothing_is_lost_or_done_twice(tmp_path, rows, at):
    stream = DeletionStream.create(tmp_path / "stream", gram_of(rows), LAM)
    text = CHILD.format(tests=str(Path(__file__).resolve().parents[1]), folder=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", text], env=dict(os.environ))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        file = tmp_path / "progress"
        if file.exists() and int(file.read_text() or 0) >= at:
            break
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    stream = DeletionStream(tmp_path / "stream")
    assert stream.mark.done % PACE.checkpoint == 0
    assert stream.mark.done <= at + 16
    assert is_a_retraining(stream, rows, QUEUE[: stream.mark.done]), "the published state is whole"
    stream.run(QUEUE, rows, PACE)
    assert is_a_retraining(stream, rows)
    assert (tmp_path / "stream" / MANIFEST).exists()
