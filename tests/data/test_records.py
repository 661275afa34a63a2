from dataclasses import replace

import numpy as np
import pytest

from expunge.core.errors import DataError, InputError, InputProblems
from expunge.data._records import ImageRecords, check_records
from expunge.data.digits import Digits
from expunge.testing.world import random_records


def records(**changes):
    train = random_records(6, (4, 4, 1), 3).train
    return replace(train, **changes)


def test_good_records_pass_unchanged():
    good = records()
    assert check_records(good, 3, "test") is good


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": np.zeros((6, 4, 4, 1), np.float32)}, "float32"),
        ({"images": np.zeros((6, 16), np.uint8)}, "expected uint8"),
        ({"labels": np.array([0, 1, 2, 3, 0, 1])}, "labels outside 0..2, the first is 3 at row 3"),
        ({"labels": np.array([0, 1, 2, -1, 0, 1])}, "the first is -1"),
        ({"labels": np.zeros(5, np.int64)}, "different lengths"),
        ({"ids": ("a", "b", "c", "d", "e", "a")}, "1 duplicate"),
        ({"blocks": ("a",)}, "different lengths"),
    ],
)
def test_bad_records_are_refused_with_what_is_wrong(changes, said):
    with pytest.raises(DataError, match=said):
        check_records(records(**changes), 3, "test")


def test_all_problems_are_reported_at_once():
    with pytest.raises(DataError) as caught:
        check_records(records(ids=("a",) * 6, labels=np.full(6, 9), blocks=("a",)), 3, "test")
    assert all(word in str(caught.value) for word in ("duplicate", "outside", "lengths"))


def test_no_records_are_refused():
    empty = ImageRecords(ids=(), images=np.zeros((0, 2, 2, 1), np.uint8), labels=np.zeros(0, np.int64), blocks=())
    with pytest.raises(DataError, match="no records"):
        check_records(empty, 3, "test")


def test_unknown_ids_and_blocks_are_all_named():
    good = records()
    assert good.slots([good.ids[3], good.ids[0]]) == [3, 0]
    with pytest.raises(InputProblems) as caught:
        good.slots([good.ids[0], "nobody", "noone"])
    assert len(caught.value.problems) == 2
    with pytest.raises(InputProblems, match="nowhere"):
        good.in_block("nowhere")


def test_content_digest_depends_on_pixels_label_and_shape():
    good = records()
    labels = good.labels.copy()
    labels[0] += 1
    pixels = good.images.copy()
    pixels[0, 0, 0, 0] ^= 1
    digests = {
        good.content_digest(0),
        replace(good, labels=labels).content_digest(0),
        replace(good, images=pixels).content_digest(0),
        replace(good, images=good.images.reshape(6, 2, 8, 1)).content_digest(0),
    }
    assert len(digests) == 4


# ------------------------------------------------------------------------------------------------------------ aligned


def source(order, drop=()):
    """The same data set with its training rows in another order, some gone, and one that is new."""
    whole = random_records(6, (4, 4, 1), 3)
    rows = [row for row in order if row not in drop]
    train = whole.train
    moved = ImageRecords(
        ids=(*(train.ids[row] for row in rows), "train/new"),
        images=np.concatenate([train.images[rows], np.full((1, 4, 4, 1), 9, np.uint8)]),
        labels=np.concatenate([train.labels[rows], [1]]),
        blocks=(*(train.blocks[row] for row in rows), "train/new"),
    )
    return whole, replace(whole, train=moved)


def test_moved_rows_come_back_into_their_slots_and_new_ones_are_left_out():
    whole, moved = source([3, 1, 5, 0, 2, 4])
    found = moved.aligned(whole.train.ids, whole.train.blocks).train
    assert found.ids == whole.train.ids
    assert np.array_equal(found.images, whole.train.images)
    assert np.array_equal(found.labels, whole.train.labels)
    assert not np.array_equal(moved.train.images[:6], whole.train.images), "control: the rows did move"


def test_record_erased_from_the_source_leaves_a_blank_tombstone():
    whole, moved = source([3, 1, 5, 0, 4], drop=(2,))
    ids = [None if slot == 2 else name for slot, name in enumerate(whole.train.ids)]
    found = moved.aligned(ids, whole.train.blocks).train
    assert len(found) == 6
    assert (found.images[2] == 0).all()
    assert found.labels[2] == 0
    assert found.ids[2] == "tombstone/2"
    assert np.array_equal(found.images[3:], whole.train.images[3:])


def test_record_that_is_still_in_the_source_is_blanked_too():
    """The owner has not removed it yet: training must not be able to read it through its slot."""
    whole, _ = source(range(6))
    ids = [None if slot == 2 else name for slot, name in enumerate(whole.train.ids)]
    assert (whole.aligned(ids, whole.train.blocks).train.images[2] == 0).all()


def test_retained_record_missing_from_the_source_is_refused():
    whole, moved = source([3, 1, 5, 0, 4], drop=(2,))
    with pytest.raises(DataError) as caught:
        moved.aligned(whole.train.ids, whole.train.blocks)
    assert caught.value.got == whole.train.ids[2]


# ------------------------------------------------------------------------------------------------------------- digits


def test_digits_are_the_same_bytes_every_time():
    first, second = Digits().open(), Digits().open()
    assert first.train.ids == second.train.ids
    assert first.train.images.tobytes() == second.train.images.tobytes()
    assert first.train.labels.tobytes() == second.train.labels.tobytes()
    assert (len(first.train), len(first.test)) == (1438, 359)


def test_digits_have_unique_ids_and_disjoint_splits():
    data = Digits().open()
    assert len(set(data.train.ids)) == 1438
    assert not set(data.train.ids) & set(data.test.ids)
    assert all(name.startswith("train/") for name in data.train.ids)
    assert all(name.startswith("test/") for name in data.test.ids)
    assert data.train.images.max() == 255


@pytest.mark.parametrize(("canaries", "blocks"), [(1, 1), (20, 1), (21, 4), (200, 10)])
def test_canaries_are_mislabelled_and_everything_else_is_true(canaries, blocks):
    planted, clean = Digits(canaries=canaries, canary_blocks=blocks).open(), Digits(canaries=0).open()
    inside = np.array(["canary" in name for name in planted.train.ids])
    assert inside.sum() == canaries
    assert (planted.train.labels[inside] != clean.train.labels[inside]).all(), "a canary never has its true label"
    assert (planted.train.labels[~inside] == clean.train.labels[~inside]).all()
    assert np.array_equal(planted.train.images, clean.train.images)
    names = {planted.train.blocks[slot] for slot in np.flatnonzero(inside)}
    assert len(names) == blocks
    assert all(planted.train.blocks[slot] == planted.train.ids[slot] for slot in np.flatnonzero(~inside))
    if blocks > 1:
        sizes = [len(planted.train.in_block(name)) for name in names]
        assert max(sizes) - min(sizes) <= 1


def test_canaries_of_digits_get_many_different_labels():
    data = Digits().open()
    labels = {int(data.train.labels[slot]) for slot in data.train.in_block("canary")}
    assert len(labels) >= 5


@pytest.mark.parametrize("options", [{"canaries": -1}, {"canaries": 201}, {"canary_blocks": 0}, {"path": "/x"}])
def test_bad_options_of_digits_are_refused(options):
    with pytest.raises(InputError):
        Digits(**options)
