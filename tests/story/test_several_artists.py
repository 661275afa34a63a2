"""Several artists go at once: one solve, and each is judged by a battery of their own at an equal share of the error.

What would be drawn is stood in for by counts; data, edit, log and certificate are real.
"""

import json
from dataclasses import replace

import pytest

from expunge.core.errors import InputError
from expunge.core.finding import Guarantee, Verdict
from expunge.core.styles import StyleRung
from expunge.stats.recovery import fewest_seeds
from expunge.stats.spending import limit_level
from expunge.stats.styles import Arms
from expunge.testing.style_evidence import honest_styles
from expunge.workflow.intake import resolve
from expunge.workflow.planner import unlearn_job
from expunge.workflow.rights import probing
from expunge.workflow.rights.load import load_of
from expunge.workflow.styles import edits, evidence, rerun
from expunge.workflow.styles.material import SINGLE, materials_of, style_handle
from recommending import failed_steps
from testbed import answering, counts, make_testbed, small_testbed

pytestmark = pytest.mark.usefixtures("one_thread")

BOTH = ["neon", "duotone"]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    small_testbed(monkeypatch)
    answering(monkeypatch, hits=40)
    with make_testbed(tmp_path / "ws", styles={"pictures": 40, "steps": 1, "retained": 4}) as opened:
        yield opened


@pytest.fixture
def asked(monkeypatch):
    """Every battery that is asked. The first edit leaves the second artist's style; the next one leaves neither's."""
    plans = []

    def battery(plan, subjects, judges, folder, progress=None):
        plans.append(plan)
        tried = len({one.seed for one in plans})
        left = 38 if tried == 2 else 0
        made = Arms(
            original=counts(38, seeds=plan.seeds),
            candidate=counts(left, seeds=plan.seeds),
            controls={name: counts(0, seeds=plan.seeds) for name in plan.controls},
        )
        return {probe.label: made for probe in plan.probes}

    for module in (evidence, rerun):
        monkeypatch.setattr(module, "run_battery", battery)
    monkeypatch.setattr(evidence, "looked_through", lambda *_: ((), 0.01, ""))
    monkeypatch.setattr(evidence, "_kept", lambda *_: honest_styles().kept)
    return plans


def test_an_edit_of_two_is_accepted_only_where_each_of_them_passes_and_the_certificate_has_both(workspace, asked):
    case = workspace.request(block=BOTH)
    found = materials_of(workspace, resolve(workspace, case))
    assert {one.target for one in found} == set(BOTH)
    assert [one.retained for one in found] == [("mosaic",)] * 2  # who goes at the same time is nobody who stays
    outcome = workspace.run(case, ["erasers/uce", "erasers/rece"])
    assert [trial.decision.accepted for trial in outcome.trials] == [False, True]
    first, second = (next(f for f in t.findings if f.check == "style") for t in outcome.trials)
    assert (first.verdict, second.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert first.reason.startswith("2 artists, each judged by a battery of their own; artist 2: NOT-ERASED")
    assert "artist 1:" not in first.reason
    assert outcome.guarantee is Guarantee.EMPIRICAL
    assert failed_steps(workspace, outcome) == []
    assert second.details["artists"] == "2"
    assert float(second.details["level_pass"]) == limit_level(2, artists=2)
    assert load_of(workspace).edits == 2
    batteries = {second.details[f"artist.{number}.battery"] for number in (1, 2)}
    assert len(batteries) == 2
    folder = outcome.certificate.path.parent
    kept = [json.loads((folder / name).read_bytes()) for name in ("battery.json", "battery-2.json")]
    assert {one["digest"] for one in kept} == batteries
    assert {one["plan"]["target"] for one in kept} == {style_handle(workspace, name) for name in BOTH}
    for file in folder.rglob("*"):
        assert not file.is_file() or not any(name.encode() in file.read_bytes() for name in BOTH), file.name
    again = rerun.rerun_case(workspace, outcome.case, workspace.served().digest, None)
    assert (again.expired, again.differing, again.rung) == (False, (), StyleRung.INDISTINGUISHABLE)
    assert {label.partition(":")[0] for label in again.asked} == {"artist 1", "artist 2"}
    # a hit on either of them later on ends the certificate of both
    for style in BOTH:
        assert probing._revoke(workspace, style, workspace.served().digest) == (outcome.case,)
    # each artist is asked with seeds of their own, as many as their share of the error takes
    seeds = {plan.seed: plan for plan in asked}
    assert len(seeds) == 4  # two artists, two attempts
    fewest = [fewest_seeds(40, limit_level(attempt, artists=2)) for attempt in (1, 2)]
    assert sorted({plan.seeds for plan in seeds.values()}) == fewest
    assert fewest[0] > fewest_seeds(40, limit_level(1))


def test_both_artists_are_one_job_of_the_eraser(workspace):
    job = unlearn_job(workspace, resolve(workspace, workspace.request(block=BOTH)))
    assert edits.Edit("uce", None).refuses(job) is None
    found = edits.erase_job(job)
    assert len(set(found.erase)) == len(found.erase) == len(found.guide)
    train = workspace.data.train
    for style in BOTH:
        own = {caption for caption, name in zip(train.captions, train.styles, strict=True) if name == style}
        assert own <= set(found.erase)
        assert not own & set(found.preserve)
    assert set(found.works.styles) == set(BOTH)
    assert set(found.retained.styles) == {"mosaic"}


def test_attack_one_work_of_somebody_who_stays_does_not_silence_what_is_asked_about_the_other(workspace):
    """Filed again with a stray work, a style that was shown to stay would not be asked for any more."""
    ids = [name for name, block in zip(workspace.book.ids, workspace.book.blocks, strict=True) if block == "duotone"]
    found = materials_of(workspace, resolve(workspace, workspace.request(block="neon", ids=ids[:1])))
    assert sorted(one if isinstance(one, str) else one.target for one in found) == ["neon", SINGLE]


def test_several_artists_of_whom_works_stay_or_beside_whom_nobody_stays_are_not_edited(workspace):
    ids = [name for name, block in zip(workspace.book.ids, workspace.book.blocks, strict=True) if block == "duotone"]
    some = unlearn_job(workspace, resolve(workspace, workspace.request(block="neon", ids=ids[:1])))
    everybody = replace(some, forget=frozenset(range(len(workspace.book.ids))))
    for job in (some, everybody):
        assert "the works are not one artist's" in edits.Edit("uce", None).refuses(job)
    both = replace(some, forget=some.forget | {*workspace.book.in_block("duotone")})
    assert edits.Edit("uce", None).refuses(both) is None


def test_an_artist_who_is_named_twice_is_refused(workspace):
    with pytest.raises(InputError, match="names a record twice"):
        workspace.request(block=["neon", "neon"])
