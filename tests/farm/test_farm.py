"""Tasks, executors and a bank that is really trained: the same results everywhere, and none of them twice."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expunge.core.codec import canonical, encode
from expunge.core.errors import ExpungeError, InputError, IntegrityError
from expunge.core.plan import Compute
from expunge.core.protocols import Task
from expunge.farm.bank import SKETCH, Bank, BankSpec
from expunge.farm.executors.inline import Inline
from expunge.farm.executors.process import Process
from expunge.farm.opened import open_data
from expunge.farm.probing import ProbePlan
from expunge.farm.tasks import RESULT, discard, key_of, published, run_task
from expunge.testing.world import tree_digest

RECIPE = {
    "name": "tiny",
    "family": "mlp",
    "model": {"width": 16},
    "epochs": 3,
    "batch": 64,
    "lr": 0.1,
    "threads": 1,
}
SPEC = BankSpec(
    recipe=encode(RECIPE),
    data={"source": "digits", "options": {"canaries": 10}},
    seed="s",
    pairs=2,
    anchors=2,
    monitored=("canary",),
)


def bank(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    return Bank(replace(SPEC, **changes), folder, open_data(SPEC.data).train.blocks)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A bank of 2 pairs and 2 anchors, built in this process."""
    mine = bank(tmp_path_factory.mktemp("bank"))
    return mine, mine.build("inline", Compute())


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built[0].folder, tmp_path / "copy")
    return bank(tmp_path / "copy")


def answers(results):
    """Without the seconds, the only thing that may differ."""
    return [{key: value for key, value in result.items() if key != "seconds"} for result in results]


# -------------------------------------------------------------------------------------------------------------- tasks


def double(arguments, home, progress):
    """A task of the tests; counts its runs in its folder's parent."""
    with (home.parent / "runs").open("a") as file:
        file.write("x")
    if arguments.get("fail"):
        raise ValueError("broken on purpose")
    return {"twice": 2 * arguments["n"]}


@pytest.fixture
def local(monkeypatch):
    monkeypatch.setattr("expunge.farm.tasks._function", lambda name: double)


def test_a_task_is_run_once_and_read_back(local, tmp_path):
    task = Task(function="expunge.x:double", arguments={"n": 4})
    assert published(task, tmp_path) is None
    assert run_task(task, tmp_path) == run_task(task, tmp_path) == {"twice": 8}
    assert published(task, tmp_path) == {"twice": 8}
    assert (tmp_path / "runs").read_text() == "x"
    discard(task, tmp_path)
    assert published(task, tmp_path) is None
    discard(task, tmp_path)


def test_a_task_that_fails_publishes_nothing(local, tmp_path):
    task = Task(function="expunge.x:double", arguments={"n": 4, "fail": True})
    with pytest.raises(ValueError, match="on purpose"):
        run_task(task, tmp_path)
    assert published(task, tmp_path) is None


def test_label_does_not_count_and_everything_else_does():
    task = Task(function="expunge.x:y", arguments={"n": 4}, label="one")
    assert key_of(task) == key_of(replace(task, label="two"))
    others = [replace(task, function="expunge.x:z"), replace(task, arguments={"n": 5}), replace(task, arguments={})]
    assert len({key_of(task), *map(key_of, others)}) == 4
    assert key_of(replace(task, arguments={"a": 1, "b": 2})) == key_of(replace(task, arguments={"b": 2, "a": 1}))


@pytest.mark.parametrize("name", ["os:system", "expunge.farm.tasks", "expunge.farm.tasks:", "", "expungeful.x:y"])
def test_a_task_outside_the_package_is_refused(tmp_path, name):
    with pytest.raises(InputError):
        run_task(Task(function=name, arguments={}), tmp_path)


def test_damaged_result_is_refused_and_not_recomputed_over(local, tmp_path):
    task = Task(function="expunge.x:double", arguments={"n": 4})
    run_task(task, tmp_path)
    (tmp_path / key_of(task) / RESULT).write_bytes(b'{"twice":')
    with pytest.raises(InputError, match="does not parse"):
        run_task(task, tmp_path)


# ---------------------------------------------------------------------------------------------------------- executors


