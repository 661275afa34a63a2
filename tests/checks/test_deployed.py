import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from expunge.checks.deployed import DeployedFile
from expunge.core import registry
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import Check
from oracle import naive
from oracle.banks import bank, job, served

SHIFTED = (0, 13, 19, 47)  # one record shifted by 2 SD against 40 anchors, with p from .001 to .01
PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE


def judged(seed=0, *, signals=("lira", "rmia"), limits=None, **files):
    return DeployedFile().run(
        job(deployed=served(np.random.default_rng(seed), **files), signals=signals, **(limits or {}))
    )


def test_the_registry_finds_it_by_file_name():
    assert registry.load("checks", "deployed") is DeployedFile
    assert isinstance(DeployedFile(), Check)


def test_a_served_no_op_fails():
    """The defeat device: honest on the bank, nothing done to the file that is served."""
    found = judged(candidate=1.0)
    assert found.verdict is FAIL
    assert found.estimate <= found.limit
    assert found.original <= found.limit


def test_the_very_original_fails():
    files = served(np.random.default_rng(1))
    same = dataclasses.replace(files, candidate=files.original, candidate_population=files.original_population)
    assert DeployedFile().run(job(deployed=same)).verdict is FAIL


def test_a_file_pushed_far_below_the_anchors_fails():
    found = judged(candidate=-2.0)
    assert found.verdict is FAIL
    assert "far below" in found.reason
    assert found.estimate <= found.limit


def test_an_honest_file_passes_nothing_beyond_rejecting_still_in():
    found = judged(gap=3.0)
    assert found.verdict is PASS
    assert "the rank can only fail a file; it passed nothing beyond rejecting 'still IN'" in found.reason
    assert "detectable shift" in found.reason
    assert found.mde > 3
    assert found.n == 40


def test_fewer_than_nineteen_anchors_is_half_size_only():
    found = judged(anchors=18)
    assert found.verdict is UNVERIFIABLE
    assert "tested on half-size models only" in found.reason


def test_without_anchors_nothing_was_tested_and_nothing_else_is_claimed():
    found = DeployedFile().run(job())
    assert found.verdict is UNVERIFIABLE
    assert found.reason == "no anchors were trained: the served file itself was not tested"
    refused = DeployedFile().run(dataclasses.replace(job(), bank_refusal="7 of its 40 pairs trained on half the block"))
    assert refused.verdict is UNVERIFIABLE
    assert refused.reason == "the bank cannot judge this: 7 of its 40 pairs trained on half the block"
    assert (refused.n, refused.estimate) == (0, None)


def test_fewer_than_nineteen_in_anchors_cannot_reject_still_in():
    found = judged(members=18, gap=3.0)
    assert found.verdict is INCONCLUSIVE
    assert "18 IN anchors" in found.reason
    assert judged(members=18, gap=3.0, candidate=1.0).verdict is FAIL


def test_an_original_that_looks_out_makes_the_test_blind():
    found = judged(gap=0.1, records=1)
    assert found.verdict is UNVERIFIABLE
    assert "original itself" in found.reason


def test_half_a_removal_is_not_a_pass():
    """Between the anchors of both sides: the rank does not fail it at once, and 'still IN' is not rejected."""
    verdicts = [judged(seed, candidate=0.5, records=1, gap=6.0, signals=("lira",)).verdict for seed in range(12)]
    assert verdicts.count(PASS) <= 4
    assert set(verdicts) <= {PASS, FAIL, INCONCLUSIVE}


def test_without_in_models_nothing_is_fitted_and_the_bank_may_lend_them():
    files = served(np.random.default_rng(2), members=1, gap=3.0)
    found = DeployedFile().run(job(deployed=files))
    assert found.verdict is INCONCLUSIVE
    assert "no IN models" in found.reason
    arms = bank(np.random.default_rng(2), pairs=20, gap=3.0)
    lent = DeployedFile().run(job(deployed=files, arms=arms))
    assert lent.estimate is not None
    assert lent.verdict in (INCONCLUSIVE, UNVERIFIABLE)


