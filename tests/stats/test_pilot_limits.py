"""What a pilot row saves beside its word: the limits that the verdict used, recomputed here, and the cost of a retraining."""

import importlib.util
import json
from pathlib import Path

import pytest

from expunge.stats.intervals import share_at_most
from expunge.stats.recovery import excess
from expunge.stats.styles import Gates, verdict_of
from testbed import arms, counts

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "artist_style" / "limits.py"


@pytest.fixture(scope="module")
def limits():
    spec = importlib.util.spec_from_file_location("pilot_limits", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def battery():
    """A learned style: two prompts and an attack that brings some of it back."""
    found = {label: arms(36, seeds=8) for label in ("direct", "reworded", "textual_inversion")}
    hits = {"direct": 0, "reworded": [1, *[0] * 7], "textual_inversion": [3, 0, 9, 0, 1, 0, 0, 2]}
    return {label: type(one)(original=one.original, candidate=counts(hits[label], seeds=8), controls=one.controls)
            for label, one in found.items()}  # fmt: skip


@pytest.mark.parametrize("level", [0.95, 0.975])
def test_attack_a_rate_alone_does_not_pass_for_what_was_shown(limits, level):
    """0 of 320 pictures and "at most 0.9 %" are two claims: every probe has the limits that its verdict used."""
    asked = battery()
    found = limits.limits_of(verdict_of(asked, Gates(), level=level).answers)
    assert found["direct"] == {"share_at_most": share_at_most(0, 320, level)}
    assert found["reworded"] == {"share_at_most": share_at_most(1, 320, level)}
    attack = asked["textual_inversion"]
    left, seen = (excess(attack.runs(arm), attack.runs("controls"), level) for arm in ("candidate", "original"))
    assert found["textual_inversion"] == {"left_at_most": left.high, "seen_at_least": seen.low}


def test_a_cost_says_which_clock_the_retraining_was_timed_by(limits, tmp_path):
    gold = tmp_path / "without-neon-0"
    assert limits.fraction_of_retrain(5, gold) == {}
    record = tmp_path / "without-neon-0.json"
    record.write_text(json.dumps({"seconds_of_the_last_part": 50}))
    assert limits.fraction_of_retrain(5, gold)["fraction_of_retrain"] == pytest.approx(0.1)
    record.write_text(json.dumps({"seconds_of_the_last_part": 50, "cpu_seconds_of_the_last_part": 100}))
    found = limits.fraction_of_retrain(5, gold)
    assert found["fraction_of_retrain"] == pytest.approx(0.05)
    assert found["retrain_timed_by"] == "cpu_seconds_of_the_last_part"
