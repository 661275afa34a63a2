import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from expunge.training.rng import below, derive_seed, draws, draws_at, normals, philox4x32, seed_number, shuffled
from training import slow_twins

WORD = st.integers(0, 2**32 - 1)
# kat_vectors of Random123 (D. E. Shaw Research), philox4x32 with 10 rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN)
def test_philox_gives_the_known_answers_of_random123(counter, key, wanted):
    assert philox4x32(np.array([counter], np.uint32), key).tolist() == [list(wanted)]
    assert slow_twins.philox(counter, key) == list(wanted)


@given(counter=st.tuples(WORD, WORD, WORD, WORD), key=st.tuples(WORD, WORD))
def test_philox_equals_its_twin_on_integers(counter, key):
    assert philox4x32(np.array([counter], np.uint32), key)[0].tolist() == slow_twins.philox(counter, key)


@given(slot=st.integers(0, 2**40), epoch=st.integers(0, 999))
def test_a_draw_depends_on_its_own_slot_only(slot, epoch):
    alone = draws("s", "order", epoch, np.array([slot], np.int64))[0].tolist()
    among = draws("s", "order", epoch, np.array([3, slot, 2**41], np.int64))[1].tolist()
    assert alone == among == slow_twins.draw("s", "order", epoch, slot)


@pytest.mark.parametrize("other", [("t", "order", 0), ("s", "augment", 0), ("s", "order", 1)])
def test_seed_stream_and_epoch_each_change_every_draw(other):
    slots = np.arange(50, dtype=np.int64)
    assert (draws("s", "order", 0, slots) != draws(*other, slots)).any(axis=1).all()


@given(limit=st.integers(1, 1000), word=WORD)
def test_below_stays_below(limit, word):
    assert below(np.array([word], np.uint32), limit)[0] == word * limit >> 32 < limit


def test_below_is_uniform():
    counts = np.bincount(below(draws("u", "order", 0, np.arange(70_000, dtype=np.int64))[:, 0], 7), minlength=7)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 22.5  # chi-square, 6 degrees of freedom, p = .001


@given(slots=st.sets(st.integers(0, 500), min_size=2), data=st.data())
def test_removing_a_slot_keeps_the_order_of_all_others(slots, data):
    ordered = sorted(slots)
    gone = data.draw(st.sampled_from(ordered))
    with_it = shuffled("s", "order", 3, np.array(ordered, np.int64)).tolist()
    without = shuffled("s", "order", 3, np.array([s for s in ordered if s != gone], np.int64)).tolist()
    assert [slot for slot in with_it if slot != gone] == without
    assert with_it == slow_twins.order("s", 3, ordered)


def test_seeds_are_separated_by_labels():
    derived = {derive_seed("s"), derive_seed("s", "a"), derive_seed("s", "a", "b"), derive_seed("s", "b", "a")}
    assert len(derived) == 4
    assert all(len(seed) == 32 for seed in derived)
    assert len({seed_number(seed) for seed in derived}) == 4
    assert all(0 <= seed_number(seed) < 2**63 for seed in derived)


def test_places_of_a_slot_are_counters_and_the_first_place_is_the_plain_draw():
    slots, places = np.array([5, 5, 9], np.int64), np.array([0, 7, 7], np.int64)
    found = draws_at("s", "dropout", 2, slots, places)
    assert found[0].tolist() == draws("s", "dropout", 2, slots)[0].tolist()
    assert len({tuple(row) for row in found.tolist()}) == 3
    assert found[2].tolist() == draws_at("s", "dropout", 2, slots[2:], places[2:])[0].tolist()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_normal_draws_are_box_and_mullers_of_the_slots_own_places(width):
    found = normals("s", "noise", 3, np.array([4, 11], np.int64), width)
    assert found.shape == (2, width)
    for column in range(width):
        raw = draws_at("s", "noise", 3, np.array([11], np.int64), np.array([column // 2], np.int64))[0]
        radius = math.sqrt(-2 * math.log((int(raw[0]) + 1) / 2**32))
        turn = math.cos if column % 2 == 0 else math.sin
        assert found[1, column] == pytest.approx(radius * turn(2 * math.pi * int(raw[1]) / 2**32), abs=1e-12)


def test_normal_draws_are_normal():
    found = normals("s", "noise", 0, np.arange(500, dtype=np.int64), 41).ravel()
    assert stats.kstest(found, "norm").pvalue > 0.01
    assert np.isfinite(found).all()