def test_inline_and_process_executors_give_the_same_bank(built, tmp_path):
    mine, results = built
    other = bank(tmp_path / "parallel")
    parallel = other.build("process", Compute(processes=2))
    assert answers(parallel) == answers(results)
    for kind in ("bank", "anchors"):
        left, right = mine.sketches(kind), other.sketches(kind)
        for name in ("train", "test", "inside", "correct"):
            assert np.array_equal(getattr(left, name), getattr(right, name)), (kind, name)


@pytest.mark.parametrize("executor", [Inline, Process])
def test_published_results_come_back_in_task_order_without_work(built, executor):
    mine, results = built
    tasks = mine.tasks("bank") + mine.tasks("anchors")
    shown = []
    before = tree_digest(mine.folder)
    found = executor().run(tasks[::-1], mine.folder, Compute(processes=2), lambda *a: shown.append(a))
    assert [dict(item) for item in found] == [dict(item) for item in results[::-1]]
    assert shown[-1] == ("models", 6, 6)
    assert tree_digest(mine.folder) == before


def test_a_worker_that_dies_is_said_in_our_words(tmp_path):
    mine, stop = bank(tmp_path), threading.Event()

    def shoot():
        while not stop.is_set():
            for pid in children(os.getpid()):
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    return
            time.sleep(0.01)

    marksman = threading.Thread(target=shoot)
    marksman.start()
    with pytest.raises(ExpungeError, match="worker process died") as caught:
        Process().run(mine.tasks("bank"), mine.folder, Compute(processes=1))
    stop.set()
    marksman.join()
    assert "run again" in caught.value.hint
    assert mine.build("inline", Compute())


def test_a_worker_that_dies_while_tasks_are_handed_in_is_said_in_our_words(tmp_path, monkeypatch):
    """The pool notices a death at `submit` too, when the worker falls before the last task is in the queue."""

    class Fragile(ProcessPoolExecutor):
        def submit(self, *args, **kwargs):
            raise BrokenProcessPool("a child process terminated abruptly")

    monkeypatch.setattr("expunge.farm.executors.process.ProcessPoolExecutor", Fragile)
    mine = bank(tmp_path)
    with pytest.raises(ExpungeError, match="worker process died"):
        Process().run(mine.tasks("bank"), mine.folder, Compute(processes=1))


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
if __name__ == "__main__":
    from farm.test_farm import bank
    from expunge.core.plan import Compute
    print("ready", flush=True)
    bank(Path(sys.argv[1])).build(sys.argv[2], Compute(processes=2))
"""


def children(pid):
    """Processes whose parent is `pid`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def killed_build(folder, executor, tmp_path, results):
    """Start a build in another process and kill -9 it as soon as so many results are published; returns its workers."""
    script = tmp_path / "build.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    child = subprocess.Popen([sys.executable, str(script), str(folder), executor], stdout=subprocess.PIPE)
    child.stdout.readline()
    while len(list(folder.glob(f"*/{RESULT}"))) < results:
        assert child.poll() is None, "the build ended before it could be killed"
        time.sleep(0.005)
    workers = children(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    return workers


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_killed_build_resumes_and_recomputes_nothing_that_was_published(built, tmp_path, executor):
    folder = tmp_path / "bank"
    workers = killed_build(folder, executor, tmp_path, results=2)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers):
        assert time.monotonic() < deadline, "workers outlived the build that was killed"
        time.sleep(0.05)
    done = {file: file.stat().st_mtime_ns for file in folder.glob("*/*") if (file.parent / RESULT).exists()}
    assert len([file for file in done if file.is_file()]) >= 2 * 2
    if executor == "inline":  # two quick workers may have finished the rest before they looked round
        assert len(list(folder.glob(f"*/{RESULT}"))) < 6, "control: there was something left to do"
    results = bank(folder).build("inline", Compute())
    assert answers(results) == answers(built[1])
    assert {file: file.stat().st_mtime_ns for file in done} == done


# ------------------------------------------------------------------------------------------------------------- a bank


def test_members_trained_on_their_half_and_say_so(built):
    mine, results = built
    inside = mine.inside()
    assert [result["records"] for result in results[:4]] == inside.sum(1).tolist()
    assert len({result["digest"] for result in results}) == 6
    sketches = mine.sketches()
    assert sketches.train.shape == (4, 1438)
    assert sketches.test.shape == sketches.correct.shape == (4, 359)
    assert (sketches.train <= 0).all()
    assert sketches.correct.mean() > 0.5


