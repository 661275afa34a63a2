"""Opt-out signals as they are served: what each protocol says, and files that were made to be misread."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from expunge.core.errors import DataError, InputError, InputProblems
from expunge.data.opt_out.assertion import MOST_ENTRIES, assertion_signal, read_assertion
from expunge.data.opt_out.content_usage import content_usage_signal, read_preference
from expunge.data.opt_out.hash_list import read_hash_list
from expunge.data.opt_out.robots import LARGEST, matches, parse_robots, robots_signals
from expunge.data.opt_out.signals import (
    Protocol,
    Says,
    Signal,
    Signals,
    digest_of_bytes,
    read_signals,
    write_signals,
)
from expunge.data.opt_out.tdmrep import file_signal, header_signal, parse_tdmrep

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AT = {"where": "https://example.org/robots.txt", "read": NOW}
DRAFT = b"""User-Agent: *
Allow: /
Disallow: /never/
Content-Usage: train-ai=n
Content-Usage: /ai-ok/ train-ai=y

User-Agent: ExampleBot
Allow: /
Content-Usage: train-ai=y
"""


@pytest.mark.parametrize(
    ("agent", "path", "crawl", "usage"),
    [
        ("other", "/test", True, Says.RESERVED),
        ("other", "/never/test", False, Says.SILENT),
        ("other", "/ai-ok/test", True, Says.PERMITTED),
        ("ExampleBot", "/test", True, Says.PERMITTED),
        ("examplebot", "/never/test", True, Says.PERMITTED),
    ],
)
def test_the_example_of_the_draft_is_read_as_its_table_says(agent, path, crawl, usage):
    robots = parse_robots(DRAFT)
    assert robots.allows(agent, path) is crawl
    assert robots.usage(agent, path) is usage


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("/art", "/art/1.png", True),
        ("/art$", "/art/1.png", False),
        ("/*.png$", "/art/1.png", True),
        ("/*.png$", "/art/1.png?x", False),
        ("/a*c*e", "/abcde/f", True),
        ("/a*c*f$", "/abcde", False),
        ("*", "/anything", True),
    ],
)
def test_wildcards_match_as_rfc_9309_has_them(pattern, path, found):
    assert matches(pattern, path) is found


def test_the_longest_rule_wins_and_not_the_first():
    """What the standard library's parser gets wrong."""
    robots = parse_robots(b"User-agent: *\nAllow: /\nDisallow: /art\n")
    assert not robots.allows("x", "/art/1")
    assert robots.allows("x", "/about")
    assert parse_robots(b"user-agent: *\ndisallow: /a\nallow: /a").allows("x", "/a"), (
        "Allow wins where both are as long"
    )


def test_two_groups_of_one_agent_are_one_and_a_named_agent_does_not_hear_the_star():
    robots = parse_robots(
        b"User-agent: a\nDisallow: /1\nUser-agent: *\nDisallow: /\nUser-agent: b\nUser-agent: A/2.0\nDisallow: /2"
    )
    assert [robots.allows("a", path) for path in ("/1", "/2", "/3")] == [False, False, True]
    assert [robots.allows("b", path) for path in ("/1", "/2")] == [True, False]
    assert not robots.allows("c", "/3")


def test_a_reservation_that_was_percent_encoded_is_seen():
    robots = parse_robots(b"User-agent: *\nDisallow: /k%C3%BCnstler\nDisallow: /%61rt")
    assert not robots.allows("x", "/künstler/1")
    assert not robots.allows("x", "/art")
    assert robots.allows("x", "/kunstler")


def test_a_robots_file_of_a_gigabyte_is_refused():
    started = time.perf_counter()
    with pytest.raises(DataError, match="size"):
        parse_robots(bytes(1 << 30))
    assert time.perf_counter() - started < 2
    filler = b"User-agent: *\nDisallow: /\n" + b"#" * LARGEST
    with pytest.raises(DataError, match="size"):
        parse_robots(filler)
    assert not parse_robots(filler[:LARGEST]).allows("x", "/")
    assert {signal.says for signal in robots_signals(filler, ("*",), "/", **AT)} == {Says.UNREADABLE}


