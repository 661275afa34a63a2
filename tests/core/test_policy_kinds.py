"""What no policy can leave out, by the kind of model; and what a self-test has to be about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from evidence.story import selftest
from expunge.core.errors import InputProblems
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.policy import REQUIRED, Demand, Limits, Policy
from expunge.core.selftest import RECOMMENDER_METHODS, REQUIRED_METHODS, SelftestRule, Subject, required
from expunge.workflow.policy import BY_KIND, parse_policy

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EXACT = dict(REQUIRED["recommender"][Guarantee.EXACT])
EMPIRICAL = dict(REQUIRED["recommender"][Guarantee.EMPIRICAL])
THREE = ("lira", "own_rank", "reconstruction")


def policy(rules: dict[str, Demand] | None = None, **changes: object) -> Policy:
    plain = {"name": "p", "kind": "recommender", "attacks": (), "limits": Limits()}
    return Policy(**{**plain, "guarantees": {"EXACT": EXACT if rules is None else rules}, **changes})  # type: ignore[arg-type]


def finding(check: str, verdict: Verdict) -> Finding:
    return Finding(check=check, question="q", statistic="s", verdict=verdict, reason="r", n=1)


@pytest.mark.parametrize("kind", ["classifier", "recommender"])
def test_the_default_policy_of_a_kind_is_of_that_kind_and_meets_its_floors(kind: str) -> None:
    assert parse_policy(BY_KIND[kind]).kind == kind  # type: ignore[index]


@pytest.mark.parametrize("missing", sorted(EXACT))
def test_a_recommender_policy_cannot_leave_out_a_rung(missing: str) -> None:
    with pytest.raises(InputProblems, match=f"EXACT.{missing}: must be at least {EXACT[missing].value}"):
        policy({name: demand for name, demand in EXACT.items() if name != missing})


@pytest.mark.parametrize("missing", ["algebra", "census"])
def test_what_must_pass_cannot_be_asked_not_to_fail(missing: str) -> None:
    with pytest.raises(InputProblems, match="must be at least must_pass"):
        policy({**EXACT, missing: Demand.MUST_NOT_FAIL})


def test_a_classifier_policy_does_without_algebra_and_not_without_provenance() -> None:
    with pytest.raises(InputProblems, match=r"EXACT\.provenance"):
        policy(kind="classifier", attacks=("lira", "rmia", "gradient_norm"))


def test_a_recommender_is_granted_no_theorem() -> None:
    with pytest.raises(InputProblems, match="CERTIFIED: no recommender can be granted it"):
        policy(guarantees={"EXACT": EXACT, "CERTIFIED": EXACT})


@pytest.mark.parametrize("missing", sorted(EMPIRICAL))
def test_empirical_rests_on_a_bank_of_users_and_on_the_served_file(missing: str) -> None:
    assert {EMPIRICAL[name] for name in ("membership", "deployed", "census")} == {Demand.MUST_PASS}
    rules = {name: demand for name, demand in EMPIRICAL.items() if name != missing}
    with pytest.raises(InputProblems, match=f"EMPIRICAL.{missing}: must be at least {EMPIRICAL[missing].value}"):
        policy(guarantees={"EMPIRICAL": rules}, attacks=THREE)


def test_a_recommender_policy_names_three_signals_as_soon_as_it_grants_empirical() -> None:
    assert policy().attacks == ()
    both = {"EXACT": EXACT, "EMPIRICAL": EMPIRICAL}
    assert policy(guarantees=both, attacks=THREE).attacks == THREE
    for few in ((), THREE[:2]):
        with pytest.raises(InputProblems, match=f"attacks: {len(few)} are named, limits.signals asks for 3"):
            policy(guarantees=both, attacks=few)
    with pytest.raises(InputProblems, match="EMPIRICAL needs at least 3"):
        policy(guarantees=both, attacks=THREE, limits=Limits(signals=2))
    with pytest.raises(InputProblems, match="named twice"):
        policy(attacks=("lira", "lira", "own_rank", "reconstruction"))


@pytest.mark.parametrize(
    ("check", "verdict", "accepted"),
    [
        ("algebra", Verdict.UNVERIFIABLE, False),
        ("census", Verdict.INCONCLUSIVE, False),
        ("left_out", Verdict.UNVERIFIABLE, True),
        ("left_out", Verdict.INCONCLUSIVE, False),
        ("behaviour", Verdict.INCONCLUSIVE, True),
        ("behaviour", Verdict.FAIL, False),
        ("weights_only", Verdict.UNVERIFIABLE, True),
        ("weights_only", Verdict.FAIL, False),
    ],
)
def test_how_a_rung_counts(check: str, verdict: Verdict, accepted: bool) -> None:
    findings = [finding(name, verdict if name == check else Verdict.PASS) for name in EXACT]
    assert policy().judge(Guarantee.EXACT, findings).accepted is accepted


def test_a_rung_that_was_not_climbed_refuses() -> None:
    findings = [finding(name, Verdict.PASS) for name in EXACT if name != "census"]
    assert policy().judge(Guarantee.EXACT, findings).reasons == ("census: not run",)


def test_a_report_vouches_for_its_own_kind_only() -> None:
    report = selftest(kind="recommender", made_at=NOW)
    mine = Subject(policy=report.policy, bank=report.bank, expunge=report.expunge, kind="recommender")
    assert SelftestRule().problems(report, NOW, mine) == []
    assert SelftestRule().problems(report, NOW, replace(mine, kind="classifier")) == ["it was made on another kind"]


@pytest.mark.parametrize("name", RECOMMENDER_METHODS)
def test_every_saboteur_of_a_recommender_has_to_be_named(name: str) -> None:
    report = selftest(kind="recommender", made_at=NOW)
    short = replace(report, tallies=tuple(tally for tally in report.tallies if tally.saboteur != name))
    assert SelftestRule().problems(short, NOW) == [f"saboteurs that were not tried: {name}"]


def test_kinds_share_the_processes_and_no_method() -> None:
    both = required("classifier") & required("recommender")
    assert both.isdisjoint({*REQUIRED_METHODS, *RECOMMENDER_METHODS})
    assert len(both) == 6
