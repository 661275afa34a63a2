"""A request names every record once."""

import time
from datetime import UTC, datetime

import pytest

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import InputError
from expunge.core.request import DeletionRequest, EventSelector, Selector


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


BEFORE_THERE_WERE_EVENTS = (
    b'{"basis":"GDPR Art. 17(1)(b)","due":null,"id":"r-1","models":["served"],"received":"2026-01-02T03:04:05.000000Z",'
    b'"regime":"GDPR","selectors":[{"kind":"id","values":["user/7"]}],"subject":"s"}'
)


def test_a_request_of_an_older_release_keeps_its_bytes_and_so_its_receipt():
    request = decode(DeletionRequest, loads(BEFORE_THERE_WERE_EVENTS), what="request")
    assert canonical(encode(request)) == BEFORE_THERE_WERE_EVENTS


def test_a_request_for_events_says_which():
    request = DeletionRequest(
        id="r-1", received=datetime(2026, 1, 2, tzinfo=UTC), subject="s", selectors=(), models=("served",),
        events=EventSelector(users=("user/7",), items=("item/1",)),
    )  # fmt: skip
    assert decode(DeletionRequest, loads(canonical(encode(request))), what="request") == request
