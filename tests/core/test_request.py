"""A request names every record once."""

import time

import pytest

from expunge.core.errors import InputError
from expunge.core.request import Selector


def test_repeated_records_are_named_in_order():
    with pytest.raises(InputError, match="twice") as caught:
        Selector(kind="id", values=("c", "b", "a", "b", "c", "c"))
    assert caught.value.got == "b, c"


@pytest.mark.parametrize("values", [("a",), ("b", "a"), ("a", "A")])
def test_different_records_are_accepted(values):
    assert Selector(kind="id", values=values).values == values


def test_a_large_request_is_read_in_time():
    values = tuple(f"train/{n:06d}" for n in range(50_000))
    started = time.process_time()
    Selector(kind="id", values=values)
    with pytest.raises(InputError, match="twice"):
        Selector(kind="id", values=(*values, values[7]))
    assert time.process_time() - started < 1
