"""The slot book on disk: what anybody may have edited there is found before it is used."""

import json

import numpy as np
import pytest

from expunge.core.codec import canonical
from expunge.core.errors import IntegrityError
from expunge.testing.world import random_records
from expunge.workflow.slots import SlotBook

KEY = bytes(range(32))
LAST = 47


@pytest.fixture
def book():
    return SlotBook.ingest(random_records(48, (4, 4, 1), 4).train, KEY)


@pytest.fixture
def file(book, tmp_path):
    book.save(tmp_path / "slots.json")
    return tmp_path / "slots.json"


def edit(file, change):
    plain = json.loads(file.read_text())
    change(plain)
    file.write_bytes(canonical(plain))


def put(slot, column, value):
    def change(plain):
        plain["rows"][slot][column] = value

    return change


def test_what_was_saved_is_loaded_also_after_an_erasure(book, file):
    again = SlotBook.load(file, KEY)
    assert (again.ids, again.digests, again.manifest().root) == (book.ids, book.digests, book.manifest().root)
    book.erased([3, LAST]).save(file)
    again = SlotBook.load(file, KEY)
    assert again.tombstones == {3, LAST}
    assert again.manifest().root == book.manifest([3, LAST]).root


TAMPERED = {
    "digest": (put(5, 1, "ab" * 32), "slot 5"),
    "id": (put(5, 0, "train/9/9999"), "slot 5"),
    "id leaf": (put(5, 3, "ab" * 32), "slot 5"),
    "content leaf": (put(LAST, 4, "ab" * 32), f"slot {LAST}"),
    "leaf that is none": (put(5, 4, "AB" * 32), "slot 5"),
    "leaf of another type": (put(5, 4, 7), "slot 5"),
    "digest without id": (put(5, 0, None), "slot 5"),
    "id without digest": (put(5, 1, None), "slot 5"),
    "row twice": (lambda plain: plain["rows"].append(plain["rows"][5]), "slot 48"),
    "two rows swapped in part": (lambda plain: put(5, 1, plain["rows"][6][1])(plain), "slot 5"),
    "a longer row": (lambda plain: plain["rows"][5].append("x"), "not a slot book"),
    "a shorter row": (lambda plain: plain["rows"][5].pop(), "not a slot book"),
    "no rows": (lambda plain: plain["rows"].clear(), "not a slot book"),
    "another version": (lambda plain: plain.update(v=2), "version"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_r1_a_tampered_slot_book_is_refused_and_the_slot_named(file, case):
    change, said = TAMPERED[case]
    edit(file, change)
    with pytest.raises(IntegrityError, match=said):
        SlotBook.load(file, KEY)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"v":1}', b'{"v":1,"rows":7}', b"\xff"])
def test_what_is_no_slot_book_is_an_integrity_error(file, raw):
    file.write_bytes(raw)
    with pytest.raises(IntegrityError, match="not a slot book"):
        SlotBook.load(file, KEY)


def test_another_key_is_refused(file):
    with pytest.raises(IntegrityError, match="slot 0"):
        SlotBook.load(file, bytes(32))


def test_a_book_that_is_consistent_but_not_the_logged_data_has_another_root(book, file):
    """Whoever has the key can write a book that fits itself; the logged roots are what it must fit."""
    logged = book.data_ref("digits")
    SlotBook.load(file, KEY).check_root(logged)
    other = random_records(48, (4, 4, 1), 4, seed=1).train
    with pytest.raises(IntegrityError, match="content_root"):
        SlotBook.ingest(other, KEY).check_root(logged)
    erased = book.erased([3])
    with pytest.raises(IntegrityError, match="present"):
        erased.check_root(logged)
    erased.check_root(book.data_ref("digits", [3]))
    shorter = SlotBook(book.ids[:-1], book.digests[:-1], book.blocks[:-1], book._leaves[:-1], KEY)
    with pytest.raises(IntegrityError, match="slots"):
        shorter.check_root(logged)


def test_fifty_thousand_slots_load(tmp_path):
    draw = np.random.Generator(np.random.Philox(1)).bytes
    ids, digests = [f"train/{n:05d}" for n in range(50_000)], [draw(32).hex() for _ in range(50_000)]
    from expunge.evidence.manifest import leaves_of

    leaves = [leaves_of(KEY, *pair) for pair in zip(ids, digests, strict=True)]
    SlotBook(ids, digests, ids, leaves, KEY).save(tmp_path / "slots.json")
    loaded = SlotBook.load(tmp_path / "slots.json", KEY)
    assert list(loaded.ids) == ids
    assert loaded.leaf(49_999) == leaves[49_999]
