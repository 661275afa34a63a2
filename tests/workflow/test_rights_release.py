"""Releases are blocked until every granted request was verified on their bytes; what is published points at nobody."""

import json
from collections import Counter

import numpy as np
import pytest

from expunge.core.errors import CheckBroken, Held, InputError
from expunge.core.finding import Verdict
from expunge.core.styles import StyleRung
from expunge.data.opt_out.signals import Protocol, Says, Signal, Signals
from expunge.stats.style_collateral import Kept, Limits, collateral_of
from expunge.stats.styles import Answer
from expunge.training.text_to_image.directory import read_directory
from expunge.workflow.rights.facts import Harm, Learned, OptOut
from expunge.workflow.rights.measured import harm_of, learned_of, opt_out_of
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.published import FOLDED, Closed, fold, published
from expunge.workflow.rights.regression import Granted, Verified, check_release, to_verify
from expunge.workflow.rights.terms import Action
from rights import NOW, RECORD

POLICY = default_rights_policy()
PLAN = "sha256:" + "c" * 64


@pytest.fixture
def folder(tmp_path):
    """A directory in the layout of diffusers, with a few bytes for weights."""
    index = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    for part in index:
        (tmp_path / part).mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    for part in ("unet", "text_encoder"):
        (tmp_path / part / "model.safetensors").write_bytes(part.encode())
    (tmp_path / "tokenizer" / "vocab.json").write_text("{}")
    return tmp_path


def granted(folder, *, request="case-1", rung=StyleRung.SUPPRESSED):
    return Granted(request=request, rung=rung, plan=PLAN, files=dict(read_directory(folder).files))


def verified(release, *, request="case-1", rung=StyleRung.SUPPRESSED, plan=PLAN, digest=None):
    return Verified(request=request, digest=digest or release.digest, plan=plan, rung=rung, at=NOW)


def test_the_same_bytes_need_no_second_look(folder):
    release = read_directory(folder)
    assert to_verify([granted(folder)], release) == ()
    check_release([granted(folder)], release, [])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda f: (f / "unet/model.safetensors").write_bytes(b"another checkpoint"), "another denoiser"),
        (lambda f: (f / "unet/model.safetensors").write_bytes(b"une"), "another denoiser"),  # quantised
        (lambda f: (f / "text_encoder/model.safetensors").write_bytes(b"stock"), "another text encoder"),
        (lambda f: (f / "tokenizer/vocab.json").write_text('{"a": 1}'), "another text encoder"),
        (lambda f: (f / "scheduler/scheduler_config.json").write_text('{"x": 1}'), "another setting"),
        (lambda f: (f / "unet/adapter.safetensors").write_bytes(b"lora"), "a file was added"),
        (lambda f: (f / "tokenizer/vocab.json").unlink(), "a file is gone"),
    ],
)
def test_a_swap_of_any_file_blocks_the_release_until_everybody_is_verified_again(folder, change, kind):
    before = granted(folder)
    change(folder)
    release = read_directory(folder)
    (found,) = to_verify([before], release)
    assert found.kinds[0].startswith(kind)
    assert len(found.changed) == 1
    with pytest.raises(Held, match="case-1"):
        check_release([before], release, [])
    check_release([before], release, [verified(release)])


def changed(folder):
    before = [granted(folder), granted(folder, request="case-2", rung=StyleRung.INDISTINGUISHABLE)]
    (folder / "unet/model.safetensors").write_bytes(b"merged")
    return before, read_directory(folder)


def test_evidence_about_other_bytes_or_of_another_battery_does_not_release(folder):
    before, release = changed(folder)
    good = [verified(release), verified(release, request="case-2", rung=StyleRung.INDISTINGUISHABLE)]
    check_release(before, release, good)
    for spoilt in (
        good[:1],
        [good[0], verified(release, request="case-2", rung=StyleRung.EXACT, digest="sha256:" + "0" * 64)],
        [good[0], verified(release, request="case-2", rung=StyleRung.EXACT, plan=RECORD)],
    ):
        with pytest.raises(Held, match="case-2"):
            check_release(before, release, spoilt)


def test_a_request_that_fell_below_what_it_was_granted_blocks_the_release(folder):
    before, release = changed(folder)
    for rung in (StyleRung.SUPPRESSED, StyleRung.NOT_ERASED):
        with pytest.raises(Held, match="fell below"):
            check_release(before, release, [verified(release), verified(release, request="case-2", rung=rung)])
    for rung in (StyleRung.EXACT, StyleRung.NOT_LEARNED):
        check_release(before, release, [verified(release), verified(release, request="case-2", rung=rung)])


def test_a_second_run_that_went_well_does_not_make_up_for_one_that_failed(folder):
    before, release = changed(folder)
    runs = [verified(release), verified(release, request="case-2", rung=StyleRung.INDISTINGUISHABLE)]
    with pytest.raises(Held, match="fell below"):
        check_release(before, release, [*runs, verified(release, rung=StyleRung.NOT_ERASED)])


