"""One bank on all three engines, the last on a real local Ray: the same results; and that Ray is open to nobody."""

import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from expunge.core.errors import ExpungeError, InputError, MissingExtra
from expunge.core.plan import Compute
from expunge.core.protocols import Task
from expunge.farm.engine import parse_engine
from expunge.farm.executors.ray import Ray
from expunge.farm.tasks import RESULT
from farm.test_farm import answers, bank, children

ENGINES = ("inline://", "process://?n=2", "ray://local?n=2")
VISITOR = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).internal_kv_get(b"anything", None)
    print("let in")
except AuthenticationError:
    print("refused")
"""


def descendants(pid):
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]


def listening(pids):
    """Local addresses of the listening TCP sockets of these processes, as hex."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            inodes |= {target[8:-1]} if target.startswith("socket:") else set()
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]


def visitor(address, token):
    """What a process with this token gets from that Ray."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    plain |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = [sys.executable, "-c", VISITOR, address]
    return subprocess.run(command, env=plain, capture_output=True, text=True, timeout=100).stdout.strip()


def looked_at(seen):
    """A progress callback that looks at Ray from inside the run, once, when the first result is there."""

    def look(what, done, total):
        if done != 1 or seen:
            return
        import ray

        seen["addresses"] = listening(descendants(os.getpid()))
        seen["token"] = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        seen["mode"] = seen["token"].stat().st_mode & 0o077
        seen["usage"] = os.environ["RAY_USAGE_STATS_ENABLED"]
        gcs = ray.get_runtime_context().gcs_address
        seen["stranger"], seen["friend"] = visitor(gcs, "0" * 64), visitor(gcs, seen["token"].read_text())

    return look


installed = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")


@installed
def test_the_same_bank_on_inline_process_and_a_real_local_ray(tmp_path):
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    results, sketches, seen = {}, {}, {}
    for number, uri in enumerate(ENGINES):
        engine, mine = parse_engine(uri), bank(tmp_path / str(number), anchors=0, monitored=())
        look = looked_at(seen) if engine.executor == "ray" else lambda *step: None
        results[uri] = answers(mine.build(engine.executor, engine.compute, look))
        sketches[uri] = mine.sketches()
    for uri in ENGINES[1:]:
        assert results[uri] == results["inline://"]
        for name in ("train", "test", "inside", "correct"):
            assert np.array_equal(getattr(sketches[uri], name), getattr(sketches["inline://"], name)), (uri, name)
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert len(seen["addresses"]) >= 3, "control: Ray does listen"
    assert set(seen["addresses"]) <= loopback
    assert (seen["stranger"], seen["friend"]) == ("refused", "let in")
    assert (seen["mode"], seen["usage"]) == (0, "0")
    assert not seen["token"].exists(), "the token goes with the run"
    assert {name: value for name, value in os.environ.items() if name.startswith("RAY_")} == before


class FakeRay:
    """Runs a remote function when its result is asked for, and fails as Ray does."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            def __init__(self, cause):
                self.cause = cause

    def __init__(self, dies=False):
        self.dies, self.cancelled = dies, []

    def remote(self, **options):
        return lambda function: SimpleNamespace(remote=lambda *arguments: (function, arguments))

    def wait(self, references, num_returns):
        return references[:1], references[1:]

    def get(self, reference):
        if self.dies:
            raise self.exceptions.RayError("The worker died unexpectedly")
        try:
            return reference[0](*reference[1])
        except Exception as error:
            raise self.exceptions.RayTaskError(error) from error

    def cancel(self, reference, force):
        self.cancelled.append(reference)


@pytest.mark.parametrize("dies", [False, True])
def test_a_task_that_fails_or_dies_raises_our_error_stops_the_rest_and_publishes_nothing(tmp_path, monkeypatch, dies):
    fake = FakeRay(dies)
    monkeypatch.setattr("expunge.farm.executors.ray._connected", lambda *where: nullcontext(fake))
    broken = bank(tmp_path, data={"source": "none"})
    said = "worker process died" if dies else "no data named 'none'"
    with pytest.raises(ExpungeError, match=said):
        Ray().run(broken.tasks("bank"), tmp_path, Compute(processes=2, address="local"))
    assert len(fake.cancelled) == 1
    assert not list(tmp_path.glob(f"*/{RESULT}"))


@installed
def test_a_ray_that_somebody_else_imported_is_not_trusted(tmp_path, monkeypatch):
    """It would run without the token, or listen to the network: settings are read when ray is imported."""
    import expunge.farm.executors.ray as module

    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setattr(module, "_imported", {})
    with pytest.raises(InputError, match="imported ray with other settings"):
        Ray().run([Task(function="expunge.x:y", arguments={})], tmp_path, Compute(address="local"))


def test_ray_without_the_extra_is_one_typed_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"\[ray\]"):
        Ray().run([Task(function="expunge.x:y", arguments={})], tmp_path, Compute(address="local"))


def test_a_cluster_without_authentication_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InputError, match="runs anybody's code"):
        Ray().run([Task(function="expunge.x:y", arguments={})], tmp_path, Compute(address="10.0.0.7:6379"))
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
