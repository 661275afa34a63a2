"""Score sketches: one bit and one float32 per record and model, and they judge a deletion when the record is gone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.errors import InputError, IntegrityError
from expunge.farm import member
from expunge.farm.bank import Bank
from expunge.farm.member import adapter_for, true_log_probabilities
from expunge.farm.opened import open_data
from expunge.farm.sketch import RecordSketch, sides_of
from farm.test_farm import SPEC, built, copy  # noqa: F401 - fixtures


def canaries(mine):
    return [slot for slot, block in enumerate(mine.blocks) if block == "canary"]


def recomputed(mine, slots):
    """The same arms by loading every model and showing it the true records: needs the pixels.

    In batches of the same composition: a record's answer moves by about 1e-6 with the records beside it.
    """
    data = open_data(SPEC.data)
    adapter = adapter_for(SPEC.recipe, data)
    inside = mine.inside()
    out, into = [], []
    for pair in range(SPEC.pairs):
        for number in (2 * pair, 2 * pair + 1):
            model = adapter.load(mine.home("bank", number) / "run" / "model.safetensors")
            answers = true_log_probabilities(adapter, model, data.train.images, data.train.labels)
            (into if inside[number, slots[0]] else out).append(answers[slots])
    return np.array(out), np.array(into)


def test_arms_from_sketches_are_those_of_recomputation_and_need_no_pixels(copy, monkeypatch):  # noqa: F811
    slots = canaries(copy)
    kept = [record.pack() for record in copy.sketches_of(slots)]
    out, into = recomputed(copy, slots)
    copy.forget(slots)
    data = open_data(SPEC.data)
    images = data.train.images.copy()
    images[slots] = 0
    monkeypatch.setattr(member, "open_data", lambda named: replace(data, train=replace(data.train, images=images)))
    blank = Bank(copy.spec, copy.folder, ["" if block == "canary" else block for block in copy.blocks])
    assert (blank.sketches().train[:, slots] == 0).all(), "control: the bank itself has forgotten"
    with pytest.raises(InputError, match="erased"):
        blank.sketches_of(slots)
    arms = blank.arms_of([RecordSketch.unpack(data, 4) for data in kept])
    assert np.array_equal(arms.out, out)
    assert np.array_equal(arms.into, into)
    assert arms.unlearned is None
    assert not np.allclose(arms.out, arms.into), "control: the arms differ"


def test_arms_of_slots_and_of_their_sketches_are_the_same(built):  # noqa: F811
    mine, slots = built[0], canaries(built[0])
    answers = [{"block": [-1.0] * 10, "population": [-2.0] * 359}] * 2
    one, two = mine.arms(slots, answers), mine.arms_of(mine.sketches_of(slots), answers)
    for name in one.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert mine.sides(slots) == sides_of(mine.sketches_of(slots))


def test_a_record_of_a_bank_of_sixty_four_takes_264_bytes():
    record = RecordSketch(inside=np.arange(64) % 2 == 0, scores=np.zeros(64, np.float32))
    assert len(record.pack()) == 264


@given(models=st.integers(1, 40), data=st.data())
def test_a_sketch_survives_its_bytes(models, data):
    bits = data.draw(st.lists(st.booleans(), min_size=models, max_size=models))
    scores = data.draw(st.lists(st.floats(-1e4, 0, width=32), min_size=models, max_size=models))
    record = RecordSketch(inside=np.array(bits), scores=np.array(scores, np.float32))
    packed = record.pack()
    assert len(packed) == -(-models // 8) + 4 * models
    found = RecordSketch.unpack(packed, models)
    assert np.array_equal(found.inside, record.inside)
    assert np.array_equal(found.scores, record.scores)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf, 0.5])
def test_bytes_that_are_no_sketch_are_refused(score):
    record = RecordSketch(inside=np.array([True, False]), scores=np.array([-1, score], np.float32))
    with pytest.raises(IntegrityError, match="not log-probabilities"):
        RecordSketch.unpack(record.pack(), 2)
    for data, models in ((record.pack()[:-1], 2), (record.pack(), 3), (b"", 2)):
        with pytest.raises(IntegrityError, match="another bank"):
            RecordSketch.unpack(data, models)


def test_sketches_of_no_block_of_pairs_are_refused(built):  # noqa: F811
    mine = built[0]
    columns = mine.inside().T
    other = next(slot for slot in range(len(columns)) if not np.array_equal(columns[slot], columns[0]))
    mixed = mine.sketches_of([0, other])
    odd = [RecordSketch(inside=np.array([True]), scores=np.array([-1], np.float32))]
    same = [RecordSketch(inside=np.array([True, True]), scores=np.array([-1, -1], np.float32))]
    for records in (mixed, odd, same, []):
        with pytest.raises(InputError, match="not of one block"):
            sides_of(records)
    shorter = [RecordSketch(inside=np.array([True, False]), scores=np.array([-1, -1], np.float32))]
    with pytest.raises(InputError, match="another bank"):
        mine.arms_of(shorter)