def test_a_file_of_another_recipe_does_not_pass():
    """Shifted on records nobody trained on: it is not one of the anchors, so its rank means nothing."""
    files = served(np.random.default_rng(3), gap=3.0)
    odd = dataclasses.replace(files, candidate_population=np.minimum(files.candidate_population / 30, 0))
    found = DeployedFile().run(job(deployed=odd, signals=("lira",)))
    assert found.verdict is INCONCLUSIVE
    assert "never-trained" in found.reason


def test_placebos_and_controls_are_part_of_the_finding():
    found = judged(gap=3.0)
    names = [c.name for c in found.conditions]
    for signal in ("lira", "rmia"):
        assert f"{signal}: the original is caught" in names
        assert f"{signal}: placebo alarms" in names
        assert f"{signal}: rejects 'still IN'" in names
    assert 0 <= found.reference <= 0.1


@pytest.mark.parametrize("seed", SHIFTED)
def test_a_retry_does_not_make_a_residue_of_two_sd_disappear(seed):
    """The attack: run the same failing file again until the alpha left to fail it is too small."""
    found = [judged(seed, candidate=1.0, records=1, gap=2.0, limits={"attempt": a}) for a in (1, 2, 3, 4)]
    assert [f.verdict for f in found] == [FAIL] * 4
    assert len({f.reason for f in found}) == 1
    assert {f.limit for f in found} == {0.0125}


def test_a_residue_that_a_halved_alpha_would_have_let_go_is_among_these():
    estimates = [judged(seed, candidate=1.0, records=1, gap=2.0).estimate for seed in SHIFTED]
    assert any(0.003125 < p <= 0.00625 for p in estimates)


def test_later_attempts_must_show_more_to_pass_and_never_less():
    """A marginal pass may become inconclusive on a retry; nothing else may change."""
    attempts = (1, 2, 3, 4)
    table = [
        [judged(seed, gap=gap, records=2, signals=("lira",), limits={"attempt": a}).verdict for a in attempts]
        for gap in (3.0, 3.5, 4.0)
        for seed in range(8)
    ]
    assert [PASS, INCONCLUSIVE] in [[row[0], row[3]] for row in table]
    for row in table:
        assert all(later is earlier or (earlier, later) == (PASS, INCONCLUSIVE) for earlier, later in pairwise(row))


def test_honest_files_are_failed_at_no_more_than_alpha():
    """All sides and signals together, at any attempt: .025."""
    rng, runs = np.random.default_rng(4), 120
    files = [served(rng, anchors=19, members=2, records=5, population=20) for _ in range(runs)]
    found = [DeployedFile().run(job(deployed=one)) for one in files]
    assert naive.at_most(sum(f.verdict is FAIL for f in found), runs, 0.025)
    assert not any(f.verdict is PASS for f in found)


@pytest.mark.parametrize("change", ["candidate", "original", "out_anchors", "in_anchors", "out_population"])
def test_malformed_files_break_the_check(change):
    files = served(np.random.default_rng(5), anchors=20)
    good = getattr(files, change)
    for bad in (good * np.nan, good[:, 1:], -good):
        with pytest.raises(CheckBroken):
            DeployedFile().run(job(deployed=dataclasses.replace(files, **{change: bad})))


def test_two_candidates_are_not_one_file():
    files = served(np.random.default_rng(5), anchors=20)
    two = {name: np.tile(getattr(files, name), (2, 1)) for name in ("candidate", "candidate_population")}
    with pytest.raises(CheckBroken, match="one file"):
        DeployedFile().run(job(deployed=dataclasses.replace(files, **two)))


def test_one_signal_named_twice_is_not_two():
    with pytest.raises(CheckBroken, match="twice"):
        judged(signals=("lira", "lira"))
    assert judged(signals=()).verdict is INCONCLUSIVE


def test_only_rounded_p_values_leave_the_check():
    files = served(np.random.default_rng(6), records=1, gap=30.0)
    found = DeployedFile().run(job(deployed=files))
    text = canonical(encode(found)).decode()
    assert not any(
        f"{v:.5g}" in text for v in np.concatenate([files.candidate, files.original, files.out_anchors]).ravel()
    )
    assert all(len(v.replace("0.", "").lstrip("0").split("e")[0].replace(".", "")) <= 3 for v in found.details.values())
    assert DeployedFile().run(job(deployed=files)) == found