def test_a_pattern_of_stars_takes_no_time():
    started = time.perf_counter()
    assert not matches("/" + "*a" * 200 + "b$", "/" + "a" * 4000)
    assert matches("/" + "*a" * 200, "/" + "a" * 4000)
    assert time.perf_counter() - started < 2


def test_a_robots_file_of_endless_rules_is_refused_and_one_of_many_is_read():
    with pytest.raises(DataError, match="rules"):
        parse_robots(b"User-agent: *\n" + b"Allow:/\n" * 20_001)
    assert parse_robots(b"User-agent: *\n" + b"Allow:/\n" * 20_000).allows("x", "/")


def test_a_disallow_that_names_only_the_training_crawler_reserves():
    text = b"User-agent: TrainBot\nDisallow: /\n\nUser-agent: *\nAllow: /\n"
    assert robots_signals(text, ("mybot", "trainbot"), "/a", **AT)[0].says is Says.RESERVED
    assert robots_signals(text, ("mybot",), "/a", **AT)[0].says is Says.SILENT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train-ai=n", Says.RESERVED),
        ("search=y, train-ai=n;x=1", Says.RESERVED),
        ("train-ai=y", Says.PERMITTED),
        ("train-ai=y, ai=n", Says.RESERVED),
        ("search=n", Says.SILENT),
        ("train-ai=n, train-ai=y", Says.PERMITTED),  # RFC 9651: the last one of a key
        ("train-ai", Says.UNREADABLE),
        ("train-ai=no", Says.UNREADABLE),
        ("TRAIN-AI=n", Says.UNREADABLE),
        ("", Says.UNREADABLE),
        ("train-ai=n,", Says.UNREADABLE),
        ("a=1," * 5000, Says.UNREADABLE),
    ],
)
def test_usage_preferences(text, says):
    assert read_preference(text) is says
    assert content_usage_signal(text, where="https://example.org/a", read=NOW).says is says


def test_tdmrep_reserves_by_header_and_by_file():
    assert header_signal("1", **AT).says is Says.RESERVED
    assert header_signal(" 0 ", **AT).says is Says.PERMITTED
    assert header_signal("yes", **AT).says is Says.UNREADABLE
    open_ = b'{"location": "/open/", "tdm-reservation": 0}'
    rules = b'[%s, {"location": "/art/*.png$", "tdm-reservation": 1, "tdm-policy": "x"}]' % open_
    assert file_signal(rules, "/art/a.png", **AT).says is Says.RESERVED
    assert file_signal(rules, "/open/a", **AT).says is Says.PERMITTED
    assert file_signal(rules, "/other", **AT).says is Says.SILENT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b'[{"location": "/"}]',
        b'[{"location": "/", "tdm-reservation": true}]',
        b'[{"location": "/", "tdm-reservation": 2}]',
        b'[{"location": "/", "tdm-reservation": [1]}]',
        b'[{"location": "art", "tdm-reservation": 1}]',
        b'[{"location": "/", "location": "/x", "tdm-reservation": 1}]',
        b"[" * 100_000,
        b"[" + b'{"location":"/","tdm-reservation":0},' * 20_000,
        b"\xff\xfe",
    ],
)
def test_a_tdmrep_file_made_to_be_misread_is_refused_and_keeps_the_row_out(data):
    with pytest.raises(DataError):
        parse_tdmrep(data)
    assert file_signal(data, "/", **AT).says is Says.UNREADABLE


def test_the_assertion_reserves_by_its_strictest_entry():
    def says(**entries):
        return read_assertion({"entries": {name: {"use": use} for name, use in entries.items()}})

    assert says(**{"cawg.ai_training": "notAllowed"}) is Says.RESERVED
    assert says(**{"c2pa.ai_generative_training": "constrained", "cawg.ai_training": "allowed"}) is Says.RESERVED
    assert says(**{"cawg.ai_training": "allowed"}) is Says.PERMITTED
    assert says(**{"cawg.ai_inference": "notAllowed"}) is Says.SILENT


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {"entries": []},
        {"entries": {"cawg.ai_training": "notAllowed"}},
        {"entries": {"cawg.ai_training": {"use": "no"}}},
        {"entries": {"cawg.ai_training": {"use": ["notAllowed"]}}},
        {"entries": {f"x{n}": {"use": "allowed"} for n in range(MOST_ENTRIES + 1)}},
    ],
)
def test_an_assertion_that_is_none_is_refused_and_keeps_the_row_out(plain):
    with pytest.raises(DataError):
        read_assertion(plain)
    assert assertion_signal(plain, **AT).says is Says.UNREADABLE


