"""One switch for where tasks run; anything but the documented forms is refused with all its problems."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.errors import InputProblems
from expunge.core.plan import Compute
from expunge.farm.engine import Engine, parse_engine
from expunge.workflow.config import config_text, parse_config, with_engine

PLAIN = {"data": {"source": "digits"}, "model": {"seed": "0123456789abcdef"}}


@pytest.mark.parametrize(
    ("text", "executor", "processes", "address"),
    [
        ("inline://", "inline", 1, None),
        ("process://", "process", 2, None),
        ("process://?n=7", "process", 7, None),
        ("ray://local", "ray", 2, "local"),
        ("ray://local?n=3", "ray", 3, "local"),
        ("ray://10.0.0.7:6379?n=40", "ray", 40, "10.0.0.7:6379"),
        ("ray://[::1]:6379", "ray", 2, "[::1]:6379"),
    ],
)
def test_documented_forms(text, executor, processes, address):
    engine = parse_engine(text)
    assert engine == Engine(executor=executor, compute=Compute(processes=processes, address=address))
    assert parse_engine(engine.uri) == engine


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "EXECUTOR://PLACE"),
        ("process", "EXECUTOR://PLACE"),
        ("process:?n=2", "EXECUTOR://PLACE"),
        ("process://?n=2#x", "EXECUTOR://PLACE"),
        ("slurm://?n=2", "no executor"),
        ("process://host:1?n=2", "takes no place"),
        ("inline://?n=2", "inline is one worker"),
        ("process://?n=0", "from 1 to 256"),
        ("process://?n=257", "from 1 to 256"),
        ("process://?n=two", "from 1 to 256"),
        ("process://?n=", "from 1 to 256"),
        ("process://?n=-1", "from 1 to 256"),
        ("process://?n=1&n=2", "twice"),
        ("process://?workers=2", "unknown options workers"),
        ("ray://", "HOST:PORT"),
        ("ray://somewhere", "HOST:PORT"),
        ("ray://user@host:1", "HOST:PORT"),
        ("ray://[::1", "Invalid IPv6"),
    ],
)
def test_everything_else_is_refused(text, said):
    with pytest.raises(InputProblems, match=said):
        parse_engine(text)


def test_all_problems_of_a_switch_at_once():
    with pytest.raises(InputProblems) as refused:
        parse_engine("process://host?n=0&x=1")
    assert len(refused.value.problems) == 3


@given(st.text(max_size=30))
def test_any_text_is_an_engine_or_our_error(text):
    with suppress(InputProblems):
        assert parse_engine(parse_engine(text).uri) == parse_engine(text)


# ------------------------------------------------------------------------------------------------------- expunge.toml


def compute(**table):
    return parse_config({**PLAIN, "compute": table}).compute


def test_former_keys_are_read_and_written_as_an_engine():
    former = compute(executor="process", processes=5)
    assert (former.engine, former.executor, former.placement.processes) == ("process://?n=5", "process", 5)
    assert compute(processes=3) == compute(engine="process://?n=3")
    assert compute(executor="inline") == compute(executor="inline", processes=2) == compute(engine="inline://")
    text = config_text(parse_config({**PLAIN, "compute": {"executor": "inline"}}))
    assert 'engine = "inline://"' in text
    assert "executor" not in text
    assert compute() == compute(engine="process://?n=2")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"engine": "inline://", "executor": "process"}, "engine and executor say the same"),
        ({"engine": "inline://", "executor": "process", "processes": 2}, "engine and executor and processes"),
        ({"executor": "slurm"}, "no executor"),
        ({"processes": 0}, "from 1 to 256"),
        ({"engine": "ray://"}, "HOST:PORT"),
        ({"engine": 3}, "string"),
        ({"engine": "inline://", "queue": "x"}, "Extra inputs"),
    ],
)
def test_a_bad_or_doubled_table_is_refused(table, said):
    with pytest.raises(InputProblems, match=said):
        compute(**table)


def test_engine_of_a_run_replaces_the_configured_one_and_nothing_else():
    config = parse_config(PLAIN)
    other = with_engine(config, "ray://local?n=4")
    assert (other.compute.executor, other.compute.placement) == ("ray", Compute(processes=4, address="local"))
    assert other.model_copy(update={"compute": config.compute}) == config
    assert with_engine(config, None) is config
    with pytest.raises(InputProblems):
        with_engine(config, "ray://")