def test_no_model_checkpoint_or_transcript_of_a_member_is_left_but_its_weights(built):
    names = {file.name for file in built[0].folder.rglob("*") if file.is_file()}
    assert names == {"design.npz", "result.json", "manifest.json", "index.json", "sketch.npz", "model.safetensors"}
    private = [file for file in built[0].folder.rglob("*") if file.suffix in (".npz", ".json")]
    assert all(file.stat().st_mode & 0o077 == 0 for file in private)


def test_arms_hold_the_answers_of_the_right_models(built):
    mine, _ = built
    slots = [slot for slot, block in enumerate(mine.blocks) if block == "canary"]
    arms, sketches = mine.arms(slots), mine.sketches()
    assert arms.out.shape == arms.into.shape == (2, 10)
    assert arms.unlearned is None
    for pair, (out, into) in enumerate(mine.sides(slots)):
        assert np.array_equal(arms.out[pair], sketches.train[out, slots])
        assert np.array_equal(arms.into[pair], sketches.train[into, slots])
        assert np.array_equal(arms.into_population[pair], sketches.test[into])
        assert not sketches.inside[out, slots].any()


def test_forget_blanks_the_slots_in_every_sketch_and_nothing_else(built, copy):
    slots = [slot for slot, block in enumerate(copy.blocks) if block == "canary"]
    before, after = {}, {}
    for kind in ("bank", "anchors"):
        before[kind] = copy.sketches(kind)
    assert copy.forget(slots) == 6
    others = [slot for slot in range(1438) if slot not in slots]
    for kind in ("bank", "anchors"):
        after[kind] = copy.sketches(kind)
        assert (after[kind].train[:, slots] == 0).all()
        assert (before[kind].train[:, slots] != 0).any(), "control: there were answers to blank"
        assert np.array_equal(after[kind].train[:, others], before[kind].train[:, others])
        assert np.array_equal(after[kind].test, before[kind].test)
        assert np.array_equal(after[kind].inside, before[kind].inside)
    assert all(file.stat().st_mode & 0o077 == 0 for file in copy.folder.rglob("sketch.npz"))
    assert copy.forget(slots) == 6, "forgetting twice is harmless"


def test_forget_of_a_bank_that_was_never_finished_blanks_what_there_is(copy):
    shutil.rmtree(copy.home("bank", 1))
    assert copy.forget([3]) == 5


def test_forget_skips_a_member_without_sketch_and_removes_what_a_killed_build_left_half_written(copy):
    (copy.home("bank", 1) / SKETCH).unlink()
    leftover = copy.home("bank", 1) / ".sketch.4711.npz"
    leftover.write_bytes(b"answers about everybody")
    assert copy.forget([3]) == 5
    assert not leftover.exists()
    assert (copy.home("bank", 1) / "result.json").exists()
    assert len(copy.sketch_digests()) == 5


def test_members_without_the_design_they_were_trained_by_are_refused(copy):
    """A design drawn again after an erasure would be another one: who was IN would silently change."""
    logged, slots = copy.design_digest(), [slot for slot, block in enumerate(copy.blocks) if block == "canary"]
    (copy.folder / "design.npz").rename(copy.folder / "away")
    for look in (copy.inside, copy.sketches, copy.design_digest, lambda: copy.arms(slots), lambda: copy.sides(slots)):
        with pytest.raises(IntegrityError, match="of the bank is missing"):
            look()
    with pytest.raises(IntegrityError, match="of the bank is missing"):
        copy.build("inline", Compute())
    assert not (copy.folder / "design.npz").exists()
    (copy.folder / "away").rename(copy.folder / "design.npz")
    assert copy.design_digest() == logged


