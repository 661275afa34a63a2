"""A builder in a process of its own that counts its trainings, and can be stopped at a chosen point to be shot."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from expunge.core.plan import Compute
from expunge.core.protocols import Task
from expunge.farm import tasks
from expunge.farm.executors.inline import Inline

POINTS = ("leased", "half trained", "trained", "manifest written", "published", "never")


def train(arguments, home, progress):
    """Counts how often each member's training was begun and ended, in files beside the tasks."""
    note(home.parent, f"began {arguments['number']}")
    stop(home.parent, "leased")
    for step in range(4):
        time.sleep(arguments["seconds"] / 4)
        progress("train", step, 4)
        if step == 1:
            stop(home.parent, "half trained")
    note(home.parent, f"ended {arguments['number']}")
    return {"member": arguments["number"]}


def members(count, seconds):
    """Tasks whose arguments name a member of nothing in particular."""
    return [Task(function="expunge.x:train", arguments={"number": n, "seconds": seconds}) for n in range(count)]


def note(folder, text):
    """One line in the count; appended in one write, so builders do not tear each other's."""
    with (folder / "count").open("a") as file:
        file.write(text + "\n")


def counted(folder, what):
    """How often each member was begun or ended."""
    lines = (folder / "count").read_text().split("\n")
    return [line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} ")]


def stop(folder, point):
    """Wait here for the shot, if this is the chosen point and nobody was shot yet."""
    if (folder / f"stop at {point}").exists():
        (folder / f"stop at {point}").rename(folder / "there")
        time.sleep(60)


def patched():
    """Put the counting task and the stops in place, in this process."""
    tasks._function = lambda name: train
    publish, write = tasks._publish, tasks.write_file

    def slow_publish(task, home, result):
        stop(home.parent, "trained")
        publish(task, home, result)
        stop(home.parent, "published")

    def slow_write(path, data, **mode):
        stop(path.parent.parent, "manifest written")
        write(path, data, **mode)

    tasks._publish, tasks.write_file = slow_publish, slow_write


def start(folder, count, seconds):
    """A builder as a process; it prints `ready` once it has imported everything."""
    command = [sys.executable, __file__, str(folder), str(count), str(seconds)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def go(child):
    """Let a builder that is ready begin."""
    child.stdin.write("go\n")
    child.stdin.flush()


if __name__ == "__main__":
    patched()
    print("ready", flush=True)
    sys.stdin.readline()
    Inline().run(members(int(sys.argv[2]), float(sys.argv[3])), Path(sys.argv[1]), Compute())
