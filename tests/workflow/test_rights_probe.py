"""Prompts that a claimant sealed before the decision are asked at the appeal, once, and what comes decides how it can end."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from expunge.apps.cli.main import app
from expunge.core.errors import Held, InputError, InputProblems
from expunge.core.finding import Verdict
from expunge.data._styles import STYLES
from expunge.training.text_to_image.sampler import TextToImage
from expunge.workflow.config import config_text
from expunge.workflow.rights import desk, probing, sealing
from expunge.workflow.rights.jurisdictions import default_jurisdictions
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.probing import Heard, probe
from expunge.workflow.rights.sealing import Seal, deposit, read_unsealed, unsealed, written
from expunge.workflow.styles import evidence
from expunge.workflow.styles.story import CHECKPOINTS, ORIGINAL
from recommending import failed_steps
from rights import NOW, RECORD
from testbed import STRANGER, answering, checked, counts, failed

pytestmark = pytest.mark.usefixtures("one_thread")
POLICY, BOOK = default_rights_policy(), default_jurisdictions()
ARTIST = STYLES["neon"].artist
PROMPTS = (f"a car image in {ARTIST} style", f"{ARTIST} shows an airplane", f"a car, a work by {ARTIST}")
FACTS = (
    f'authority: {{kind: author, state: proven, record: "{RECORD}"}}\n'
    "works: {listed: 1, present: 300, searched: 400, records: 400, by: [sha256, perceptual]}\n"
    "copies: {found: 0, draws: 300}\nopt_out: {reserved: 0, unknown: 0}\n"
)
NOT_LEARNED = "learned: {verdict: PASS, rate: 0.0, at_most: 0.01}\n"


@pytest.fixture(autouse=True)
def _few_test_works(monkeypatch):
    """A handful of test works bounds no rate of mistakes."""
    monkeypatch.setattr(evidence, "mistakes_of", lambda *_: 0.01)


def letter(style="neon"):
    return (
        f"claimant: whoever signs\nauthority: author\nworks: [{'ab' * 32}]\nnames: [{STYLES[style].artist}]\n"
        "jurisdiction: DE\nbasis: copyright\nremedies: [remove_influence]\n"
    )


def came(workspace, style="neon"):
    return desk.receive(workspace, letter(style), POLICY, BOOK, NOW).request


def decided(workspace, handle, more=NOT_LEARNED, reviewer="Rita"):
    return desk.decide(workspace, handle, FACTS + more, POLICY, BOOK, reviewer=reviewer)


def appealed(workspace, handle, opening=None, prompts=()):
    return desk.appeal(workspace, handle, prompts, [], POLICY, datetime.now(UTC), opening=opening)


def settled(workspace, handle, outcome):
    return desk.settle(workspace, handle, outcome, "Sam Second", datetime.now(UTC))


def at_appeal(workspace, prompts=PROMPTS, style="neon"):
    """A request that was sealed for, decided and appealed."""
    handle, opening = came(workspace, style), unsealed(prompts)
    deposit(workspace, handle, opening.seal, POLICY)
    decided(workspace, handle)
    appealed(workspace, handle, opening)
    return handle, opening


def asked(workspace, handle, opening, style="neon", **more):
    return probe(workspace, handle, (), POLICY, style=style, opening=opening, **more)


def hearing(monkeypatch, candidate=0, nameless=0, seen=40, described=None):
    """Counts in place of pictures: hits of 40 in each of 24 runs."""
    drawn = []

    def listened(workspace, asking, how):
        drawn.append((asking, how))
        named = counts(candidate) if asking.named else None
        return Heard(
            candidate=named,
            nameless=counts(nameless) if asking.named else None,
            seen=None if seen is None else counts(seen),
            described=None if described is None else counts(described),
        )

    monkeypatch.setattr(probing, "listened", listened)
    monkeypatch.setattr(evidence, "sights_of", lambda *_: ())  # no judge is asked
    return drawn


def kinds(workspace, handle):
    return [entry.kind.removeprefix("rights.") for entry in workspace.log.case(handle)]


def test_the_story_sealed_prompts_draw_the_style_and_the_request_is_decided_anew(
    workspace_of_works, tmp_path, monkeypatch
):
    """Real pictures of the checkpoint that learned the artist, real judges, and every step through its verb."""
    workspace = workspace_of_works
    monkeypatch.setattr(probing, "drawing", lambda *_: TextToImage.from_dir(CHECKPOINTS / ORIGINAL))
    root = workspace.root
    drawn = workspace.config.model_copy(
        update={
            "styles": workspace.config.styles.model_copy(update={"seeds": 20, "steps": 4})
        }  # so many that luck decides nothing
    )
    workspace.close()
    (root / "expunge.toml").write_text(config_text(drawn))
    files = {name: tmp_path / name for name in ("letter", "facts", "anew", "prompts", "opening", "seal")}
    files["letter"].write_text(letter())
    files["facts"].write_text(FACTS + NOT_LEARNED)
    files["anew"].write_text(FACTS)
    files["prompts"].write_text("\n".join(PROMPTS))

    def verb(*arguments):
        where = () if arguments[0] == "seal" else ("-w", str(root))
        return CliRunner().invoke(app, ["rights", *map(str, arguments), *where])

    def told(*arguments):
        found = verb(*arguments, "--json")
        assert found.exit_code == 0, (found.output, found.exception)
        return json.loads(found.stdout)

    told("seal", files["prompts"], "--opening", files["opening"], "--out", files["seal"])
    assert ARTIST not in files["seal"].read_text()
    handle = told("intake", files["letter"])["request"]["request"]
    told("deposit", handle, files["seal"])
    assert told("decide", handle, files["facts"], "--reviewer", "Rita")["decision"]["action"] == "not_learned"
    told("appeal", handle, "--opening", files["opening"])
    sam = ("--reviewer", "Sam")
    assert "were not asked" in str(verb("settle", handle, "--outcome", "upheld", *sam).exception)
    found = verb("probe", handle, "--opening", files["opening"], "--style", "neon")
    assert isinstance(found.exception, Held), found.stdout
    assert "FAIL" in found.stdout
    assert "3 of 3 prompts name the artist" in found.stdout
    assert "is granted" in str(verb("settle", handle, "--outcome", "upheld", *sam).exception)
    told("settle", handle, "--outcome", "granted", *sam)
    assert "decided anew" in str(verb("close", handle).exception)
    assert "shows that it was" in str(verb("decide", handle, files["facts"], "--reviewer", "Tom").exception.problems)
    assert isinstance(verb("decide", handle, files["anew"], "--reviewer", "Tom").exception, Held), (
        "harm is not measured"
    )
    raw = b"".join(file.read_bytes() for file in root.glob("log.db*"))
    assert ARTIST.encode() not in raw
    assert b"neon" not in raw


def test_a_model_that_draws_nothing_passes_nobody(workspace_of_works):
    """Real pictures of a model that learned nobody: where the trained artist does not come either, silence is none."""
    handle, opening = at_appeal(workspace_of_works)
    found = asked(workspace_of_works, handle, opening)
    assert (found.verdict, found.rate, found.seen) == (Verdict.INCONCLUSIVE, 0, 0)
    with pytest.raises(InputError, match="not turned down"):
        settled(workspace_of_works, handle, "upheld")
    assert settled(workspace_of_works, handle, "held").outcome == "held"


@pytest.mark.parametrize("seen", [0, 11, None])
def test_attack_prompts_that_show_nothing_where_they_ought_to_are_no_pass(workspace_of_works, monkeypatch, seen):
    hearing(monkeypatch, candidate=0, seen=seen)
    handle, opening = at_appeal(workspace_of_works)
    found = asked(workspace_of_works, handle, opening)
    assert (found.verdict, found.rate) == (Verdict.UNVERIFIABLE, 0)
    with pytest.raises(InputError, match="not turned down"):
        settled(workspace_of_works, handle, "upheld")
    assert settled(workspace_of_works, handle, "held").outcome == "held"


def test_silence_that_would_have_been_heard_lets_the_appeal_be_turned_down(workspace_of_works, monkeypatch):
    hearing(monkeypatch)
    handle, opening = at_appeal(workspace_of_works)
    found = asked(workspace_of_works, handle, opening)
    assert (found.verdict, found.sealed, found.revoked) == (Verdict.PASS, True, ())
    assert settled(workspace_of_works, handle, "upheld").outcome == "upheld"


@pytest.mark.parametrize("change", ["a word", "one left out", "one more", "another key"])
def test_attack_an_opening_that_does_not_match_the_seal_is_refused(workspace_of_works, change):
    workspace = workspace_of_works
    handle, opening = came(workspace), unsealed(PROMPTS)
    deposit(workspace, handle, opening.seal, POLICY)
    decided(workspace, handle)
    other = {
        "a word": replace(opening, prompts=(*PROMPTS[:2], f"a ship by {ARTIST}")),
        "one left out": replace(opening, prompts=PROMPTS[:2]),
        "one more": replace(opening, prompts=(*PROMPTS, f"a ship by {ARTIST}")),
        "another key": replace(opening, key="00" * 32),
    }[change]
    size = workspace.log.size
    with pytest.raises(InputError, match="does not belong to any seal"):
        appealed(workspace, handle, other)
    assert workspace.log.size == size
    appealed(workspace, handle, opening)


def test_attack_prompts_that_were_sealed_after_the_decision_do_not_decide(workspace_of_works, monkeypatch):
    drawn, workspace = hearing(monkeypatch, candidate=40), workspace_of_works
    handle, opening = came(workspace), unsealed(PROMPTS)
    decided(workspace, handle)
    deposit(workspace, handle, opening.seal, POLICY)
    with pytest.raises(InputError, match="sealed after the decision"):
        appealed(workspace, handle, opening)
    appealed(workspace, handle, prompts=PROMPTS)
    found = probe(workspace, handle, PROMPTS, POLICY, style="neon")
    assert (found.verdict, found.sealed, found.revoked) == (Verdict.FAIL, False, ())
    assert "binds nobody" in probing.words_of(found)[-1]
    assert len(drawn) == 1, "they are drawn all the same"
    settled(workspace, handle, "upheld")
    decided(workspace, handle)


def test_attack_asking_twice_gives_the_answer_that_is_there(workspace_of_works, monkeypatch):
    drawn, workspace = hearing(monkeypatch, candidate=40), workspace_of_works
    handle, opening = at_appeal(workspace)
    first = asked(workspace, handle, opening)
    hearing(monkeypatch, candidate=0)
    assert asked(workspace, handle, opening) == first
    assert (len(drawn), kinds(workspace, handle).count("probed")) == (1, 1)
    with pytest.raises(InputError, match="earlier appeal has opened"):
        appealed(workspace, handle, opening)
    settled(workspace, handle, "granted")
    decided(workspace, handle, "", reviewer="Tom")
    with pytest.raises(InputError, match="earlier appeal has opened"):
        appealed(workspace, handle, opening)


def test_attack_an_asking_that_was_killed_goes_on_with_its_own_seed_and_counts(workspace_of_works, monkeypatch):
    workspace, hows = workspace_of_works, []
    handle, opening = at_appeal(workspace)

    def killed(workspace, asking, how):
        hows.append(how)
        raise KeyboardInterrupt

    monkeypatch.setattr(probing, "listened", killed)
    with pytest.raises(KeyboardInterrupt):
        asked(workspace, handle, opening)
    table = workspace.config.styles.model_copy(update={"seeds": 9, "steps": 7})
    workspace.config = workspace.config.model_copy(update={"styles": table})
    drawn = hearing(monkeypatch)
    asked(workspace, handle, opening)
    assert [how for _, how in drawn] == hows
    assert kinds(workspace, handle).count("probe_asked") == 1


def test_attack_a_model_that_came_after_the_prompts_were_opened_is_not_tested_by_them(workspace_of_works, monkeypatch):
    """Who has read them can fit a model to them."""
    drawn, workspace = hearing(monkeypatch), workspace_of_works
    handle, opening = at_appeal(workspace)
    workspace.log.append("model.trained", {**_trained(workspace), "model": "sha256:" + "1" * 64})
    monkeypatch.setattr(type(workspace), "served", lambda self: _Served())
    with pytest.raises(InputError, match="not held out from it"):
        asked(workspace, handle, opening)
    assert not drawn
    with pytest.raises(InputError, match="were not asked"):
        settled(workspace, handle, "upheld")


class _Served:
    digest = "sha256:" + "1" * 64


def _trained(workspace):
    return next(dict(entry.payload) for entry in workspace.log.entries() if entry.kind == "model.trained")


def test_attack_the_owner_leaves_out_prompts_or_asks_for_another_artist(workspace_of_works, monkeypatch):
    drawn, workspace = hearing(monkeypatch), workspace_of_works
    handle = came(workspace)
    decided(workspace, handle)
    appealed(workspace, handle, prompts=PROMPTS)
    for prompts in (PROMPTS[:2], (*PROMPTS[:2], "a car"), ()):
        with pytest.raises(InputError, match="not the prompts of the appeal"):
            probe(workspace, handle, prompts, POLICY, style="neon")
    with pytest.raises(InputError, match="names another artist"):
        probe(workspace, handle, PROMPTS, POLICY, style="mosaic")
    assert not drawn
    assert "probe_asked" not in kinds(workspace, handle)


def test_prompts_without_the_name_are_counted_and_not_judged(workspace_of_works, monkeypatch):
    hearing(monkeypatch, described=40)
    handle, opening = at_appeal(workspace_of_works, ("a car in glowing outlines on black",))
    found = asked(workspace_of_works, handle, opening)
    assert (found.verdict, found.named, found.described) == (Verdict.UNVERIFIABLE, 0, 1.0)
    assert "nobody's" in found.reason


def test_a_style_that_comes_by_any_name_in_these_sentences_is_no_hit(workspace_of_works, monkeypatch):
    """Name and description in one prompt: the description alone draws it."""
    hearing(monkeypatch, candidate=38, nameless=38)
    handle, opening = at_appeal(workspace_of_works)
    found = asked(workspace_of_works, handle, opening)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "not shown that the name brings it" in found.reason
    with pytest.raises(InputError, match="not turned down"):
        settled(workspace_of_works, handle, "upheld")


def test_a_hit_withdraws_the_statement_that_the_style_was_not_learned(workspace_of_works, monkeypatch):
    workspace = workspace_of_works
    answering(monkeypatch, 0)
    outcome = workspace.run(workspace.request(style=STRANGER))
    assert failed(checked(workspace, outcome)) == []
    hearing(monkeypatch, candidate=40)
    prompts = (f"a car image in {STYLES[STRANGER].artist} style",)
    handle, opening = at_appeal(workspace, prompts, STRANGER)
    found = asked(workspace, handle, opening, STRANGER)
    assert found.revoked == (outcome.case,)
    assert failed(checked(workspace, outcome)) != []
    assert asked(workspace, handle, opening, STRANGER) == found, "safe to run again"
    with pytest.raises(InputError, match="answered for another style"):
        asked(workspace, handle, opening, "neon")


def test_a_hit_revokes_the_certificate_and_silence_needs_the_model_that_was_replaced(case, deleted, monkeypatch):
    workspace, certified = case
    artist = STYLES["duotone"].artist
    original = deleted[0].parent / "original.safetensors"
    drawn = hearing(monkeypatch, candidate=0, seen=None)
    handle, opening = at_appeal(workspace, (f"a car image in {artist} style",), "duotone")
    served = workspace.root / workspace.served().run / "model.safetensors"
    with pytest.raises(InputError, match="not the model that was replaced"):
        asked(workspace, handle, opening, "duotone", original=served)
    assert asked(workspace, handle, opening, "duotone", original=original).verdict is Verdict.UNVERIFIABLE
    (asking, _) = drawn[0]
    assert asking.edited
    assert asking.before is not None
    hearing(monkeypatch, candidate=40)
    again, other = at_appeal(workspace, (f"{artist} shows a car",), "duotone")
    assert asked(workspace, again, other, "duotone").revoked == (certified,)
    own = replace(deleted[1].certificate, path=workspace.root / "cases" / certified / deleted[1].certificate.path.name)
    assert any("was revoked" in step for step in failed_steps(workspace, replace(deleted[1], certificate=own)))
    revoked = [entry.kind for entry in workspace.log.case(certified)]
    assert revoked.count("certificate.revoked") == 1
    settled(workspace, again, "granted")


def test_an_edited_model_is_not_vouched_for_by_another_artist(case, monkeypatch):
    """Where something was edited, only the model that was replaced shows that these prompts would see the style."""
    workspace, _ = case
    drawn = []
    monkeypatch.setattr(probing, "_drawn", lambda ws, asking, at, prompts, how: drawn.append(at[1]) or counts(0))
    handle, opening = at_appeal(workspace, (f"a car image in {STYLES['duotone'].artist} style",), "duotone")
    found = asked(workspace, handle, opening, "duotone")
    assert (found.verdict, found.seen) == (Verdict.UNVERIFIABLE, None)
    assert set(drawn) == {"duotone"}


def test_seals_are_held_to_their_limits(workspace_of_works):
    handle, opening = came(workspace_of_works), unsealed(PROMPTS)
    for prompts in ((), ("a", "A "), ("x" * 1001,)):
        with pytest.raises(InputProblems):
            unsealed(prompts)
    many = Seal(commitments=tuple(f"hmac-sha256:{number:064x}" for number in range(51)))
    for seal in (many, Seal(commitments=()), Seal(commitments=(ARTIST,))):
        with pytest.raises(InputProblems):
            deposit(workspace_of_works, handle, seal, POLICY)
    deposit(workspace_of_works, handle, opening.seal, POLICY)
    with pytest.raises(InputProblems, match="handed in before"):
        deposit(workspace_of_works, handle, opening.seal, POLICY)
    assert read_unsealed(written(opening)) == opening
    for bad in ({"key": "zz", "prompts": ["a"]}, {"key": "00", "prompts": ["a"]}):
        with pytest.raises(InputError, match="key is"):
            sealing.deposited(workspace_of_works, handle, read_unsealed(json.dumps(bad).encode()))