def test_an_assertion_of_floats_and_of_endless_nesting_keeps_the_row_out():
    deep = {"use": "allowed"}
    for _ in range(5000):
        deep = {"use": "allowed", "more": deep}
    for more in (deep, {"use": "allowed", "weight": 0.5}):
        assert assertion_signal({"entries": {"cawg.ai_training": more}}, **AT).says is Says.UNREADABLE


def test_a_hash_list_reserves_what_it_lists_and_nothing_else(tmp_path):
    listed, other = digest_of_bytes(b"a"), digest_of_bytes(b"b")
    path = tmp_path / "do-not-train.txt"
    path.write_text(f"# works\n{listed.upper()}  # one\nsha256:{digest_of_bytes(b'c')}\n")
    found = read_hash_list(path)
    assert found.signal(listed, read=NOW).says is Says.RESERVED
    assert found.signal(other, read=NOW).says is Says.SILENT


@pytest.mark.parametrize("text", ["", "# nothing\n", "abc\n", f"{'a' * 64}\n{'g' * 64}\n", f"{'a' * 63}\n"])
def test_a_hash_list_that_is_half_understood_is_refused(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(DataError):
        read_hash_list(path)


def signal(says, *, read=NOW, protocol=Protocol.TDMREP):
    return Signal(protocol=protocol, says=says, where="https://example.org/a", read=read, digest="0" * 64)


def row(*signals, record="r", crawled=NOW):
    return Signals(record=record, crawled=crawled, signals=signals)


def test_a_permission_beside_a_reservation_is_none():
    assert row(signal(Says.PERMITTED), signal(Says.RESERVED, protocol=Protocol.HASH_LIST)).says is Says.RESERVED
    assert row(signal(Says.PERMITTED), signal(Says.UNREADABLE)).says is Says.UNREADABLE
    assert row(signal(Says.PERMITTED), signal(Says.SILENT)).says is Says.PERMITTED
    assert row().says is Says.SILENT


def test_a_reservation_made_after_the_crawl_was_not_valid_then_and_is_heeded_now():
    later = row(signal(Says.SILENT), signal(Says.RESERVED, read=NOW + timedelta(days=1)))
    assert later.says is Says.RESERVED
    assert later.reserved_at_crawl() is False
    assert row(signal(Says.RESERVED)).reserved_at_crawl() is True
    assert row(signal(Says.RESERVED), crawled=None).reserved_at_crawl() is None
    assert row(signal(Says.UNREADABLE)).reserved_at_crawl() is None
    assert row().reserved_at_crawl() is None, "nothing was recorded, so nobody knows"


def test_signals_come_back_from_disk_as_they_were(tmp_path):
    rows = [row(signal(Says.RESERVED), record="a"), row(record="b", crawled=None)]
    assert write_signals(tmp_path / "signals.jsonl", rows) == 2
    assert read_signals(tmp_path / "signals.jsonl") == {"a": rows[0], "b": rows[1]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text + text, DataError),
        (lambda text: text.replace("reserved", "perhaps"), InputProblems),
        (lambda text: text.replace('"crawled"', '"x":1,"crawled"'), InputProblems),
        (lambda text: "x" * 70_000, DataError),
        (lambda text: text[:-10], InputError),
    ],
)
def test_a_file_of_signals_that_was_edited_is_refused(tmp_path, change, problem):
    path = tmp_path / "signals.jsonl"
    write_signals(path, [row(signal(Says.RESERVED))])
    path.write_text(change(path.read_text()))
    with pytest.raises(problem):
        read_signals(path)


@pytest.mark.parametrize(
    "bad",
    [{"read": datetime(2026, 1, 1)}, {"where": ""}, {"where": "x" * 3000}, {"digest": "abc"}],
)
def test_a_signal_without_place_time_or_digest_is_refused(bad):
    fields = {"protocol": Protocol.ROBOTS, "says": Says.SILENT, "where": "x", "read": NOW, "digest": "0" * 64}
    Signal(**fields)
    with pytest.raises(InputError):
        Signal(**{**fields, **bad})
