"""What saw whom: a cached model that saw an erased record is not reused, and everything that derives from it is found."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.errors import ErasedRecord, IntegrityError
from expunge.core.plan import Compute
from expunge.core.protocols import Task
from expunge.farm.bank import Bank
from expunge.farm.index import BLANK, DESTROY, FATES, INDEX, RETIRE, Artefact, Index
from expunge.farm.manifest import MANIFEST, Seen, read_manifest
from expunge.farm.probing import ProbePlan
from expunge.farm.tasks import RESULT, key_of, published, run_task
from farm.test_farm import SPEC, bank, built, copy  # noqa: F401 - fixtures


@pytest.fixture
def local(monkeypatch):
    def answer(arguments, home, progress):
        return {"n": arguments["n"]}

    monkeypatch.setattr("expunge.farm.tasks._function", lambda name: answer)


# ---------------------------------------------------------------------------------------------------------------- seen


@given(mask=st.lists(st.booleans(), min_size=1, max_size=70), data=st.data())
def test_a_bitmap_is_the_set_it_was_made_of(mask, data):
    seen = Seen.of(np.array(mask))
    members = {slot for slot, inside in enumerate(mask) if inside}
    asked = data.draw(st.sets(st.integers(0, 100)))
    assert seen.among(asked) == sorted(members & asked)
    assert Seen.parse(seen.text(), len(mask)) == seen
    assert Seen.all_but(set(range(len(mask))) - members, len(mask)) == seen
    flipped = data.draw(st.integers(0, len(mask) - 1))
    other = Seen.of(np.array([inside ^ (slot == flipped) for slot, inside in enumerate(mask)]))
    assert other.digest != seen.digest


def test_the_bitmap_of_fifty_thousand_slots_is_small():
    seen = Seen.of(np.random.default_rng(0).random(50_000) < 0.5)
    assert len(seen.bits) == 6250
    assert len(seen.text()) < 8500


@pytest.mark.parametrize("text", ["", "!", "AAAA", Seen.all_but((), 80).text()])
def test_a_text_that_is_no_bitmap_of_this_size_is_refused(text):
    with pytest.raises(IntegrityError):
        Seen.parse(text, 16)


# ------------------------------------------------------------------------------------------------------- cached results


def test_a_cached_model_that_saw_an_erased_record_is_not_reused(copy):  # noqa: F811
    """The attack: after an erasure, the bank is asked for again and the finished members are simply handed out."""
    slot = 3
    saw = copy.inside()[:, slot]
    for task, inside in zip(copy.tasks("bank"), saw, strict=True):
        assert published(task, copy.folder) is not None, "control: it is there"
        if not inside:
            assert published(task, copy.folder, {slot}) is not None, "control: this one never saw the record"
            continue
        with pytest.raises(ErasedRecord, match="saw 1 records"):
            published(task, copy.folder, {slot})
        with pytest.raises(ErasedRecord):
            run_task(task, copy.folder, erased={slot})
    blank = ["" if number == slot else block for number, block in enumerate(copy.blocks)]
    with pytest.raises(ErasedRecord):
        Bank(copy.spec, copy.folder, blank).build("inline", Compute())


def test_a_member_smuggled_into_the_next_bank_is_not_reused(copy, tmp_path):  # noqa: F811
    """The next bank has the erased record among its tombstones; a member of the old one is put under its key."""
    slot = int(np.flatnonzero(copy.inside()[0])[0])
    following = bank(tmp_path / "next", tombstones=(slot,))
    old, new = copy.home("bank", 0), following.home("bank", 0)
    following._save_design()
    shutil.copytree(old, new)
    with pytest.raises(IntegrityError, match="another result"):
        following.build("inline", Compute())
    manifest = json.loads((new / MANIFEST).read_text())
    (new / MANIFEST).write_text(json.dumps({**manifest, "key": new.name}))
    with pytest.raises(ErasedRecord):
        following.build("inline", Compute())
    shutil.rmtree(new)
    assert len(following.build("inline", Compute())) == 6, "control: without it the bank is trained"
    assert not any(read_manifest(following.home("bank", n)).seen.among([slot]) for n in range(4))


def test_a_result_without_a_manifest_counts_as_having_seen_everything(copy):  # noqa: F811
    (copy.home("bank", 1) / MANIFEST).unlink()
    task = copy.tasks("bank")[1]
    with pytest.raises(ErasedRecord, match="does not say"):
        published(task, copy.folder, {0})
    assert published(task, copy.folder, ()) is not None, "control: nothing was erased"


def test_a_task_of_no_bank_says_nothing_and_is_refused_once_something_was_erased(local, tmp_path):
    task = Task(function="expunge.x:answer", arguments={"n": 1})
    run_task(task, tmp_path)
    assert published(task, tmp_path) == {"n": 1}
    with pytest.raises(ErasedRecord):
        published(task, tmp_path, {5})


@pytest.mark.parametrize("damage", ["bitmap", "digest", "result", "text"])
def test_a_manifest_that_was_changed_is_refused(copy, damage):  # noqa: F811
    """Somebody clears the erased record's bit, or swaps the result under the manifest."""
    task, home = copy.tasks("bank")[0], copy.home("bank", 0)
    slot = int(np.flatnonzero(copy.inside()[0])[0])
    manifest = json.loads((home / MANIFEST).read_text())
    without = Seen.of(copy.inside()[0] & (np.arange(len(copy.blocks)) != slot))
    changes = {"bitmap": {"seen": without.text()}, "digest": {"digest": without.digest}}
    (home / MANIFEST).write_text(json.dumps({**manifest, **changes.get(damage, {})}))
    if damage == "result":
        (home / RESULT).write_text('{"digest":"x"}')
    if damage == "text":
        (home / MANIFEST).write_text("{")
    with pytest.raises(IntegrityError):
        published(task, copy.folder, {slot})


