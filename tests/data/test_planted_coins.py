from dataclasses import replace

import numpy as np
import pytest

from expunge.core.errors import DataError, InputError
from expunge.data._coins import BLOCK, plant_coins
from expunge.data.cifar10 import Cifar10
from expunge.data.digits import Digits
from expunge.stats.intervals import clopper_pearson
from expunge.testing.world import random_records

KEY = "c0" * 32


def planted(records=400, coins=60, key=KEY):
    train = random_records(records, (4, 4, 1), 5).train
    return train, *plant_coins(train, coins=coins, key=key, classes=5)


def test_heads_stay_in_their_place_with_a_wrong_label_and_tails_are_nowhere():
    before, train, coins = planted()
    heads = {name for name, head in zip(coins.ids, coins.trained, strict=True) if head}
    tails = set(coins.ids) - heads
    assert len(coins) == 60
    assert train.ids == tuple(name for name in before.ids if name not in tails)
    assert {train.ids[slot] for slot in train.in_block(BLOCK)} == heads
    for row, name in enumerate(coins.ids):
        assert np.array_equal(coins.images[row], before.images[before.slot_of[name]])
        assert coins.labels[row] != before.labels[before.slot_of[name]]
        if name in heads:
            assert train.labels[train.slot_of[name]] == coins.labels[row]
            assert np.array_equal(train.images[train.slot_of[name]], coins.images[row])


def test_every_other_record_is_left_as_it_was():
    before, train, coins = planted()
    for slot, name in enumerate(train.ids):
        if name not in coins.ids:
            old = before.slot_of[name]
            assert train.labels[slot] == before.labels[old]
            assert train.blocks[slot] == before.blocks[old]
            assert np.array_equal(train.images[slot], before.images[old])


def test_the_same_key_plants_the_same_and_another_key_other_coins():
    _, first, coins = planted()
    _, again, same = planted()
    _, _, different = planted(key="c1" * 32)
    assert (first.ids, coins.ids) == (again.ids, same.ids)
    assert np.array_equal(coins.trained, same.trained)
    assert different.ids != coins.ids


def test_coins_are_fair_and_say_nothing_about_id_label_or_place():
    """The attack: guess the coin from what is visible before any model is asked."""
    trained, rows, shift = [], [], []
    for number in range(40):
        before, _, coins = planted(coins=80, key=f"{number:064x}")
        trained.append(coins.trained)
        rows.append([before.slot_of[name] for name in coins.ids])
        shift.append((coins.labels - before.labels[rows[-1]]) % 5)
    coin, row, moved = np.concatenate(trained), np.concatenate(rows), np.concatenate(shift)
    fair = clopper_pearson(int(coin.sum()), coin.size, 0.999)
    assert fair.low < 0.5 < fair.high
    for guess in (row % 2 == 0, row < 200, moved > 2):
        right = clopper_pearson(int((guess == coin).sum()), coin.size, 0.999)
        assert right.low < 0.5 < right.high
    assert set(moved.tolist()) == {1, 2, 3, 4}


def test_records_of_a_planted_block_get_no_coin():
    data = Digits(canaries=20, coins=162, coins_key=KEY).open()
    assert not {name for name in data.coins.ids if "canary" in name}
    assert len(data.train.in_block("canary")) == 20
    assert "20 planted canaries and 162 coins" in data.note


def test_no_coins_change_nothing():
    train = random_records(40, (4, 4, 1), 4).train
    assert plant_coins(train, coins=0, key=None, classes=4) == (train, None)
    assert Digits().open().coins is None


def test_coins_survive_a_deletion_of_the_heads():
    """After the heads are erased and blanked, all m pixels are still there to be scored."""
    data = replace(random_records(400, (4, 4, 1), 5))
    train, coins = plant_coins(data.train, coins=60, key=KEY, classes=5)
    gone = set(train.in_block(BLOCK))
    ids = [None if slot in gone else name for slot, name in enumerate(train.ids)]
    blocks = ["" if slot in gone else name for slot, name in enumerate(train.blocks)]
    after = replace(data, train=train, coins=coins).aligned(ids, blocks)
    assert after.coins is coins
    assert not after.train.images[sorted(gone)].any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"coins": 1, "coins_key": KEY}, "coins out of range"),
        ({"coins": -2, "coins_key": KEY}, "coins out of range"),
        ({"coins": 50}, "coins_key"),
        ({"coins": 50, "coins_key": "abcd"}, "coins_key"),
        ({"coins": 50, "coins_key": "z" * 64}, "not hex"),
    ],
)
@pytest.mark.parametrize("source", [Digits, Cifar10])
def test_bad_options_are_refused_before_anything_is_read(source, options, said):
    with pytest.raises(InputError, match=said):
        source(**options)


def test_more_coins_than_a_fifth_are_refused():
    with pytest.raises(DataError, match="too many coins"):
        planted(records=100, coins=21)