def test_a_style_that_was_not_learned_and_now_is_drawn_blocks_the_release(folder):
    before = [granted(folder, rung=StyleRung.NOT_LEARNED)]
    (folder / "unet/model.safetensors").write_bytes(b"trained on")
    release = read_directory(folder)
    check_release(before, release, [verified(release, rung=StyleRung.NOT_LEARNED)])
    with pytest.raises(Held):
        check_release(before, release, [verified(release, rung=StyleRung.NOT_ERASED)])


def test_a_grant_without_files_is_verified_whatever_is_released(folder):
    nothing = Granted(request="case-1", rung=StyleRung.SUPPRESSED, plan=PLAN, files={})
    assert to_verify([nothing], read_directory(folder))[0].request == "case-1"
    with pytest.raises(InputError, match="twice"):
        check_release([nothing, nothing], read_directory(folder), [])


# -------------------------------------------------------------------------------------------------------- public counts


def closed(action, count, **more):
    return [Closed(action=action, **more)] * count


def test_public_counts_have_outcomes_methods_and_rungs_and_no_names():
    rows = closed(Action.STYLE_EDIT, 12, method="uce", rung=StyleRung.SUPPRESSED) + closed(Action.REFUSE, 7)
    found = published(rows, POLICY)
    assert (found.total, found.floor) == (19, 5)
    assert found.outcomes == {"style_edit": 12, "refuse": 7}
    assert found.methods == {"uce": 12}
    assert found.rungs == {"SUPPRESSED": 12}


def test_a_count_that_points_at_somebody_is_folded_and_cannot_be_had_by_subtraction():
    rows = closed(Action.STYLE_EDIT, 12) + closed(Action.REFUSE, 7) + closed(Action.RETRAIN, 1)
    found = published(rows, POLICY)
    assert found.outcomes == {"style_edit": 12, FOLDED: 8}
    assert found.total == 20
    shown = [count for name, count in found.outcomes.items() if name != FOLDED]
    assert found.total - sum(shown) == found.outcomes[FOLDED] >= found.floor


@pytest.mark.parametrize("seed", range(30))
def test_no_published_cell_is_below_the_floor_and_no_folded_one_is_alone(seed):
    rng = np.random.default_rng(seed)
    counts = Counter({f"m{n}": int(rng.integers(0, 12)) for n in range(int(rng.integers(1, 7)))})
    found = fold(counts, 5)
    assert all(count >= 5 for count in found.values())
    hidden = [name for name, count in counts.items() if count and name not in found]
    assert len(hidden) != 1 or sum(counts.values()) < 5
    if FOLDED in found:
        assert sum(found.values()) == sum(counts.values())


def test_a_period_with_few_requests_publishes_nothing():
    found = published(closed(Action.REFUSE, 4), POLICY)
    assert (found.total, found.outcomes) == (None, {})


# -------------------------------------------------------------------------------------------- from measurements to facts


def test_what_the_house_measures_becomes_the_facts_of_a_request():
    def row(record, says, crawled=NOW):
        one = Signal(protocol=Protocol.TDMREP, says=says, where="x", read=NOW, digest="0" * 64)
        return Signals(record=record, crawled=crawled, signals=(one,))

    signals = {"a": row("a", Says.RESERVED), "b": row("b", Says.SILENT), "c": row("c", Says.RESERVED, None)}
    assert opt_out_of(["a", "b", "c", "d"], signals) == OptOut(reserved=1, unknown=2)
    assert opt_out_of(["b"], signals) == OptOut(reserved=0, unknown=0)
    answer = Answer(label="not_learned", verdict=Verdict.FAIL, rate=0.9, at_most=0.95)
    assert learned_of(answer) == Learned(verdict=Verdict.FAIL, rate=0.9, at_most=0.95)
    with pytest.raises(CheckBroken):
        learned_of(Answer(label="direct", verdict=Verdict.PASS, rate=0.0, at_most=0.01))
    same = np.ones(400, bool)
    kept = Kept(style="a", before=same, after=same, seen_before=same, seen_after=same)
    found = harm_of(collateral_of([kept], Limits()), shift=0.2)
    assert isinstance(found, Harm)
    assert (found.neighbours, found.shift) == (1, 0.2)
    assert 0 < found.at_most < 0.05


def test_an_edit_that_keeps_every_style_and_wears_the_objects_away_is_harm():
    same, seen = np.ones(400, bool), np.arange(400) >= 60
    kept = Kept(style="a", before=same, after=same, seen_before=same, seen_after=seen)
    found = collateral_of([kept], Limits())
    assert found.mean.at_most < 0.01
    assert harm_of(found).at_most == max(found.objects.at_most, found.asked.drop.at_most) > 0.15
