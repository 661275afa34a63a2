"""Evidence about a style is of the weights that were asked, and can be asked for again from its seeds."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from expunge.apps.cli.main import app
from expunge.core.codec import canonical
from expunge.core.errors import EvidenceError, Held, InputError, IntegrityError
from expunge.core.finding import Verdict
from expunge.core.styles import StyleRung
from expunge.stats.baseline import judge_baseline
from expunge.stats.spending import limit_level
from expunge.stats.styles import Gates
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.export import export
from expunge.workflow.intake import find_case
from expunge.workflow.rights import release
from expunge.workflow.rights.regression import Verified
from expunge.workflow.rights.release import check_files, require
from expunge.workflow.styles import earned, rerun
from expunge.workflow.styles.earned import earned_in
from expunge.workflow.styles.kept import FILE, read_kept
from expunge.workflow.styles.rerun import Rerun, rerun_case
from rights import NOW
from testbed import PROBES, STRANGER, answering, arms, counts, undrawn

pytestmark = pytest.mark.usefixtures("one_thread")


def kept_file(workspace, case):
    return workspace.root / "cases" / case / FILE


def again(workspace, case, path=None):
    return rerun_case(workspace, case, read_kept(kept_file(workspace, case)).models["candidate"], path)


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_same_weights_give_the_same_counts_and_the_store_was_not_asked(case, monkeypatch):
    workspace, handle = case
    shutil.rmtree(workspace.root / workspace.served().run / "battery")  # where the first counts are kept
    found = again(workspace, handle)
    assert (found.expired, found.differing, dict(found.skipped)) == (False, (), {})
    assert set(found.asked) == {"direct", "reworded"}
    found.require()


def undrawn_again(monkeypatch, workspace, handle):
    """The counts of the first time, without drawing: for tests of what is made of them."""
    first = dict(read_kept(kept_file(workspace, handle)).arms)
    monkeypatch.setattr(rerun, "_asked", lambda *_: (first, {}))


@pytest.mark.parametrize("other", ["original.safetensors", "dir"])
def test_other_weights_or_any_other_file_expire_the_evidence(case, deleted, other, monkeypatch):
    """The model from before, and the same weights in other files: neither has this evidence, whatever it draws."""
    workspace, handle = case
    if other != "dir":
        undrawn_again(monkeypatch, workspace, handle)
    found = again(workspace, handle, deleted[0].parent / other)
    assert found.expired
    assert found.rung is StyleRung.NOT_SHOWN
    with pytest.raises(EvidenceError, match="expired") as refused:
        found.require()
    assert refused.value.code == "expired"


def test_one_file_of_a_directory_that_changes_is_another_model(deleted, tmp_path):
    folder = shutil.copytree(deleted[0].parent / "dir", tmp_path / "dir")
    before = read_directory(folder).digest
    change(folder / "scheduler" / "scheduler_config.json", "{", "{ ")
    assert read_directory(folder).digest != before


def test_counts_that_were_made_up_are_not_repeated(case, monkeypatch):
    workspace, handle = case
    undrawn_again(monkeypatch, workspace, handle)
    file = kept_file(workspace, handle)
    plain = json.loads(file.read_bytes())
    plain["arms"]["direct"]["candidate"]["any"][0] ^= 1
    file.write_bytes(canonical(plain))
    found = again(workspace, handle)
    assert found.differing == ("direct",)
    with pytest.raises(EvidenceError, match="other counts"):
        found.require()


@pytest.mark.parametrize("what", ["seed", "objects", "steps"])
def test_a_battery_with_kinder_seeds_or_questions_is_another_battery(case, what):
    workspace, handle = case
    file = kept_file(workspace, handle)
    plain = json.loads(file.read_bytes())
    plain["plan"][what] = {"seed": "00" * 16, "objects": plain["plan"]["objects"][:1], "steps": 2}[what]
    file.write_bytes(canonical(plain))
    with pytest.raises(EvidenceError, match="another battery"):
        again(workspace, handle)


def test_a_battery_of_another_case_is_refused(case):
    workspace, handle = case
    with pytest.raises(EvidenceError, match="of another model"):
        rerun_case(workspace, handle, "sha256:" + "0" * 64, None)


def test_what_is_no_battery_is_refused(case):
    workspace, handle = case
    kept_file(workspace, handle).write_text('{"plan": {}}')
    with pytest.raises(IntegrityError, match="not a kept battery"):
        rerun_case(workspace, handle, "sha256:" + "0" * 64, None)


def test_a_probe_that_cannot_be_given_the_same_again_is_left_out_and_said(case, monkeypatch):
    """Others have left the data since: what an attack was given is not there any more."""
    workspace, handle = case
    monkeypatch.setattr(rerun, "_skipped", lambda kept, plan, subjects: {p.label: "works is gone" for p in plan.probes})
    found = again(workspace, handle)
    assert set(found.skipped) == {"direct", "reworded"}
    with pytest.raises(EvidenceError, match="no probe"):
        found.require()
    assert "not asked: works is gone" in found.words


def test_a_case_in_which_nobody_was_asked_has_nothing_to_repeat(case, monkeypatch):
    workspace, _ = case
    undrawn(monkeypatch)
    outcome = workspace.run(workspace.request(block="neon"))
    with pytest.raises(InputError, match="no style was asked for"):
        rerun_case(workspace, outcome.case, workspace.served().digest, None)


def test_the_verb_checks_and_repeats_and_exits_5_where_weights_changed(case, deleted, monkeypatch):
    workspace, handle = case
    workspace.close()
    root, bundle = workspace.root, workspace.root / "cases" / handle / "certificate.zip"
    trust = [bundle, "--trust", root / "roots.json", "--policy", root / "policy.yaml"]
    asked = []

    def repeated(workspace, case, certified, path):
        asked.append((case, certified, path))
        return Rerun(
            model="sha256:b" if path else certified,
            evidence=certified,
            expired=path is not None,
            asked=("direct",),
            differing=(),
            skipped={},
            rung=StyleRung.NOT_SHOWN,
        )

    monkeypatch.setattr(rerun, "rerun_case", repeated)

    def verb(*arguments, name="verify"):
        return CliRunner().invoke(app, [name, *map(str, (*trust, *arguments))])

    good = verb("--rerun", "-w", root, "--json")
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["rerun"]["expired"] is False
    expired = verb("--rerun", "-w", root, "--model", deleted[0].parent / "original.safetensors")
    assert isinstance(expired.exception, EvidenceError)
    assert "asked again on other weights" in expired.stdout
    assert [row[0] for row in asked] == [handle, handle]
    other = deleted[0].parent / "original.safetensors"
    again = [verb("-w", root, *more, name="recheck") for more in (("--json",), ("--model", other))]
    assert (again[0].exit_code, again[0].stdout) == (0, good.stdout)
    assert isinstance(again[1].exception, EvidenceError)
    assert again[1].stdout == expired.stdout
    assert asked[2:] == asked[:2]
    assert isinstance(verb("--rerun").exception, InputError)
    directory = verb("--model", deleted[0].parent / "dir")
    assert isinstance(directory.exception, InputError)
    assert directory.exception.hint == "--rerun"


def test_attack_a_forged_certificate_is_not_vouched_for_by_a_battery_that_repeats(case, monkeypatch):
    """Counts that repeat say nothing of a certificate that does not hold: nothing is asked, and nothing verifies."""
    workspace, handle = case
    workspace.close()
    root = workspace.root
    forged = root.parent / "forged.zip"
    raw = (root / "cases" / handle / "certificate.zip").read_bytes()
    assert b'"verdict":"PASS"' in raw
    forged.write_bytes(raw.replace(b'"verdict":"PASS"', b'"verdict":"FAIL"', 1))
    monkeypatch.setattr(rerun, "rerun_case", lambda *_: pytest.fail("asked"))
    trust = ["--trust", str(root / "roots.json"), "--policy", str(root / "policy.yaml")]
    found = CliRunner().invoke(app, ["recheck", str(forged), *trust, "-w", str(root)])
    assert isinstance(found.exception, EvidenceError)


# ------------------------------------------------------------------------------------------------------ before a release


def entries(workspace, kind):
    return [entry.payload for entry in workspace.log.entries() if entry.kind == kind]


def test_files_made_of_the_model_in_service_keep_what_was_exact(case, deleted, monkeypatch):
    workspace, handle = case
    undrawn_again(monkeypatch, workspace, handle)
    gate = check_files(workspace, deleted[0].parent / "dir")
    assert (gate.blocked, gate.granted, gate.verified) == ("", 1, {handle: StyleRung.EXACT})
    require(gate)
    assert entries(workspace, "rights.gated")[-1] == {"files": gate.files, "granted": 1, "blocked": False}


def test_a_release_with_one_other_byte_is_blocked_until_everybody_holds_on_it(case, deleted, tmp_path, monkeypatch):
    workspace, handle = case
    undrawn_again(monkeypatch, workspace, handle)
    folder = shutil.copytree(deleted[0].parent / "dir", tmp_path / "dir")
    change(folder / "scheduler" / "scheduler_config.json", "{", "{ ")
    gate = check_files(workspace, folder)
    assert gate.verified == {handle: StyleRung.NOT_SHOWN}
    with pytest.raises(Held, match="fell below"):
        require(gate)
    assert entries(workspace, "rights.verified")[-1]["files"] == gate.files


def test_the_model_from_before_in_the_same_layout_is_not_exact(case, deleted, tmp_path, monkeypatch):
    """Rollback: somebody releases what still has the works."""
    workspace, handle = case
    undrawn_again(monkeypatch, workspace, handle)
    export(workspace.adapter.load(deleted[0].parent / "original.safetensors")[0], tmp_path / "old")
    assert check_files(workspace, tmp_path / "old").verified == {handle: StyleRung.NOT_SHOWN}


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_attack_a_stripped_release_is_refused_and_not_asked_as_a_model_of_random_numbers(
    case, deleted, tmp_path, monkeypatch, part
):
    """It would draw nobody's style, and everybody's erasure would hold on it."""
    workspace, handle = case
    monkeypatch.setattr(rerun, "_asked", lambda *_: pytest.fail("asked"))
    folder = shutil.copytree(deleted[0].parent / "dir", tmp_path / "dir")
    file = next((folder / part).glob("*.safetensors"))
    tensors = load_file(file)
    del tensors[sorted(tensors)[-1]]
    save_file(tensors, file, metadata={"format": "pt"})
    size = workspace.log.size
    with pytest.raises(IntegrityError, match=part):
        check_files(workspace, folder)
    with pytest.raises(IntegrityError, match=part):
        again(workspace, handle, folder)
    assert workspace.log.size == size


def test_attack_an_adapter_beside_a_release_is_what_others_draw_with_and_would_not_be_asked(case, deleted, tmp_path):
    workspace, _ = case
    folder, size = shutil.copytree(deleted[0].parent / "dir", tmp_path / "dir"), workspace.log.size
    save_file(load_file(next((folder / "unet").glob("*.safetensors"))), folder / "unet" / "fp16.safetensors")
    with pytest.raises(InputError, match="no part draws with"):
        check_files(workspace, folder)
    assert workspace.log.size == size


def test_attack_files_that_an_older_release_verified_are_still_looked_at(case, deleted, tmp_path, monkeypatch):
    """Whoever has in the log that everybody held on a stripped directory does not release it on that."""
    workspace, handle = case
    folder = shutil.copytree(deleted[0].parent / "dir", tmp_path / "dir")
    file = next((folder / "unet").glob("*.safetensors"))
    save_file({"conv_out.bias": load_file(file)["conv_out.bias"]}, file, metadata={"format": "pt"})
    held = Verified(
        request=handle,
        digest=read_directory(folder).digest,
        plan=earned_in(workspace, find_case(workspace, handle)).batteries[0],
        rung=StyleRung.EXACT,
        at=NOW,
    )
    monkeypatch.setattr(release, "_verified", lambda *_: [held])
    with pytest.raises(IntegrityError, match="unet"):
        check_files(workspace, folder)


def test_who_was_asked_for_on_these_files_is_not_asked_for_again(case, deleted, monkeypatch):
    workspace, handle = case
    undrawn_again(monkeypatch, workspace, handle)
    check_files(workspace, deleted[0].parent / "dir")
    monkeypatch.setattr(rerun, "_asked", lambda *_: pytest.fail("asked again"))
    assert check_files(workspace, deleted[0].parent / "dir").blocked == ""
    assert len(entries(workspace, "rights.verified")) == 1


def test_the_log_of_a_release_does_not_tell_which_requests_are_about_one_artist(case, deleted, monkeypatch):
    """They share a battery, and the handles of their cases stand beside it."""
    workspace, handle = case
    answering(monkeypatch, 0)
    both = [workspace.run(workspace.request(style=STRANGER)) for _ in range(2)]
    first = dict(read_kept(kept_file(workspace, handle)).arms)
    seen = {label: arms(0, styles=4) for label in PROBES}
    monkeypatch.setattr(
        rerun, "_asked", lambda w, p, s, known: (seen, {label: arms(40) for label in seen}) if known else (first, {})
    )
    check_files(workspace, deleted[0].parent / "dir")
    said = {row["request"]: row["battery"] for row in entries(workspace, "rights.verified")}
    assert {outcome.case for outcome in both} < set(said)
    assert len(set(said.values())) == len(said) == 3
    assert not set(said.values()) & {row["battery"] for row in entries(workspace, "baseline.committed")}


def test_a_style_that_was_not_learned_and_now_is_drawn_blocks_the_release(case, deleted, monkeypatch):
    workspace, handle = case
    answering(monkeypatch, 0)
    told = workspace.run(workspace.request(style=STRANGER))
    assert told.statement is not None
    first = dict(read_kept(kept_file(workspace, handle)).arms)
    seen = {label: arms(0, styles=4) for label in ("direct", "reworded", "textual_inversion")}

    def asked(workspace, plan, subjects, known):
        if not known:
            return first, {}
        return {**seen, "direct": arms(30)}, {label: arms(40) for label in seen}

    monkeypatch.setattr(rerun, "_asked", asked)
    gate = check_files(workspace, deleted[0].parent / "dir")
    assert gate.verified == {handle: StyleRung.EXACT, told.case: StyleRung.NOT_ERASED}
    with pytest.raises(Held, match=told.case):
        require(gate)


def test_the_verb_exits_4_where_a_release_is_blocked(case, deleted, monkeypatch):
    workspace, handle = case
    undrawn_again(monkeypatch, workspace, handle)
    workspace.close()
    good = CliRunner().invoke(
        app, ["rights", "release", str(deleted[0].parent / "dir"), "-w", str(workspace.root), "--json"]
    )
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["gate"]["verified"] == {handle: "EXACT"}
    monkeypatch.setattr(release, "_is_served", lambda *_: False)
    folder = workspace.root.parent / "dir"
    shutil.copytree(deleted[0].parent / "dir", folder)
    change(folder / "scheduler" / "scheduler_config.json", "{", "{ ")
    bad = CliRunner().invoke(app, ["rights", "release", str(folder), "-w", str(workspace.root)])
    assert isinstance(bad.exception, Held)


def test_what_could_not_be_asked_again_is_said_where_a_release_holds(case, deleted, monkeypatch):
    """A release that holds on fewer probes than were asked does not look like one that holds on all."""
    workspace, handle = case
    undrawn_again(monkeypatch, workspace, handle)
    monkeypatch.setattr(rerun, "_skipped", lambda *_: {"reworded": "gone"})
    gate = check_files(workspace, deleted[0].parent / "dir")
    assert (gate.blocked, gate.skipped) == ("", {handle: ("reworded",)})
    workspace.close()
    found = CliRunner().invoke(app, ["rights", "release", str(deleted[0].parent / "dir"), "-w", str(workspace.root)])
    assert found.exit_code == 0, found.output
    assert f"{handle}: EXACT; not asked again: reworded" in " ".join(found.stdout.split())


@pytest.mark.parametrize(("seeds", "rung"), [(24, StyleRung.NOT_LEARNED), (20, StyleRung.NOT_SHOWN)])
def test_an_answer_is_repeated_at_the_level_that_it_was_given_at(case, monkeypatch, seeds, rung):
    """Question j was judged at alpha * 2^-j: what 20 seeds show at 95 % they do not show at 97.5 %."""
    workspace, _ = case
    answering(monkeypatch, 0)
    told = workspace.run(workspace.request(style=STRANGER))
    labels = ("direct", "reworded", "textual_inversion")
    now = (
        {label: arms(0, styles=4, seeds=seeds) for label in labels},
        {label: counts(40, seeds=seeds) for label in labels},
    )
    assert judge_baseline(*now, Gates(), level=0.95).verdict is Verdict.PASS
    monkeypatch.setattr(rerun, "_asked", lambda *_: (now[0], {label: arms(40, seeds=seeds) for label in labels}))
    assert rerun_case(workspace, told.case, workspace.served().digest, None).rung is rung


@pytest.mark.parametrize(("attempts", "rung"), [(1, StyleRung.SUPPRESSED), (3, StyleRung.NOT_SHOWN)])
def test_attack_the_certificate_of_a_later_attempt_is_not_repeated_at_a_kinder_level(case, monkeypatch, attempts, rung):
    """None of 480 pictures are below 1 % at the level of the first attempt, and not at that of the third."""
    workspace, handle = case
    real = earned.parse_statement

    def later(payload):
        found = real(payload)
        return SimpleNamespace(digest=found.digest, predicate=replace(found.predicate, attempts=attempts))

    monkeypatch.setattr(earned, "parse_statement", later)
    assert earned_in(workspace, find_case(workspace, handle)).level == limit_level(attempts)
    now = {label: arms(0, seeds=12) for label in ("direct", "reworded")}
    monkeypatch.setattr(rerun, "_asked", lambda *_: (now, {}))
    assert again(workspace, handle).rung is rung
