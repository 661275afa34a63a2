"""Real transcripts of tiny trainings: honest ones pass, and each cheat is named after what it does."""

from dataclasses import replace

import pytest

from expunge.checks.provenance import Provenance as Check
from expunge.core import registry
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob, Provenance
from expunge.testing.world import make_world
from expunge.training.audit import expected_transcript
from expunge.training.transcript import read_transcript

FORGET = frozenset({5, 30})


class Case:
    """An original, an honest candidate of each method, and the lines that recipe, seed and manifest dictate."""

    def __init__(self, folder, **settings):
        self.world = make_world(folder, **settings)
        self.original = self.world.fit("original")
        methods = ("retrain", "sisa") if settings.get("shards") else ("retrain", "replay", "finetune")
        self.runs = {name: self.unlearn(name) for name in methods}
        job = self.world.job("x", FORGET)
        self.expected = expected_transcript(self.world.adapter.recipe, self.world.adapter.parts(job), self.world.leaves)

    def unlearn(self, name):
        job = self.world.unlearn_job(name, FORGET)
        return registry.load("methods", name)().unlearn(job)

    def evidence(self, result=None, **changes):
        result = result or self.runs["retrain"]
        honest = Provenance(
            expected=self.expected,
            candidate=read_transcript(result.transcript),
            original=read_transcript(self.original.transcript),
            candidate_digest=result.digest,
            plan_index=4,
            result_index=9,
            forgotten=(0, 0),
            copies=0,
        )
        return replace(honest, **changes)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("sharded"), shards=2)


def judged(evidence):
    return Check().run(CheckJob(limits=Limits(), guarantee=Guarantee.EXACT, seed=7, provenance=evidence))


def failed(evidence):
    """Names of the conditions that do not hold; the verdict must say the same."""
    found = judged(evidence)
    names = {condition.name for condition in found.conditions if condition.verdict is Verdict.FAIL}
    assert (found.verdict is Verdict.FAIL) == bool(names)
    assert all(name in found.reason for name in names)
    return names


LINES = "no step or epoch differs from the retained recipe"
START = "same recipe, numerics and seed as the original"
OWN = "starts from its own initialisation"
END = "ends with the candidate's weights"


@pytest.mark.parametrize("method", ["retrain", "replay"])
def test_honest_transcript_passes_and_shows_its_control(case, method):
    found = judged(case.evidence(case.runs[method]))
    assert found.verdict is Verdict.PASS
    assert (found.estimate, found.limit, found.reference) == (0, 0, None)
    assert found.original > 0
    assert "the control is the original's own transcript, no reference model was measured" in found.reason
    assert found.n == len(case.expected)
    assert "as logged by the owner" in found.reason


@pytest.mark.parametrize("method", ["retrain", "sisa"])
def test_honest_sharded_transcript_passes(sharded, method):
    assert judged(sharded.evidence(sharded.runs[method])).verdict is Verdict.PASS


def test_no_transcript_is_inconclusive():
    assert judged(None).verdict is Verdict.INCONCLUSIVE


def test_transcript_of_the_original_fails(case):
    names = failed(case.evidence(case.original))
    assert LINES in names


def test_forgetting_only_one_of_two_records_fails(case):
    half = case.world.fit("half", frozenset({5}))
    assert failed(case.evidence(half)) == {LINES}


def test_forgetting_another_record_fails(case):
    wrong = case.world.fit("wrong", frozenset({5, 31}))
    assert failed(case.evidence(wrong)) == {LINES}


def test_finetune_fails_because_it_inherits(case):
    assert {OWN, LINES, START} <= failed(case.evidence(case.runs["finetune"]))


def test_finetune_with_the_lines_of_a_retrain_fails_for_where_it_started(case):
    honest = read_transcript(case.runs["retrain"].transcript)
    start = {**honest[0], "from": case.original.digest}
    assert failed(case.evidence(candidate=[start, *honest[1:]])) == {OWN}


def other_recipe(case, tmp_path, **changes):
    world = make_world(tmp_path, **changes)
    return case.evidence(world.fit("run", FORGET))


@pytest.mark.parametrize("change", [{"lr": 0.06}, {"warmup": 0.4}, {"batch": 16}, {"epochs": 5}])
def test_another_learning_rate_or_schedule_fails(case, tmp_path, change):
    assert {LINES, START} <= failed(other_recipe(case, tmp_path, **change))


@pytest.mark.parametrize("change", [{"weight_decay": 0.1}, {"momentum": 0.5}, {"flip": "random"}, {"averaging": 0.5}])
def test_another_setting_that_no_step_line_shows_fails(case, tmp_path, change):
    """Order, receipts and rates are the honest ones; only the start line tells."""
    assert failed(other_recipe(case, tmp_path, **change)) == {START}


def test_another_seed_fails(case, tmp_path):
    world = make_world(tmp_path, seed="0dd5" * 8)
    assert {LINES, START} <= failed(case.evidence(world.fit("run", FORGET)))


def edited(case, edit):
    lines = read_transcript(case.runs["retrain"].transcript)
    return case.evidence(candidate=edit(lines))


