"""Run a training in a forked child, kill -9 it at the k-th event, finish it in another child, and print what came out.

usage: killed.py FOLDER SCENARIO=STRIDE...
Every STRIDE-th event is a kill; events are steps of training and both sides of every fsync, rename and copy.
This process imports torch and never computes with it, so that its forks are clean.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from expunge.core import registry
from expunge.testing.world import make_world, random_records
from expunge.training.checkpoint import load_tensors

# Imported once here and not in every fork: the families, and what torch loads with its first optimiser.
FAMILIES = [registry.load("models", name) for name in ("mlp", "convnet")]
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])


class Events:
    """Counts events; kills this process with SIGKILL at event number `last`."""

    def __init__(self, last):
        self.count, self.last = 0, last
        for module, name in ((os, "fsync"), (os, "replace"), (shutil, "copyfile")):
            setattr(module, name, self._around(getattr(module, name)))

    def tick(self, *_):
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def _around(self, call):
        def wrapped(*arguments, **named):
            self.tick()
            result = call(*arguments, **named)
            self.tick()
            return result

        return wrapped


def fit(folder, tick, **settings):
    return make_world(folder, **settings).fit("run", progress=tick)


def replay(folder, tick, **settings):
    """The original is there already; what is killed is the replay."""
    world = make_world(folder, **settings)
    forget = late_slot(world)
    job = world.job("run", forget, progress=tick)
    return world.adapter.replay(job, folder / "original", forget)


def late_slot(world):
    total = world.adapter.total_steps(world.job("x"))
    return next(
        frozenset({slot})
        for slot in range(len(world.data.train))
        if total / 3 < world.adapter.first_use(world.job("x"), frozenset({slot})) < total * 0.6
    )


IMAGES = random_records(24, (16, 16, 3), 4)
CONVNET = {"family": "convnet", "data": IMAGES, "model": {"width": 8, "wide": 8}, "averaging": 0.9, "flip": "random"}
SCENARIOS = {
    "fit": (fit, {}),
    "averaged": (fit, CONVNET),
    "sharded": (fit, {"shards": 2}),
    "replay": (replay, {}),
    "sharded-replay": (replay, {"shards": 2}),
    "no-checkpoints": (lambda f, t: make_world(f).fit("run", progress=t, keep_checkpoints=False), {}),
}


def child(work):
    """Run `work` in a fork; returns (its JSON answer, the signal it died of)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            answer = work()
        except Exception as error:  # noqa: BLE001 - the parent reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(text) if text else None, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def run(scenario, folder, last):
    work, settings = SCENARIOS[scenario]

    def body():
        events = Events(last)
        result = work(folder, events.tick, **settings)
        transcript = hashlib.sha256(result.transcript.read_bytes()).hexdigest()
        return {
            "events": events.count,
            "digest": result.digest,
            "transcript": transcript,
            "resumed_at": result.resumed_at,
        }

    return child(body)


def whole_checkpoints(folder):
    """Number of published checkpoints; every one of them can be read."""

    def body():
        files = sorted(folder.rglob("epoch-*.safetensors"))
        for file in files:
            load_tensors(file)
        return len(files)

    return child(body)[0]


def main(base, scenario, stride):
    base.mkdir()
    if "replay" in scenario:
        _, settings = SCENARIOS[scenario]
        child(lambda: make_world(base / "source", **settings).fit("original").digest)
    reference, _ = run(scenario, prepared(base, "uninterrupted"), -1)
    trials = []
    for last in range(0, reference["events"], stride):
        folder = prepared(base, f"killed-{last}")
        _, died = run(scenario, folder, last)
        checkpoints = whole_checkpoints(folder / "run")
        result, _ = run(scenario, folder, -1)
        trials.append({"kill": last, "signal": died, "checkpoints": checkpoints, **result})
    return {"reference": reference, "trials": trials}


def prepared(base, name):
    folder = base / name
    folder.mkdir()
    if (base / "source" / "original").exists():
        shutil.copytree(base / "source" / "original", folder / "original")
    return folder


if __name__ == "__main__":
    pairs = [argument.split("=") for argument in sys.argv[2:]]
    json.dump({name: main(Path(sys.argv[1]) / name, name, int(stride)) for name, stride in pairs}, sys.stdout)
