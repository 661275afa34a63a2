"""`expunge verify-scores`: verdicts on other tools' arrays, and what may never become a PASS."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import typer

from expunge.apps.cli import verify_scores
from expunge.apps.scores.arms import judge_arms
from expunge.apps.scores.bank import judge_bank
from expunge.apps.scores.pooled import judge_pooled
from expunge.apps.scores.verify import verify_arms, verify_files
from expunge.connect.scores import ModelSignals, PooledScores, ScoreArms
from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Verdict


def pooled(gap, n=400, seed=0):
    rng = np.random.default_rng(seed)
    return PooledScores(members=rng.normal(gap, 1, n), nonmembers=rng.normal(0, 1, n), meaning="test")


def bank(gap, models=16, records=600, seed=0, population=200):
    rng = np.random.default_rng(seed)
    member = np.zeros((models, records), bool)
    for k in range(0, models, 2):
        member[k, rng.permutation(records)[: records // 2]] = True
        member[k + 1] = ~member[k]
    phi = rng.normal(1, 1, records) + gap * member + rng.standard_normal((models, records))
    unseen = rng.normal(1, 1, population) + rng.standard_normal((models, population))
    return ModelSignals(
        log_p=-np.logaddexp(0, -phi),
        member=member,
        population=-np.logaddexp(0, -unseen) if population else None,
        meaning="test",
    )


def arms(shift, gap=4.0, n=48, signals=3, seed=0):
    """X = O shifted by `shift` of the gap; pairs share a part."""
    rng = np.random.default_rng(seed)
    out, into, unlearned = {}, {}, {}
    for name in "abcd"[:signals]:
        shared = 0.4 * rng.standard_normal(n)
        out[name] = shared + rng.standard_normal(n)
        into[name] = shared + gap + rng.standard_normal(n)
        unlearned[name] = shift * gap + shared + rng.standard_normal(n)
    return ScoreArms(out=out, into=into, unlearned=unlearned)


def verdict_of(answer):
    return answer.finding.verdict


# ----------------------------------------------------------------------------------------------------- pooled scores


def test_visible_membership_fails_and_its_epsilon_is_bounded():
    answer = judge_pooled(pooled(1.5, 2000), source="t", seed=0, coins=True)
    assert verdict_of(answer) is Verdict.FAIL
    rows = {row.what: row for row in answer.rows}
    assert rows["AUC"].low > 0.8
    assert rows["epsilon, Bonferroni"].estimate > 0.5
    assert rows["coins guessed right"].low > 0.7
    assert "NOT RESOLVED" in rows["TPR at 0.1 % FPR"].note  # 2,995 nonmembers would be needed
    assert "NOT RESOLVED" not in rows["TPR at 1 % FPR"].note


def test_no_difference_is_never_a_pass_and_rarely_a_fail():
    verdicts = [
        verdict_of(judge_pooled(pooled(0.0, 60, seed), source="t", seed=seed, coins=False)) for seed in range(150)
    ]
    assert Verdict.PASS not in verdicts
    assert verdicts.count(Verdict.FAIL) <= 12  # 99.9 % of Binomial(100, .05)


def test_few_exposed_records_are_found_by_epsilon_though_the_mean_is_blind():
    rng = np.random.default_rng(5)
    members, others = rng.normal(0, 1, 4000), rng.normal(0, 1, 4000)
    members[:80] += 9
    members[80:] -= 0.05
    given = PooledScores(members=members, nonmembers=others, meaning="test")
    answer = judge_pooled(given, source="t", seed=0, coins=False)
    assert verdict_of(answer) is Verdict.FAIL
    assert "epsilon" in answer.finding.reason
    assert "Mann-Whitney" not in answer.finding.reason


def test_swapped_scores_are_noticed():
    answer = judge_pooled(pooled(-0.5), source="t", seed=0, coins=False)
    assert verdict_of(answer) is Verdict.INCONCLUSIVE
    assert "LOWER" in answer.finding.reason


def test_too_few_records_decide_nothing():
    answer = judge_pooled(pooled(9.0, 10), source="t", seed=0, coins=True)
    assert verdict_of(answer) is Verdict.INCONCLUSIVE
    assert "at least 20" in answer.finding.reason


def test_tied_scores_do_not_tell_the_coins_by_their_place_in_the_file():
    members, others = np.zeros(500), np.zeros(500)
    others[0] = 1e-9
    given = PooledScores(members=members, nonmembers=others, meaning="test")
    rows = {row.what: row for row in judge_pooled(given, source="t", seed=0, coins=True).rows}
    assert rows["coins guessed right"].low < 0.5 < rows["coins guessed right"].high
    assert rows["epsilon, one run"].estimate == 0


# ------------------------------------------------------------------------------------------------------------- banks


def test_a_bank_that_remembers_fails_with_calibrated_rates_and_attacks_rescored():
    answer = judge_bank(bank(1.0), source="t")
    assert verdict_of(answer) is Verdict.FAIL
    rows = {row.what: row for row in answer.rows}
    assert rows["rank and t: false alarms at 5 %"].low < 0.05 < rows["rank and t: false alarms at 5 %"].high + 0.01
    assert rows["plug-in Gaussian: false alarms at 1 %"].low > 0.02
    assert rows["lira: AUC"].low > 0.6
    assert rows["rmia: AUC"].low > 0.6
    assert rows["correlation O-I in pairs"].n == 8


def test_a_bank_without_memory_or_population_is_inconclusive():
    answer = judge_bank(bank(0.0, population=0), source="t")
    assert verdict_of(answer) is Verdict.INCONCLUSIVE
    rows = {row.what: row for row in answer.rows}
    assert "not run" in rows["rmia: AUC"].note


def test_a_bank_of_losses_is_noticed_as_swapped():
    given = bank(-1.0)
    assert verdict_of(judge_bank(given, source="t")) is Verdict.INCONCLUSIVE
    assert "LOWER" in judge_bank(given, source="t").finding.reason


@pytest.mark.parametrize("models", [2, 4])
def test_too_few_out_models_are_inconclusive(models):
    assert verdict_of(judge_bank(bank(2.0, models=models), source="t")) is Verdict.INCONCLUSIVE


def test_records_without_enough_models_are_set_aside_and_counted():
    given = bank(1.0)
    given.member[:, :10] = True
    answer = judge_bank(given, source="t", attacks=("lira",))
    assert "10 of 600 records" in answer.notes[0]


# -------------------------------------------------------------------------------------------------------- three arms


def test_a_retrain_passes_on_three_signals_and_not_on_two():
    assert verdict_of(judge_arms(arms(0.0, n=96), source="t", seed=0)) is Verdict.PASS
    two = judge_arms(arms(0.0, n=96, signals=2), source="t", seed=0)
    assert verdict_of(two) is Verdict.INCONCLUSIVE
    assert "2 of 3 signals" in two.finding.reason


@pytest.mark.parametrize("shift", [1.0, 0.6, -0.6])
def test_a_no_op_a_half_measure_and_over_unlearning_fail(shift):
    assert verdict_of(judge_arms(arms(shift), source="t", seed=0)) is Verdict.FAIL


def test_one_failing_signal_fails_all():
    given = arms(0.0, n=96)
    given.unlearned["c"][:] = given.into["c"]
    answer = judge_arms(given, source="t", seed=0)
    assert verdict_of(answer) is Verdict.FAIL
    assert answer.finding.reason.startswith("c:")


def test_without_an_unlearned_arm_nothing_passes():
    given = arms(0.0, n=96)
    bare = ScoreArms(out=given.out, into=given.into, unlearned=None)
    answer = judge_arms(bare, source="t", seed=0)
    assert verdict_of(answer) in (Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE)
    assert "no unlearned arm" in answer.finding.reason


def test_a_blind_assay_is_unverifiable_though_the_arms_agree():
    answer = judge_arms(arms(0.0, gap=0.02, n=400), source="t", seed=0)
    assert verdict_of(answer) is Verdict.UNVERIFIABLE
    assert "does not see" in answer.finding.reason


def test_swapped_arms_are_noticed():
    given = arms(0.0)
    turned = ScoreArms(out=given.into, into=given.out, unlearned=given.unlearned)
    answer = judge_arms(turned, source="t", seed=0)
    assert verdict_of(answer) is Verdict.INCONCLUSIVE
    assert "LOWER" in answer.finding.reason


def test_attack_a_soft_margin_is_refused():
    with pytest.raises(InputError, match="margin"):
        judge_arms(arms(0.6), source="t", seed=0, margin=0.9)


# ------------------------------------------------------------------------------------------------------- the command


def command(*arguments):
    run = [sys.executable, "-m", "expunge.apps.cli.main", "verify-scores", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "160"}
    return subprocess.run(run, capture_output=True, text=True, env=environment, check=False)


def test_the_command_in_a_shell(tmp_path):
    given = pooled(1.5, 300)
    np.savez(tmp_path / "run.npz", in_canary_scores=given.members, out_canary_scores=given.nonmembers)
    done = command(str(tmp_path / "run.npz"), "--json")
    assert done.returncode == 3
    answer = json.loads(done.stdout)["answer"]
    assert answer["finding"]["verdict"] == "FAIL"
    assert answer["source"].endswith("read as jax_privacy")
    bad = command(str(tmp_path / "run.npz"), "--reader", "leakpro", "--json")
    assert bad.returncode == 2
    assert json.loads(bad.stderr)["error"] == "bad-input"


def test_the_table_for_people(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    np.savez(tmp_path / "[run].npz", members=[*range(30), 3.5], nonmembers=range(31))
    with pytest.raises(typer.Exit) as ended:
        verify_scores.command([tmp_path / "[run].npz"], coins=True)
    assert ended.value.exit_code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("INCONCLUSIVE  [run].npz, read as plain")
    assert "coins guessed right" in shown
    assert "no evidence of absence" in shown


def test_three_arms_by_file_and_the_questions_that_make_no_sense(tmp_path):
    given = arms(1.0)
    for name, arm in (("o", given.out), ("i", given.into), ("x", given.unlearned)):
        np.savez(tmp_path / f"{name}.npz", **arm)
    paths = [tmp_path / f"{name}.npz" for name in "oix"]
    assert verdict_of(verify_arms(*paths, seed=0, margin=0.3)) is Verdict.FAIL
    with pytest.raises(InputProblems):
        verify_arms(paths[0], paths[0], paths[2], seed=0, margin=None)
    with pytest.raises(InputError, match="no such file"):
        verify_files([tmp_path / "none.npz"], reader=None, seed=0, coins=False)
    with pytest.raises(InputError, match="no reader takes"):
        verify_files([paths[0]], reader=None, seed=0, coins=False)
    for options in ({}, {"out_arm": paths[0]}, {"unlearned": paths[2]}, {"files": paths[:1], "out_arm": paths[0]}):
        with pytest.raises(InputError):
            verify_scores.command(**options)


def test_a_typo_of_a_reader_lists_those_there_are(tmp_path):
    np.savez(tmp_path / "run.npz", members=range(30), nonmembers=range(1, 31))
    with pytest.raises(InputError, match="no scores named"):
        verify_files([tmp_path / "run.npz"], reader="leekpro", seed=0, coins=False)
