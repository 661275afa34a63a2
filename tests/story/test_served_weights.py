"""V2 asks what is served and not what is stored beside it: attacks on the inverse, with the sums left right."""

from contextlib import suppress

import numpy as np
import pytest

from expunge.core import registry
from expunge.core.errors import NotErased
from expunge.core.finding import Verdict
from expunge.training.closed_form.model import save_cache
from expunge.workflow import pipeline
from expunge.workflow.read_out import BESIDE, INVERTED, STORED
from expunge.workflow.red_team import user_of
from recommending import finding, make


def tried(workspace, monkeypatch, change=lambda job, result: None):
    """The findings on one deletion by `downdate`, after which `change` was done to its files."""
    downdate = registry.load("methods", "downdate")
    honest, judge, seen = downdate.unlearn, pipeline.judge, []

    def changing(self, job):
        result = honest(self, job)
        change(job, result)
        return result

    def watching(*given):
        seen.append(judge(*given))
        return seen[-1]

    monkeypatch.setattr(downdate, "unlearn", changing)
    monkeypatch.setattr(pipeline, "judge", watching)
    with suppress(NotErased):
        workspace.run(workspace.request(ids=[user_of(workspace, "readable")]), ["downdate"])
    return {found.check: found for found in seen[-1].findings}


def stale(job, result):
    """P as it was, under the new model's name: G is clean, and whoever is served is served from the old model."""
    save_cache(job.target, np.load(job.source / "inverse.npy"), result.digest)


def half_stale(job, result):
    """Half of the way back: the user weighs half as much in P."""
    old, new = (np.load(folder / "inverse.npy") for folder in (job.source, job.target))
    save_cache(job.target, (old + new) / 2, result.digest)


def test_g_is_clean_but_p_is_stale(workspace, monkeypatch):
    found = tried(workspace, monkeypatch, stale)
    told = found["weights_only"]
    assert told.verdict is Verdict.FAIL
    assert "counts inverted from P are not those stored beside it" in told.reason
    assert told.details["read_before"] == told.details["read_after"] == "1"
    assert told.details["read"] == INVERTED
    assert found["algebra"].conditions[0].verdict is Verdict.PASS  # the sums alone say nothing of it
    assert found["algebra"].verdict is Verdict.FAIL


def test_p_that_is_the_inverse_of_no_counts_is_not_read(workspace, monkeypatch):
    found = tried(workspace, monkeypatch, half_stale)
    assert found["weights_only"].verdict is Verdict.INCONCLUSIVE
    assert "nothing can be read out of it" in found["weights_only"].reason
    assert found["algebra"].verdict is Verdict.FAIL


def test_an_honest_deletion_is_read_out_of_what_is_served(workspace, monkeypatch):
    """And the original, as it was, gives the history away: the control."""
    told = tried(workspace, monkeypatch)["weights_only"]
    assert told.verdict is Verdict.PASS
    assert told.conditions[0].name == "counts inverted from P are those stored"
    assert told.conditions[0].verdict is Verdict.PASS
    assert 0 < float(told.details["rounding"]) < 1e-6
    assert (told.details["read"], told.details["read_before"], told.details["read_after"]) == (INVERTED, "1", "0")
    assert "(counts inverted from P)" in told.reason


@pytest.mark.parametrize(("family", "said"), [("ease", BESIDE), ("itemknn", STORED)])
def test_counts_that_were_not_inverted_are_called_what_they_are(tmp_path, family, said):
    with make(tmp_path / "ws", family=family, quality={"invert": 69}) as workspace:
        outcome = workspace.run(workspace.request(ids=[user_of(workspace, "readable")]))
        assert outcome.trials[-1].plan.params["invert"] == "69"
        told = finding(outcome, "weights_only")
        assert (told.verdict, told.details["read"]) == (Verdict.PASS, said)
        assert "rounding" not in told.details
