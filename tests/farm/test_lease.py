"""Leases: nothing is done twice, the dead are replaced, the slow are told, and what was published is never repeated."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from expunge.core.errors import LeaseLost
from expunge.core.plan import Compute
from expunge.core.protocols import Task
from expunge.farm.executors.inline import Inline
from expunge.farm.lease import SECONDS, Lease, busy
from expunge.farm.tasks import RESULT, key_of, run_task
from farm.builders import POINTS, counted, go, members, start, train


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr("expunge.farm.tasks._function", lambda name: train)


def older(path, seconds):
    """As if the last heartbeat had been so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def rewritten(path, **changes):
    age = path.stat().st_mtime
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    os.utime(path, (age, age))


# ------------------------------------------------------------------------------------------------------------ one lease


def test_one_holder_at_a_time_and_the_next_after_it_gave_back(tmp_path):
    with Lease.take(tmp_path) as lease:
        assert lease.held()
        assert busy(tmp_path)
        assert Lease.take(tmp_path) is None
        assert lease.path.stat().st_mode & 0o077 == 0
    assert not busy(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert Lease.take(tmp_path) is not None


def test_a_holder_that_fails_gives_back_at_once(tmp_path):
    with pytest.raises(ValueError, match="broken"), Lease.take(tmp_path):
        raise ValueError("broken")
    assert Lease.take(tmp_path) is not None


def test_of_many_that_find_an_abandoned_lease_one_gets_it(tmp_path):
    for number in range(20):
        home = tmp_path / str(number)
        home.mkdir()
        older(Lease.take(home).path, SECONDS + 1)
        gate = threading.Barrier(8)

        def contend(_, gate=gate, home=home):
            gate.wait()
            return Lease.take(home)

        with ThreadPoolExecutor(8) as pool:
            got = [lease for lease in pool.map(contend, range(8)) if lease is not None]
        assert len(got) == 1
        assert got[0].held()


def test_a_silent_holder_is_replaced_and_told(tmp_path):
    slow = Lease.take(tmp_path)
    assert Lease.take(tmp_path) is None, "control: it is held"
    older(slow.path, SECONDS + 1)
    quick = Lease.take(tmp_path)
    assert quick.held()
    assert not slow.held()
    with pytest.raises(LeaseLost):
        slow.check()
    with quick:
        slow.__enter__()
        slow.__exit__(None, None, None)
        assert quick.held(), "who lost the lease cannot give it back"


def test_work_stops_soon_after_the_lease_is_lost(tmp_path):
    slow = Lease.take(tmp_path, seconds=0.06)
    older(slow.path, 1)
    Lease.take(tmp_path)
    shown = []
    show = slow.guarded(lambda *step: shown.append(step))
    show("train", 0, 2)
    assert shown == [("train", 0, 2)], "control: nobody has noticed yet"

    def work():
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            show("train", 1, 2)
            time.sleep(0.005)

    with slow, pytest.raises(LeaseLost):
        work()


def test_the_heartbeat_keeps_a_lease_longer_than_it_lives(tmp_path):
    with Lease.take(tmp_path, seconds=0.5) as lease:
        time.sleep(1.2)
        assert Lease.take(tmp_path) is None
        assert lease.held()


def test_a_dead_holder_of_this_machine_is_replaced_at_once_and_one_elsewhere_after_its_time(tmp_path):
    path = Lease.take(tmp_path).path
    rewritten(path, born=1)
    assert not busy(tmp_path), "another process has its number now"
    rewritten(path, pid=2**22 + 1)
    assert not busy(tmp_path), "nobody has its number"
    rewritten(path, host="elsewhere/pid:[1]")
    assert busy(tmp_path), "nobody here can say whether that one lives"
    older(path, SECONDS + 1)
    assert not busy(tmp_path)


def test_a_lease_that_cannot_be_read_is_respected_until_it_is_old(tmp_path):
    path = Lease.take(tmp_path).path
    path.write_bytes(b'{"token":')
    assert busy(tmp_path)
    older(path, SECONDS + 1)
    assert not busy(tmp_path)


# ------------------------------------------------------------------------------------------------------- many builders


def test_threads_that_want_one_task_run_it_once_and_all_get_its_result(tmp_path, counting):
    task = Task(function="expunge.x:train", arguments={"number": 7, "seconds": 0.05})
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: run_task(task, tmp_path), range(6)))
    assert results == [{"member": 7}] * 6
    assert counted(tmp_path, "began") == ["7"]


def test_builders_on_one_folder_share_the_work_and_train_no_member_twice(tmp_path):
    builders = [start(tmp_path, 6, 0.2) for _ in range(2)]
    for builder in builders:
        go(builder)
    assert [builder.wait(60) for builder in builders] == [0, 0]
    assert sorted(counted(tmp_path, "began")) == [str(number) for number in range(6)]
    assert len(list(tmp_path.glob(f"*/{RESULT}"))) == 6
    assert not list(tmp_path.glob("*/lease-*")), "control: leases are given back"


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_work_goes_on_and_nothing_published_is_repeated(tmp_path, counting, point):
    """kill -9 while member 0 is leased, half trained, trained, between manifest and result, and after publishing."""
    name = "leased" if point == "never" else point
    (tmp_path / f"stop at {name}").touch()
    builder = start(tmp_path, 2, 0.02)
    go(builder)
    deadline = time.monotonic() + 30
    while not (tmp_path / "there").exists():
        assert time.monotonic() < deadline
        assert builder.poll() is None
        time.sleep(0.005)
    if point == "never":  # control: a live holder is waited for, however slow it is
        assert busy(tmp_path / key_of(members(2, 0.02)[0]))
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    results = Inline().run(members(2, 0.02), tmp_path, Compute())
    assert results == [{"member": 0}, {"member": 1}]
    finished_before = 1 if point in ("trained", "manifest written", "published") else 0
    again = 0 if point == "published" else 1
    assert counted(tmp_path, "began") == ["0"] * (1 + again) + ["1"]
    assert counted(tmp_path, "ended") == ["0"] * (finished_before + again) + ["1"]
    left = 1 if point == "published" else 0  # a dead holder's lease beside a result: nobody looks at it again
    assert len(list(tmp_path.glob("*/lease-*"))) == left
