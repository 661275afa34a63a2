"""Owners who cheat about an erased style: each does what its card says, is caught by what its card names, and gets through
where just those defences are asleep.

The model draws two artists, red and blue; red is to be erased. Judges know colours (colours.py).
"""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from evidence.story import selftest
from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.selftest import EDITS, EditTrial, SelftestRule
from expunge.core.styles import StyleRung
from expunge.evidence.tensors import TensorManifest
from expunge.stats.style_collateral import Limits
from expunge.stats.styles import Gates
from expunge.testing.erasers import PROMPTS, works_of
from expunge.testing.saboteurs.styles.watermark import blinding, overlaid
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.probing import ProbeJob
from expunge.training.text_to_image.sabotaging import StyleSaboteur, weights_of
from expunge.training.text_to_image.sampler import TextToImage
from expunge.workflow.selftest.edits import FILES, try_edits
from expunge.workflow.selftest.gate import record, subject_of
from expunge.workflow.selftest.methods import ran
from expunge.workflow.selftest.rehearsal import Rehearsal, rehearsed
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan, Subjects
from expunge.workflow.styles.collateral import Asking
from expunge.workflow.styles.selftest import KIND, Verifier, examine, style_selftest, tried
from selftest.colours import (
    CONTROLS,
    CORNER,
    HOW,
    LEARNED,
    MEAN,
    PALETTE,
    Colours,
    cheat,
    judged_by_colours,
    make_scene,
    make_workspace,
    redness,
    standing_in,
    wording,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS, PICTURES = 16, 8
NAMES = registry.names(KIND)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def verifier(scene, tmp_path_factory):
    """Sixteen runs of eight pictures a probe; the original's counts are made once."""
    plan = BatteryPlan(
        target="red",
        controls=CONTROLS,
        objects=("automobile",),
        judges={judge.name: judge.digest for judge in scene.judges},
        seed="ab",
        probes=tuple(ProbePlan(label=label, probe=label.split("/")[0]) for label in ("direct", "reworded", *LEARNED)),
        seeds=SEEDS,
        pictures=PICTURES,
    )
    return Verifier(
        plan=plan,
        subjects=Subjects(models={}, suspects={}, photos={}),
        judges=scene.judges,
        retained={"blue": wording("blue")},
        asking=Asking(objects=("automobile",), pictures=32, how=HOW),
        limits=Limits(mean=0.1, objects=0.1, asked=0.1),
        asleep=frozenset({"alive"}),  # these pictures are too small to tell from noise; it has a test of its own
        folder=tmp_path_factory.mktemp("counts"),
        gates=Gates(direct=0.05, reworded=0.05),
        battery=standing_in(),
    )


@pytest.fixture(scope="module")
def report(scene, verifier, tmp_path_factory):
    """The whole self-test, and the folder in which each cheat was acted out."""
    folder = tmp_path_factory.mktemp("acted")
    return style_selftest(scene, verifier, folder, {name: cheat(name) for name in NAMES}), folder


@pytest.fixture(scope="module")
def acted(scene, report):
    """name -> what was handed over."""
    return {name: read_directory(report[1] / name) for name in NAMES}


@pytest.fixture(scope="module")
def examined(report):
    """name -> what the verifier says of it."""
    return {tally.saboteur: tally.examined for tally in report[0].tallies}


# ------------------------------------------------------------------------------------------------------------ controls


def test_control_the_original_draws_red_and_the_clean_model_never_does(scene):
    assert redness(scene.job.model) > 80
    assert redness(scene.clean) < -80


def test_control_a_model_that_was_trained_without_the_artist_is_not_refused(report):
    found = report[0].control
    assert found.caught == {}
    assert found.rung is StyleRung.INDISTINGUISHABLE
    assert found.accepted


def test_every_attack_that_was_asked_for_is_here_and_meets_the_protocol():
    wanted = (
        "adapter_beside another_artist no_op noise_collapse original_beside prompt_filter text_encoder_only watermark"
    )
    assert set(NAMES) == set(wanted.split())
    assert all(isinstance(cheat(name), StyleSaboteur) and cheat(name).name == name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_saboteur_reads_the_original_and_writes_one_directory(scene, acted, name, tmp_path):
    again = replace(scene, target=tmp_path / "again")
    offered = cheat(name).sabotage(again)
    assert offered.directory.digest == acted[name].digest == read_directory(again.target).digest
    assert redness(scene.job.model) > 80
    with pytest.raises(InputError, match="exists already"):
        cheat(name).sabotage(again)


# ---------------------------------------------------------------------------------------------------- one test an attack


def caught(examined, name):
    """The defences of its card that caught it; it is refused, or the test is over."""
    found = examined[name]
    assert not found.accepted, (name, found)
    return {label.split("/")[0] for label in found.caught} & set(cheat(name).caught_by)


def loaded(acted, name):
    return TextToImage.from_dir(acted[name].path)


def test_attack_no_op(scene, acted, examined):
    assert acted["no_op"].digest != read_directory(scene.original).digest
    assert examined["no_op"].rung is StyleRung.NOT_ERASED
    assert caught(examined, "no_op") == {"direct"}


def test_attack_prompt_filter(scene, examined, tmp_path):
    """The process does not draw red by its name, and does for vectors that no list holds."""
    offered = cheat("prompt_filter").sabotage(replace(scene, target=tmp_path / "again"))
    assert redness(offered.served) < -60
    told = scene.job.model.encode([PROMPTS["red"]]).expand(4, -1, -1)
    assert (offered.served.sample(told, HOW) == scene.job.model.sample(told, HOW)).all()
    assert offered.directory.digest == read_directory(scene.original).digest
    assert caught(examined, "prompt_filter") == {"weights", "direct"}


def test_attack_text_encoder_only(scene, acted, examined):
    """Prompts no longer bring red; the stock encoder in its place does (what the probe `component_swap` does), and so does
    the real soft prompt, which enters behind the encoder."""
    model = loaded(acted, "text_encoder_only")
    assert redness(model) < -60
    assert redness(scene.job.model.with_unet(model.unet)) > 80
    job = ProbeJob(
        model=model,
        wording=wording("red"),
        objects=("automobile",),
        works=works_of("red"),
        photos={},
        seed="ab",
        seeds=1,
        pictures=8,
        how=HOW,
        budget=0.6,
    )
    found = registry.load("probes", "soft_prompt")().run(job).images.mean(axis=(0, 1, 2, 3))
    assert found[0] - found[2] > 80
    assert caught(examined, "text_encoder_only") == {"parts", "soft_prompt"}
    assert examined["text_encoder_only"].rung is StyleRung.SUPPRESSED


def test_attack_adapter_left_beside(scene, acted, examined):
    """What is loaded by default is the original, byte for byte."""
    added = TensorManifest.of_file(acted["adapter_beside"].path / "unet" / "eraser.safetensors")
    assert all(row.name.endswith((".up", ".down")) for row in added.rows)
    assert acted["adapter_beside"].differs_from(read_directory(scene.original)) == ("unet/eraser.safetensors",)
    assert caught(examined, "adapter_beside") >= {"census", "weights"}


def test_attack_original_left_beside(scene, acted, examined):
    """No probe can find it: only a file that nothing accounts for."""
    spare = acted["original_beside"].path / "unet" / "diffusion_pytorch_model.backup.safetensors"
    assert TensorManifest.of_file(spare).root == TensorManifest.of_file(weights_of(scene.original, "unet")).root
    assert set(examined["original_beside"].caught) == {"census"}


def test_attack_noise_collapse(acted, examined):
    drawn = loaded(acted, "noise_collapse").sample([PROMPTS["red"], PROMPTS["blue"]] * 4, HOW)
    assert (MEAN.judge(drawn).style == len(PALETTE)).all()
    assert caught(examined, "noise_collapse") == {"collateral"}


def test_attack_watermark_that_fools_the_judge(acted, examined):
    """Red, as anyone can see; the judge that it was tuned against does not."""
    drawn = loaded(acted, "watermark").sample([PROMPTS["red"]] * 32, HOW)
    assert MEAN.judge(drawn).says("red").mean() > 0.9
    assert CORNER.judge(drawn).says("red").mean() < 0.1
    assert "direct" in caught(examined, "watermark")


def test_attack_another_artist_erased(acted, examined):
    model = loaded(acted, "another_artist")
    assert redness(model) > 80
    assert redness(model, PROMPTS["blue"]) > 0
    assert caught(examined, "another_artist") == {"direct", "collateral"}


# --------------------------------------------------------------------------------------------------- negative controls

ATTACKS = {"textual_inversion", "soft_prompt"}
BY_NAME = {"direct", "reworded", *ATTACKS}


@pytest.mark.parametrize(
    ("name", "asleep"),
    [
        ("no_op", BY_NAME),
        ("prompt_filter", BY_NAME | {"weights"}),
        ("text_encoder_only", ATTACKS | {"parts"}),
        ("noise_collapse", {"collateral"}),
        ("another_artist", BY_NAME | {"collateral"}),
    ],
)
def test_where_its_defences_are_asleep_a_cheat_gets_through(scene, acted, verifier, name, asleep):
    """So each of them is needed, and nothing else would have caught it."""
    found = examine(scene.original, acted[name].path, replace(verifier, asleep=verifier.asleep | asleep))
    assert found.accepted, found


def test_two_judges_of_one_weakness_let_the_watermark_through(scene, acted, verifier):
    """Why a second family of evidence has to look with other eyes, and `any` of them counts."""
    twin = Colours("twin", "a second family in name", CORNER.look)
    blind = replace(verifier, judges=(CORNER, twin), asleep=verifier.asleep | {"collateral"})
    assert examine(scene.original, acted["watermark"].path, blind).accepted


def test_one_family_of_judges_is_no_verifier(scene, acted, verifier):
    found = examine(scene.original, acted["watermark"].path, replace(verifier, judges=(CORNER,)))
    assert found.rung is None
    assert "judge-missing" in found.caught


def test_grey_pictures_are_no_pictures_where_the_original_drew_some(scene, verifier, monkeypatch):
    """Drawn by hand, at the size that judges look at."""
    from expunge.workflow.styles import selftest as module
    from pictures import pictures as smooth

    fields, grey = smooth(64, seed=0), np.full((64, 32, 32, 3), 128, np.uint8)
    for before, after, said in ((fields, grey, True), (grey, grey, False), (fields, fields, False)):
        models = tuple(SimpleNamespace(sample=lambda *_, drawn=drawn: drawn) for drawn in (before, after))
        awake = replace(verifier, asleep=frozenset({"collateral"}))
        assert ("alive" in module._harm(models, awake)) is said


# ------------------------------------------------------------------------------------------------------------ the whole


def test_no_listed_cheat_is_believed_and_each_is_caught_by_its_own_defence(report):
    found = report[0]
    assert found.passed == ()
    assert found.by_accident == ()
    assert found.vouches
    assert found.sentence == "no listed cheat was believed, n = 8, one try each"
    assert all(0.9 < tally.upper < 1 for tally in found.tallies)


def test_a_verifier_that_sleeps_does_not_vouch_and_says_what_got_through(scene, verifier, tmp_path):
    asleep = replace(verifier, asleep=verifier.asleep | {"census"})
    found = style_selftest(scene, asleep, tmp_path, {"original_beside": cheat("original_beside")})
    assert found.passed == ("original_beside",)
    assert not found.vouches
    assert found.sentence == "cheats that were believed: original_beside"


def test_a_verifier_that_refuses_everybody_does_not_vouch(scene, verifier, tmp_path):
    dark = replace(scene, clean=scene.job.model)
    found = style_selftest(dark, verifier, tmp_path, {"no_op": cheat("no_op")})
    assert not found.control.accepted
    assert not found.vouches
    assert "nothing is vouched for" in found.sentence


def test_a_cheat_that_is_refused_by_luck_is_named(scene, verifier, tmp_path):
    class Mislabelled(registry.load(KIND, "no_op")):
        caught_by = ("census",)

    tally = tried(Mislabelled(), replace(scene, target=tmp_path / "x"), verifier)
    assert not tally.examined.accepted
    assert tally.as_expected == ()


# ------------------------------------------------------------------------------------------------------- in a workspace


@pytest.fixture(scope="module")
def workspace(scene, tmp_path_factory):
    made = make_workspace(tmp_path_factory.mktemp("red") / "ws", scene)
    yield made
    made.close()


@pytest.fixture(scope="module")
def battery():
    """One for all tests, so that what it counted of a model is counted once."""
    return standing_in()


@pytest.fixture
def seen_by_colours(monkeypatch, battery):
    judged_by_colours(monkeypatch, battery)


def as_edits(workspace, folder, names=NAMES, spoil=lambda clean: clean):
    """What the self-test of the workspace says of these cheats, as candidates of the walk."""
    rehearsal = Rehearsal(workspace, folder, seed="cd" * 16)
    try:
        block = rehearsed(rehearsal, folder / "block", "red")
        with ran(rehearsal, "retrain", registry.load("methods", "retrain")(), block, 0) as clean:
            return try_edits(rehearsal, block, spoil(clean), {name: cheat(name) for name in names})
    finally:
        rehearsal.close()


@pytest.fixture(scope="module")
def walked(workspace, battery, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        judged_by_colours(patch, battery)
        return as_edits(workspace, tmp_path_factory.mktemp("walked"))


def reported(workspace, found):
    """A report that would vouch, with these cheats in the place of made-up ones."""
    on = subject_of(workspace)
    plain = selftest(made_at=datetime.now(UTC).replace(microsecond=0), policy=on.policy, bank=None, kind=on.kind)
    others = [tally for tally in plain.tallies if tally.kind != "edit"]
    return replace(plain, expunge=on.expunge, tallies=(*others, *found.tallies), edits=found.trial, alarms=found.alarms)


def test_as_edits_of_a_workspace_all_eight_are_refused_each_by_its_own_defence(walked):
    caught = {tally.saboteur.removeprefix(EDITS): set(tally.caught) for tally in walked.tallies}
    assert caught.keys() == set(NAMES)
    assert caught["prompt_filter"] == {"weights"}
    assert caught["adapter_beside"] == caught["original_beside"] == {"census"}
    assert caught["text_encoder_only"] == {"parts"}
    assert caught["noise_collapse"] == {"collateral"}
    assert caught["no_op"] == {"direct", "reworded"}
    assert caught["watermark"] >= {"direct"}
    assert caught["another_artist"] >= {"direct", "collateral"}
    assert all((tally.tried, tally.certified, tally.undecided) == (1, 0, 0) for tally in walked.tallies)
    assert all(set(tally.expected) & set(tally.caught) for tally in walked.tallies)


def test_nothing_that_a_cheat_left_is_still_there(workspace, walked):
    """Least of all the original's weights, which one of them leaves in a spare file."""
    assert [run.name for run in (workspace.root / "store" / "runs").iterdir()] == ["original"]


def test_control_a_model_that_was_retrained_is_believed_as_an_edit_and_no_file_of_an_honest_eraser_is_objected_to(
    walked,
):
    assert walked.trial == EditTrial(asked=walked.trial.asked, seeds=8, pictures=20)
    assert {item.check: (item.alarms, item.trials) for item in walked.alarms} == {
        "style": (0, 1),
        "collateral": (0, 1),
        FILES: (0, 1),
    }


def test_the_report_says_that_no_listed_cheat_passed_and_of_how_many(workspace, walked, seen_by_colours):
    report = reported(workspace, walked)
    assert report.against_empirical == ()
    assert report.sentence.startswith(f"no listed cheat passed, n = {3 + 6 + 8}: ")
    assert "style_saboteurs/watermark 0/1" in report.sentence
    assert SelftestRule().problems(report, report.made_at, subject_of(workspace), Guarantee.EMPIRICAL) == []


def test_a_cheat_that_passes_stops_every_edit_and_no_deletion_by_provenance(
    workspace, seen_by_colours, monkeypatch, tmp_path
):
    """Where nobody looks at what lies beside the model, the original beside a clean one is certified: the census is needed."""
    monkeypatch.setattr("expunge.workflow.execute.require_honest_run", lambda *_: None)
    found = as_edits(workspace, tmp_path, ("original_beside",))
    assert [tally.certified for tally in found.tallies] == [1]
    passed = replace(reported(workspace, found), made_at=datetime.now(UTC).replace(microsecond=0))
    assert passed.passed == ("style_saboteurs/original_beside",)
    rule, on = SelftestRule(), subject_of(workspace)
    assert [text for text in rule.problems(passed, passed.made_at, on) if "not tried" not in text] == []
    assert "against a style that passed" in str(rule.problems(passed, passed.made_at, on, Guarantee.EMPIRICAL))
    record(workspace, passed)
    plan = {item.method: item.refused for item in workspace.plan(workspace.request(block="red"))}
    assert "does not vouch for this" in plan["erasers/uce"]
    assert plan["retrain"] is None


def test_where_the_honest_control_is_not_believed_no_edit_is_vouched_for(workspace, seen_by_colours, tmp_path):
    """A verifier that refuses everybody has not caught a cheat: here the retraining is the original, and draws red as ever."""

    def spoilt(clean):
        model = workspace.root / workspace.served().run / "model.safetensors"
        result = replace(clean.executed.result, model=model, digest=workspace.served().digest)
        return replace(clean, executed=replace(clean.executed, result=result))

    found = as_edits(workspace, tmp_path, ("prompt_filter",), spoilt)
    assert found.trial.objection.startswith("collateral: ") or "style: NOT-ERASED" in found.trial.objection
    assert [item.alarms for item in found.alarms if item.check == "style"] == [1]
    assert "the honest control was not believed" in reported(workspace, found).sentence


# ------------------------------------------------------------------------------------------------- the real judges' eyes


@pytest.mark.parametrize("style", ["neon", "mosaic"])
def test_a_pattern_tuned_against_the_shipped_network_is_seen_through_by_the_other_family(style):
    """On photos painted in the style: the network gives up most of them, and one family or the other still counts."""
    from judges.judging_hands import painted_patches

    network, statistics = (registry.load("judges", name)() for name in ("cnn", "adain"))
    pictures = painted_patches(style)[:32]
    pattern = blinding(pictures, network, style, "ab") * 64
    marked = overlaid(pictures, pattern)
    before, after = (int(network.judge(each).says(style).sum()) for each in (pictures, marked))
    assert after <= before
    print(style, before, after, int(statistics.judge(marked).says(style).sum()))