def test_sketch_digests_are_of_the_answers_and_not_of_the_file(built, copy):
    logged = copy.sketch_digests()
    assert list(logged) == ["bank 0", "bank 1", "bank 2", "bank 3", "anchors 0", "anchors 1"]
    assert logged == built[0].sketch_digests()
    assert len(set(logged.values())) == 6
    file = copy.home("bank", 2) / SKETCH
    with np.load(file) as found:
        arrays = dict(found)
    np.savez_compressed(file, **arrays)
    assert copy.sketch_digests() == logged, "the same answers in another file"
    arrays["train"][7] += 1e-3
    np.savez(file, **arrays)
    assert {name for name, digest in copy.sketch_digests().items() if digest != logged[name]} == {"bank 2"}
    copy.forget([3])
    assert not set(copy.sketch_digests().values()) & set(logged.values())
    assert copy.design_digest() == built[0].design_digest()


def test_erased_slots_are_inside_no_model(copy):
    blank = tuple("" if block == "canary" else block for block in copy.blocks)
    slots = [slot for slot, block in enumerate(copy.blocks) if block == "canary"]
    assert copy.sketches().inside[:, slots].any()
    assert not Bank(copy.spec, copy.folder, blank).sketches().inside[:, slots].any()


def test_missing_member_is_named(copy):
    (copy.home("bank", 2) / SKETCH).unlink()
    with pytest.raises(InputError, match="bank model 2 is missing"):
        copy.sketches()


def test_damaged_sketch_is_refused(copy):
    file = copy.home("bank", 2) / SKETCH
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(IntegrityError):
        copy.sketches()


def test_sketch_with_pickled_objects_is_refused(copy, tmp_path):
    file = copy.home("bank", 2) / SKETCH
    np.savez(file, train=np.array([{"a": 1}], dtype=object))
    with pytest.raises(IntegrityError):
        copy.sketches()


def unlearn_task(mine, slots, method, seed="x"):
    _, into = mine.sides(slots)[0]
    plan = ProbePlan(probes=(), block=tuple(slots), neighbours=(), retained=(0, 1), population=(0, 1), seed=1)
    arguments = {"bank": mine.spec, "number": into, "plan": plan, "method": method, "params": {}, "seed": seed}
    arguments["doses"] = []
    return Task(function="expunge.farm.member:unlearn", arguments=arguments)


def test_x_arm_of_retrain_differs_from_in_and_leaves_no_model(copy):
    slots = [slot for slot, block in enumerate(copy.blocks) if block == "canary"]
    task = unlearn_task(copy, slots, "retrain")
    found = run_task(task, copy.folder)
    assert not list((copy.folder / key_of(task)).rglob("*.safetensors"))
    arms = copy.arms(slots, [found, found])
    assert arms.unlearned.shape == (2, 10)
    assert arms.unlearned_population.shape == (2, 359)
    assert not np.allclose(arms.unlearned[0], arms.into[0])


def test_x_arm_of_an_approximate_method_depends_on_its_seed_and_leaves_the_bank_alone(copy):
    slots = [slot for slot, block in enumerate(copy.blocks) if block == "canary"]
    _, into = copy.sides(slots)[0]
    before = tree_digest(copy.home("bank", into))
    first, again, other = (
        run_task(unlearn_task(copy, slots, "finetune", seed), copy.folder) for seed in ("x", "x", "y")
    )
    assert first == again
    assert first["block"] != other["block"]
    assert tree_digest(copy.home("bank", into)) == before


def test_workers_follow_the_slot_book_of_the_banks_folder(built, tmp_path):
    """Rows that moved in the source come back into their slots, so the bank is the same bank."""
    data = open_data(SPEC.data)
    folder = tmp_path / "book"
    mine = bank(folder)
    (folder / "slots.json").write_bytes(canonical({"ids": list(data.train.ids), "blocks": list(data.train.blocks)}))
    assert run_task(mine.tasks("bank")[0], folder)["digest"] == built[1][0]["digest"]
    swapped = [data.train.ids[1], data.train.ids[0], *data.train.ids[2:]]
    blocks = [data.train.blocks[1], data.train.blocks[0], *data.train.blocks[2:]]
    pair = []
    for half in (0, 1):
        other = Bank(SPEC, tmp_path / f"swapped-{half}", blocks)
        other.folder.mkdir()
        (other.folder / "slots.json").write_bytes(canonical({"ids": swapped, "blocks": blocks}))
        pair.append(run_task(other.tasks("bank")[half], other.folder)["digest"])
    assert pair != [model["digest"] for model in built[1][:2]]  # the two rows may both be out of one half, not of both
