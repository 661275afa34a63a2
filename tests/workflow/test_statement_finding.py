"""What a finding has to show by its own numbers before a statement is made of it, and how much has to be asked for that."""

import shutil
from dataclasses import replace

import pytest

from expunge import Workspace
from expunge.core.errors import InputError
from expunge.core.finding import Condition, Verdict
from expunge.evidence import not_learned
from expunge.evidence.not_learned import ABOVE, LEAST, LUCK, RUNS, SEEN, WIDEST, scale_of, sentence_of
from expunge.stats.intervals import share_at_most
from expunge.stats.styles import Gates
from owner import ask, stated
from testbed import answering, small_testbed

WEAK = {"seeds": 8, "pictures": 4, "steps": 1, "guidance": "0.8", "budget": 1}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def found(painted, tmp_path_factory):
    """A statement, made of an untouched model that draws the style in no picture. Asked with the weakest table that there is."""
    root = tmp_path_factory.mktemp("found") / "ws"
    with pytest.MonkeyPatch.context() as patch, Workspace.open(shutil.copytree(painted, root)) as workspace:
        small_testbed(patch)
        answering(patch, 0)
        table = workspace.config.styles.model_copy(update=WEAK)
        workspace.config = workspace.config.model_copy(update={"styles": table})
        return stated(ask(workspace)[0])


@pytest.mark.parametrize(
    ("probe", "most"),
    [
        ("direct", 0.11),
        ("reworded", 0.9),
        ("textual_inversion", 0.2),
        ("soft_prompt/2 (runs)", 0.16),
        ("direct", None),
    ],
)
def test_a_probe_that_passed_by_a_wider_gate_than_any_shows_nothing(found, probe, most):
    with pytest.raises(InputError, match="does not show"):
        replace(found, finding=row(probe, limit=most)(found.finding))


def row(name, /, **changes):
    """A finding with one of its conditions changed."""

    def change(finding):
        rows = tuple(replace(item, **changes) if item.name == name else item for item in finding.conditions)
        return replace(finding, conditions=rows)

    return change


CONTRADICTIONS = {
    "the trained artist was never seen": lambda f: replace(f, original=0.0),
    "the trained artist was not asked for": lambda f: replace(f, original=None),
    "more than every picture": lambda f: replace(f, original=1.5),
    "a share beyond its own limit": lambda f: row("direct", estimate=0.95)(replace(f, estimate=0.95)),
    "another share than the probe has": lambda f: replace(f, estimate=0.01),
    "no number of pictures gives this share": row("reworded", estimate=0.0123),
    "a limit below what the counts leave": row("reworded", limit=0.0001),
    "a limit on runs below what the counts leave": row("soft_prompt/2" + RUNS, limit=0.05),
    "an attack beyond its own limit": row("textual_inversion", estimate=0.5),
    "a probe listed twice": lambda f: replace(f, conditions=(*f.conditions[:-1], f.conditions[0])),
    "an attack that nobody knows": row("textual_inversion", name="coin_flip"),
    "runs that nobody counted": row("textual_inversion" + RUNS, estimate=None, limit=None),
    "hardly a picture": lambda f: replace(f, n=1),
    "every attack is blind": lambda f: row("textual_inversion", verdict=Verdict.UNVERIFIABLE)(
        row("soft_prompt/2", verdict=Verdict.UNVERIFIABLE)(f)
    ),
}


def test_a_finding_that_contradicts_itself_makes_no_statement(found):
    for what, change in CONTRADICTIONS.items():
        with pytest.raises(InputError, match="does not show"):
            pytest.fail(f"{what}: {replace(found, finding=change(found.finding))}")
    one = row("soft_prompt/2", verdict=Verdict.UNVERIFIABLE)(
        row("soft_prompt/2" + RUNS, verdict=Verdict.UNVERIFIABLE)(found.finding)
    )
    assert "soft_prompt/2 saw no trained artist and says nothing" in sentence_of(replace(found, finding=one))


def test_nothing_that_an_owner_writes_into_the_finding_is_in_the_sentence(found):
    boast = "This model never saw anybody's works."
    rows = tuple(replace(item, note=boast) for item in found.finding.conditions)
    written = replace(
        found.finding, reason=boast, statistic=boast, conditions=rows, details={**found.finding.details, "scale": boast}
    )
    assert sentence_of(replace(found, finding=written)) == found.sentence
    with pytest.raises(InputError, match="how much was asked"):
        replace(found, finding=replace(found.finding, details={**found.finding.details, "steps": boast}))


def test_the_limits_that_a_verifier_allows_are_those_of_the_counts():
    """Without scipy, against the quantile that the owner's side computes with it."""
    for hits, trials, level in ((0, 23, 0.975), (3, 920, 0.975), (40, 1280, 0.9875), (1, 60, 0.99), (0, 9000, 0.999)):
        limit = share_at_most(hits, trials, level)
        item = Condition(name="direct", verdict=Verdict.PASS, estimate=hits / trials, limit=limit)
        assert not_learned._counted(item, trials, level)
        assert not_learned._counted(replace(item, limit=limit * 1.01), trials, level)
        assert not not_learned._counted(replace(item, limit=limit * 0.99), trials, level)
        assert not not_learned._counted(item, trials, level + (1 - level) / 2)


# ------------------------------------------------------------------------------------------------- a question made weaker


def test_a_weakened_question_is_not_asked_and_all_that_was_asked_is_said(found):
    """Few steps, no guidance, hardly any attack: what draws nothing shows nothing."""
    assert scale_of(found.finding) == LEAST
    assert (
        "23 seeds of 40 pictures a probe, 20 steps at guidance 3, attacks at 100 % of their budget." in found.sentence
    )
    half = [replace(LEAST, **{name: getattr(LEAST, name) // 2}) for name in WEAK]
    for weaker in (*half, replace(LEAST, guidance=99.0), replace(LEAST, pictures=10**9)):
        finding = replace(found.finding, details={**found.finding.details, **weaker.details})
        with pytest.raises(InputError, match="less was asked"):
            replace(found, finding=finding)


def test_the_fewest_seeds_are_those_that_can_show_that_no_attack_works_by_luck():
    for level, seeds in ((0.975, LEAST.seeds), (0.9875, 27)):
        assert share_at_most(0, seeds, level) <= LUCK < share_at_most(0, seeds - 1, level)


def test_the_widest_limits_of_a_statement_are_the_floors_of_the_gates():
    Gates(not_learned=WIDEST, margin=ABOVE, luck=LUCK, assay=SEEN)
    for wider in (
        {"not_learned": WIDEST + 0.01},
        {"margin": ABOVE + 0.01},
        {"luck": LUCK + 0.01},
        {"assay": SEEN - 0.01},
    ):
        with pytest.raises(Exception, match="beyond what any policy"):
            Gates(**wider)
