"""expunge.toml and policy.yaml: what is read is what was written; everything else is refused with all its problems."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.policy import FLOORS, Limits
from expunge.workflow.config import config_text, parse_config
from expunge.workflow.policy import DEFAULT, parse_policy, policy_digest

PLAIN = {"data": {"source": "digits"}, "model": {"seed": "0123456789abcdef"}}


@given(name=st.text(min_size=1, max_size=30), path=st.text(min_size=1, max_size=30))
def test_config_survives_being_written_and_read(name: str, path: str) -> None:
    plain = {**PLAIN, "owner": {"name": name}, "data": {"source": "digits", "path": path, "options": {"canaries": 3}}}
    config = parse_config(plain)
    try:
        text = config_text(config)
    except InputError:
        assert any(ord(c) < 32 or ord(c) == 127 for c in name + path)
        return
    assert parse_config(tomllib.loads(text)) == config


def test_all_problems_of_a_config_at_once() -> None:
    with pytest.raises(InputProblems) as refused:
        parse_config({"data": {"source": "digits", "sauce": 1}, "model": {"seed": "1"}, "bank": {"pairs": 0}})
    assert len(refused.value.problems) == 3


def test_default_policy_grants_exact_on_provenance_and_digest_ignores_comments() -> None:
    policy = parse_policy(DEFAULT)
    assert policy_digest(policy) == policy_digest(parse_policy(DEFAULT.replace("# per side", "# each side")))
    assert policy_digest(policy) != policy_digest(parse_policy(DEFAULT.replace("alpha: 0.025", "alpha: 0.02")))


def finding(check: str, verdict: Verdict) -> Finding:
    return Finding(check=check, question="?", statistic="s", verdict=verdict, reason="r", n=1)


def test_exact_needs_provenance_to_pass_and_outputs_not_to_fail() -> None:
    policy = parse_policy(DEFAULT)
    good = {"provenance": Verdict.PASS, "utility": Verdict.PASS}
    blind = {
        "membership": Verdict.UNVERIFIABLE,
        "deployed": Verdict.UNVERIFIABLE,
        "coins": Verdict.UNVERIFIABLE,
        "linkage": Verdict.INCONCLUSIVE,
    }
    judged = policy.judge(Guarantee.EXACT, [finding(*item) for item in {**good, **blind}.items()])
    assert judged.accepted
    for check in ("provenance", "membership", "deployed", "utility", "coins"):
        spoiled = {**good, **blind, check: Verdict.FAIL}
        assert not policy.judge(Guarantee.EXACT, [finding(*item) for item in spoiled.items()]).accepted
    unproven = {**good, **blind, "provenance": Verdict.INCONCLUSIVE}
    assert not policy.judge(Guarantee.EXACT, [finding(*item) for item in unproven.items()]).accepted


def test_a_check_that_nobody_ran_is_a_refusal() -> None:
    policy = parse_policy(DEFAULT)
    judged = policy.judge(Guarantee.EXACT, [finding("provenance", Verdict.PASS), finding("membership", Verdict.PASS)])
    assert not judged.accepted
    assert any("not run" in reason for reason in judged.reasons)


def test_empirical_is_refused_when_membership_is_not_decided() -> None:
    policy = parse_policy(DEFAULT)
    for verdict in (Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE, Verdict.FAIL):
        findings = [finding("membership", verdict), finding("utility", Verdict.PASS), finding("deployed", Verdict.PASS)]
        assert not policy.judge(Guarantee.EMPIRICAL, findings).accepted


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_limits_outside_the_floors_in_code_are_refused(name: str) -> None:
    policy = parse_policy(DEFAULT)
    low, high = FLOORS[name]
    for value in (low - 1, high + 1):
        with pytest.raises(InputError, match=name):
            replace(policy, limits=replace(Limits(), **{name: value}))
    assert low <= getattr(Limits(), name) <= high


@pytest.mark.parametrize("text", ["", "{}", "guarantees: {}", "[1, 2]", "name: x\nguarantees: {}\nlimits: {}", ": : :"])
def test_empty_or_malformed_policy_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_policy(text)


def test_policy_with_yaml_tags_runs_nothing() -> None:
    with pytest.raises(InputError):
        parse_policy("name: !!python/object/apply:os.system ['true']")
