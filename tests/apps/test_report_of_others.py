"""The report of an edited text-to-image model: what became of everybody else, with limits, and whose features it was seen in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.test_report import headings, page, section
from expunge.checks.collateral import Collateral
from expunge.core.finding import Finding, Guarantee
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob
from expunge.core.styles import StyleEvidence
from expunge.testing.style_evidence import garbage_styles, honest_styles

OTHERS = "What became of everybody else"


def judged(found: StyleEvidence) -> Finding:
    return Collateral().run(CheckJob(limits=Limits(), guarantee=Guarantee.EMPIRICAL, seed=1, styles=found))


def shown_of(found: StyleEvidence) -> str:
    return section(page(judged(found), kind="generator", sheet=None), OTHERS)


def test_shares_limits_and_distances_are_the_findings():
    finding = judged(honest_styles())
    text = shown_of(honest_styles())
    assert "style and the object that were asked for: 75.0 % before, 75.0 % after" in text
    for condition in finding.conditions:
        assert condition.name in text
    assert "made by hand; not Inception's" in text
    unit = float(finding.details["kid.unit"])
    assert f"two different artists {unit:.4g}" in text
    assert "the original drawn again, other noise" in text
    assert "–" not in text.partition("Kernel distance 95 % limits")[2].partition("two different artists")[0]


def test_what_is_beyond_its_limit_is_seen():
    text = shown_of(garbage_styles())
    assert text.count("FAIL") == 5
    assert "75.0 % before, 5.0 % after" in text


def test_without_features_the_table_of_distances_is_left_out_and_the_reason_is_there():
    blind = honest_styles()
    text = shown_of(replace(blind, kept=tuple(replace(one, looks=None) for one in blind.kept)))
    assert "Kernel distance" not in text
    assert "a judge that gives features" in text


@pytest.mark.parametrize("found", [[], [judged(StyleEvidence(unread="nobody said how"))]])
def test_where_nobody_else_was_asked_for_nothing_is_invented(found):
    html = page(*found, kind="generator", sheet=None)
    assert (OTHERS in headings(html)) is bool(found)
    assert "before," not in section(html, OTHERS)
