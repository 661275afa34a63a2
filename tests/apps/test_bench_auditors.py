"""`expunge bench auditors`: peers run in their own Python and may fail in any way; the page shows the recorded result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from expunge.apps.bench.auditors import PEERS, Job, driver_text, run, verdict_of
from expunge.apps.bench.drivers.loop import MARK, draw, measure
from expunge.apps.bench.null import our_methods, per_record
from expunge.apps.bench.table import END, START, markdown
from expunge.core.errors import InputError
from expunge.stats.intervals import clopper_pearson

ROOT = Path(__file__).resolve().parents[2]
JOB = {"repetitions": 20, "seconds": 60, "seed": 0, "sizes": [100]}


def test_every_peer_has_a_driver_that_is_piped_and_not_imported():
    for name in PEERS:
        assert f"expunge.apps.bench.drivers.{name}" not in sys.modules
        compile(driver_text(name), name, "exec")


def test_the_null_is_the_same_for_all_and_knows_no_membership():
    assert np.array_equal(draw(100, 0, 3)[0], draw(100, 0, 3)[0])
    drawn = [draw(100, 0, k) for k in range(300)]
    gaps = [scores[coins].mean() - scores[~coins].mean() for scores, coins in drawn]
    assert abs(np.mean(gaps)) < 4 * 0.2 / np.sqrt(300)


def test_a_method_that_always_claims_never_claims_or_breaks():
    def breaks(scores, coins, seed):
        raise ZeroDivisionError("peer")

    methods = {"always": lambda s, c, k: True, "never": lambda s, c, k: False, "breaks": breaks}
    always, never, broken = measure(methods, JOB)
    assert (always["flagged"], always["runs"]) == (20, 20)
    assert never["flagged"] == 0
    assert broken["runs"] == 0
    assert broken["why"] == "ZeroDivisionError: peer"
    assert verdict_of([always], cells=3) == "invalid"
    assert verdict_of([broken], cells=3) == ""


def test_a_library_is_blamed_for_a_rate_and_not_for_the_width_of_the_table():
    row = {"flagged": 39, "runs": 497}
    assert verdict_of([row], cells=1) == "invalid"
    assert verdict_of([row], cells=57) == "no excess"
    assert verdict_of([{"flagged": 60, "runs": 497}], cells=57) == "invalid"
    assert verdict_of([{"flagged": 0, "runs": 7}], cells=57) == "too few runs"


def test_a_slow_method_stops_at_its_budget():
    (row,) = measure({"slow": lambda s, c, k: sum(range(2_000_000)) < 0}, {**JOB, "repetitions": 10**9, "seconds": 0.2})
    assert 1 <= row["runs"] < 1000


def test_picking_the_best_threshold_on_the_judged_scores_is_caught_by_the_null():
    """The error of three audited libraries, made on purpose."""

    def picked(scores, coins, seed):
        order = coins[np.argsort(scores)]
        right = [(~order[:k]).sum() + order[k:].sum() for k in range(101)]
        return clopper_pearson(max(right), 100, 0.9).low > 0.5

    (row,) = measure({"picked": picked}, {**JOB, "repetitions": 200})
    assert clopper_pearson(row["flagged"], row["runs"]).low > 0.05


def test_ours_keep_their_level_at_the_smallest_size():
    for row in measure(our_methods(), {**JOB, "repetitions": 150}):
        assert clopper_pearson(row["flagged"], row["runs"], 0.999).low <= 0.05, row


def test_per_record_rules_at_their_realised_level():
    rows = {(r["method"], r["anchors"], r["alpha"]): r["flagged"] / r["runs"] for r in per_record(8000, 0)}
    assert rows[("t-prediction", 8, 0.01)] == pytest.approx(0.01, abs=0.005)
    assert rows[("rank and t", 64, 0.05)] == pytest.approx(0.05, abs=0.01)
    assert rows[("plug-in Gaussian", 8, 0.01)] > 0.03


def fake_checkout(folder, audit):
    folder.mkdir()
    (folder / "audit.py").write_text(audit)
    return str(folder)


def job(**changes):
    return Job(**{"repetitions": 3, "seconds": 20, "sizes": (100,), "peers": {}, "sources": {}} | changes)


def test_a_peer_is_measured_in_its_own_process_whatever_it_prints(tmp_path):
    audit = (
        "import torch.utils.data\nfrom visualize import plot_roc\n"
        "def f(x: torch.utils.data.Dataset): ...\n"
        f"print({MARK + 'not json'!r})\n"
        "def compute_abstain_attack_results(scores, members):\n    print('noise'); return {'eps_opt': 1.0}\n"
    )
    source = fake_checkout(tmp_path / "pm-1234567", audit)
    found = run(job(peers={"privacy_meter": sys.executable}, sources={"privacy_meter": source}))
    peer = {library["name"]: library for library in found["libraries"]}["privacy_meter"]
    assert peer["version"].startswith("checkout pm-1234567")
    assert [(row["flagged"], row["runs"]) for row in peer["rows"]] == [(3, 3)]


def test_peers_that_are_absent_broken_or_silent_get_a_row_that_says_why(tmp_path):
    dies = fake_checkout(tmp_path / "dies", "import os\nos._exit(7)\n")
    peers = {
        "privacy_meter": sys.executable,
        "jax_privacy": sys.executable,
        "opake_auditing": str(tmp_path / "no-python"),
    }
    found = run(job(peers=peers, sources={"privacy_meter": dies}))
    why = {library["name"]: library["why"] for library in found["libraries"]}
    assert why["privacy_meter"].startswith("exit 7")
    assert "jax" in why["jax_privacy"]
    assert "no-python" in why["opake_auditing"]
    assert "no Python was given" in why["tensorflow_privacy"]
    assert why["expunge"] == ""
    assert "no Python was given" in markdown(found)


def test_an_unknown_peer_is_refused():
    with pytest.raises(InputError, match="no driver"):
        job(peers={"guardian": sys.executable})


# ------------------------------------------------------------------------------------------------ the recorded result


@pytest.fixture(scope="module")
def recorded():
    return json.loads((ROOT / "benchmarks" / "auditors" / "result.json").read_text())


def test_the_page_shows_the_recorded_result(recorded):
    page = (ROOT / "docs" / "auditors.md").read_text()
    shown = page.partition(START)[2].partition(END)[0].strip()
    assert shown == markdown(recorded)


def test_our_recorded_bounds_keep_five_percent_at_every_size(recorded):
    ours = next(library for library in recorded["libraries"] if library["name"] == "expunge")
    assert {row["m"] for row in ours["rows"]} == {100, 1000, 5000}
    for row in ours["rows"]:
        assert row["runs"] >= 400
        assert row["low"] <= 0.05, row


def test_every_peer_was_measured_or_says_why(recorded):
    assert {library["name"] for library in recorded["libraries"]} == {"expunge", *PEERS}
    for library in recorded["libraries"]:
        assert library["rows"] or library["why"]
        assert library["version"] or library["why"]