def test_answers_that_compared_with_a_partner_saw_what_it_saw(copy, monkeypatch):  # noqa: F811
    monkeypatch.setattr("expunge.farm.tasks._function", lambda name: lambda *a: {})
    plan = ProbePlan(probes=(), block=(3,), neighbours=(), retained=(), population=(), seed=1)
    inside = copy.inside()
    for partner, expected in ((None, inside[0]), (1, inside[0] | inside[1]), ("/served", np.ones(inside.shape[1]))):
        arguments = {"bank": copy.spec, "kind": "bank", "number": 0, "partner": partner, "plan": plan}
        task = Task(function="expunge.farm.member:measure", arguments=arguments)
        run_task(task, copy.folder)
        assert np.array_equal(read_manifest(copy.folder / key_of(task)).seen.mask(), expected), partner


# --------------------------------------------------------------------------------------------------------------- index


def artefact(kind="k", path="p", fate=DESTROY, slots=(1,), total=8, files=1):
    mask = np.isin(np.arange(total), slots)
    return Artefact(kind=kind, path=path, fate=fate, seen=Seen.of(mask), files=files)


ARTEFACTS = st.lists(
    st.builds(
        artefact,
        kind=st.sampled_from(["a", "b"]),
        path=st.text("pqr/", min_size=1, max_size=4),
        fate=st.sampled_from(FATES),
        slots=st.sets(st.integers(0, 7)),
        files=st.integers(0, 5),
    ),
    max_size=8,
)


@given(artefacts=ARTEFACTS, slots=st.sets(st.integers(0, 9)))
def test_index_against_its_slow_twin(artefacts, slots):
    index, last = Index(artefacts), {a.path: a for a in artefacts}
    slow = {path for path, a in last.items() if any(a.seen.mask()[s] for s in slots if s < 8)}
    found = index.of(slots)
    assert {a.path for a in found} == slow
    assert sum(found.counts().values()) == len(found) == len(slow)
    assert found.files == sum(last[path].files for path in slow)
    assert {a.path for fate in FATES for a in found.with_fate(fate)} == slow
    assert len(Index(artefacts[:3]) | Index(artefacts[3:])) == len(index)


@given(artefacts=ARTEFACTS)
def test_index_survives_its_file(tmp_path_factory, artefacts):
    file = tmp_path_factory.mktemp("index") / INDEX
    index = Index(artefacts)
    index.write(file)
    assert Index.read(file).digest == index.digest
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"v":2,"artefacts":[]}', '{"v":1,"artefacts":[["p","k","keep",1,8,""]]}']
)
def test_a_damaged_index_is_refused(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(IntegrityError):
        Index.read(tmp_path / INDEX)


def test_the_index_of_a_bank_finds_members_sketches_and_what_a_crash_left(copy):  # noqa: F811
    canary = [slot for slot, block in enumerate(copy.blocks) if block == "canary"]
    saw = copy.inside()[:, canary[0]], copy.inside("anchors")[:, canary[0]]
    found = copy.index().of(canary)
    assert found.with_fate(RETIRE).counts() == {"bank models": int(saw[0].sum()), "anchors": int(saw[1].sum())}
    assert {a.path for a in found if a.kind == "bank models"} == {
        copy.home("bank", n).name for n in np.flatnonzero(saw[0])
    }
    assert found.with_fate(BLANK).counts() == {"score sketches": 6}
    assert len(found.with_fate(DESTROY)) == 0
    left = copy.folder / ("0" * 64)
    (left / "run").mkdir(parents=True)
    (left / "run" / "model.safetensors").write_bytes(b"unlearned, and not discarded")
    assert copy.index().of(canary).with_fate(DESTROY).counts() == {"cached answers": 1}
    assert copy.index().of([]).counts() == {}


def test_the_index_beside_the_bank_remembers_a_member_whose_folder_is_gone(copy):  # noqa: F811
    slot = int(np.flatnonzero(copy.inside()[2])[0])
    before = copy.index().of([slot]).counts()
    shutil.rmtree(copy.home("bank", 2))
    assert copy.index().of([slot]).counts() == before
    (copy.folder / INDEX).unlink()
    assert copy.index().of([slot]).counts() != before, "control: without what was recorded it would be forgotten"


def test_tombstones_are_seen_by_no_member(tmp_path):
    mine = bank(tmp_path, tombstones=(5, 9), pairs=2)
    mine._save_design()
    assert not mine.inside()[:, [5, 9]].any()
    assert mine.erased == {5, 9}
    assert replace(SPEC, tombstones=(5,)).digest != SPEC.digest