def first(lines, kind):
    return next(number for number, line in enumerate(lines) if line["kind"] == kind)


def changed(kind, **changes):
    def edit(lines):
        number = first(lines, kind)
        return [*lines[:number], {**lines[number], **changes}, *lines[number + 1 :]]

    return edit


def swapped_orders(lines):
    steps = [number for number, line in enumerate(lines) if line["kind"] == "step"][:2]
    orders = [lines[number]["order"] for number in steps]
    out = list(lines)
    for number, order in zip(steps, reversed(orders), strict=True):
        out[number] = {**lines[number], "order": order}
    return out


def without(kind):
    return lambda lines: [line for line in lines if line["kind"] != kind]


def one_more_epoch(lines):
    last = [line for line in lines if line.get("epoch") == 3 and line["kind"] in ("step", "epoch")]
    return [*lines[:-1], *({**line, "epoch": 4} for line in last), lines[-1]]


CHEATS = {
    "a forged learning rate": (changed("step", lr="0.5"), {LINES}),
    "a record slipped into a step": (changed("step", present=9), {LINES}),
    "a forged receipt": (changed("epoch", receipt={"root": "sha256:" + "0" * 64, "count": 46}), {LINES}),
    "swapped order commitments": (swapped_orders, {LINES}),
    "a dropped epoch line": (lambda lines: [x for n, x in enumerate(lines) if n != first(lines, "epoch")], {LINES}),
    "a whole dropped epoch": (lambda lines: [x for x in lines if x.get("epoch") != 2], {LINES}),
    "one epoch more": (one_more_epoch, {LINES}),
    "no steps at all": (without("step"), {LINES}),
    "no end": (without("end"), {END}),
    "the end of another model": (changed("end", model="sha256:" + "0" * 64), {END}),
    "no start, so that nothing tells what it began with": (without("start"), {START}),
    "two starts": (lambda lines: [lines[0], *lines], {START}),
    "an empty transcript": (lambda lines: [], {LINES, START, END}),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheat_in_the_transcript_fails(case, cheat):
    edit, names = CHEATS[cheat]
    assert failed(edited(case, edit)) == names


def test_control_an_edit_of_a_state_line_is_left_to_the_chain_and_to_recomputation(case):
    assert judged(edited(case, changed("state", state="sha256:" + "0" * 64))).verdict is Verdict.PASS


@pytest.mark.parametrize("result", [4, 3])
def test_plan_that_is_not_older_than_its_result_fails(case, result):
    assert failed(case.evidence(result_index=result)) == {"the plan was logged before the result"}


def test_weights_that_are_not_those_of_the_transcript_fail(case):
    assert failed(case.evidence(candidate_digest=case.original.digest)) == {END}


def test_forgotten_id_in_the_retained_manifest_fails(case):
    assert "no forgotten record in the retained manifest" in failed(case.evidence(forgotten=(1, 1), copies=1))


def test_the_same_pixels_under_a_new_id_fail_unless_they_are_listed(case):
    """Renaming a record instead of deleting it leaves its content leaf in the manifest."""
    assert failed(case.evidence(forgotten=(0, 1))) == {"content that stays is listed as a copy"}
    listed = judged(case.evidence(forgotten=(0, 1), copies=1))
    assert listed.verdict is Verdict.PASS
    assert "1 other records have the same content" in listed.reason


def test_an_original_that_fits_too_fails_the_control(case):
    """If the original could have written the same lines, they say nothing about the record."""
    twin = read_transcript(case.runs["retrain"].transcript)
    assert failed(case.evidence(original=twin)) == {"control: the original does not fit"}


CONTROL = "control: the original does not fit"


def test_an_adopted_original_leaves_the_control_open_and_the_candidate_to_its_own_lines(case):
    found = judged(case.evidence(original=[]))
    assert found.verdict is Verdict.PASS
    assert "no original transcript to compare with" in found.reason
    assert (found.estimate, found.original, found.reference) == (0, None, None)
    open_ones = {c.name: c.note for c in found.conditions if c.verdict is Verdict.UNVERIFIABLE}
    assert open_ones.keys() == {START, CONTROL}
    assert all(note == "no original transcript to compare with" for note in open_ones.values())
    assert {c.verdict for c in found.conditions if c.name not in open_ones} == {Verdict.PASS}


@pytest.mark.parametrize("cheat", [name for name, (_, names) in CHEATS.items() if names != {START}])
def test_cheat_fails_without_an_original_too(case, cheat):
    edit, names = CHEATS[cheat]
    lines = edit(read_transcript(case.runs["retrain"].transcript))
    assert failed(case.evidence(candidate=lines, original=[])) == names


def test_a_missing_start_fails_without_an_original_too(case):
    lines = without("start")(read_transcript(case.runs["retrain"].transcript))
    assert failed(case.evidence(candidate=lines, original=[])) == {START}


def test_dropped_shard_fails(sharded):
    lines = read_transcript(sharded.runs["retrain"].transcript)
    left = [line for line in lines if line.get("shard") != 1]
    assert LINES in failed(sharded.evidence(candidate=left))
    assert START in failed(sharded.evidence(candidate=left))
