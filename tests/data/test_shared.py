import dataclasses

import numpy as np
import pytest

from expunge.data._shared import packed, unpacked
from expunge.data.digits import Digits


@pytest.mark.parametrize("coins", [0, 8])
def test_a_data_set_comes_back_as_it_was(coins: int) -> None:
    data = Digits(coins=coins, coins_key="ab" * 32).open() if coins else Digits().open()
    (found,) = unpacked(packed({b"one": data})).values()
    for part in ("train", "test", "coins"):
        before, after = getattr(data, part), getattr(found, part)
        assert (before is None) == (after is None)
        for name in [] if before is None else [field.name for field in dataclasses.fields(before)]:
            one, other = getattr(before, name), getattr(after, name)
            assert type(one) is type(other), name
            np.testing.assert_array_equal(one, other)
            assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
    assert (found.source, found.note, found.classes) == (data.source, data.note, data.classes)


def test_two_data_sets_are_not_mixed_up() -> None:
    one, other = Digits().open(), Digits(coins=8, coins_key="ab" * 32).open()
    found = unpacked(packed({b"one": one, b"other": other}))
    assert found[b"one"].coins is None
    assert found[b"other"].train.ids == other.train.ids
