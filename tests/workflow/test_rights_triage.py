"""The decision table over every combination of what can be read, and the ways around it that were tried."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest

from expunge.core.codec import canonical, encode, loads
from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Verdict
from expunge.workflow.rights.deadlines import business_days, deadlines, months
from expunge.workflow.rights.facts import (
    Authority,
    Copies,
    Facts,
    Harm,
    Learned,
    Load,
    OptOut,
    Rights,
    Style,
    Works,
    readings,
)
from expunge.workflow.rights.jurisdictions import default_jurisdictions
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.terms import ACTIONS, DOMAINS, NEEDS, Action, AuthorityKind, Basis, Ground, Readings
from expunge.workflow.rights.triage import Filed, row_for, triage
from rights import GRANTED, NOW, RECORD, facts_for, filed, law

POLICY = default_rights_policy()
REFUSALS = (Action.REFUSE, Action.NARROW)


NAMES = list(DOMAINS)
SHAPE = [len(values) for values in DOMAINS.values()]


@cache
def everything():
    """(2.1 million, 13) place of each value in its domain, for every combination whatsoever, and the first row that applies
    to each: the table again, by masks instead of by rows."""
    grid = np.indices(SHAPE, np.uint8).reshape(len(SHAPE), -1)
    row = np.full(grid.shape[1], -1, np.int16)
    for number, line in reversed(list(enumerate(POLICY.table))):
        applies = np.ones(grid.shape[1], bool)
        for name, values in line.when.items():
            places = [DOMAINS[name].index(value) for value in values]
            applies &= np.isin(grid[NAMES.index(name)], places)
        row[applies] = number
    return grid, row


def reading_at(place):
    grid, _ = everything()
    return {name: DOMAINS[name][grid[axis, place]] for axis, name in enumerate(NAMES)}


def where(name, value):
    grid, _ = everything()
    return grid[NAMES.index(name)] == DOMAINS[name].index(value)


def actions(rows):
    return {POLICY.table[row].action for row in np.unique(rows)}


def test_every_combination_of_facts_has_exactly_one_decision():
    grid, row = everything()
    assert grid.shape[1] == np.prod(SHAPE) > 2_000_000
    assert row.min() == 0, "nothing is left undecided"
    for place in range(0, len(row), 9973):
        assert row_for(Readings(**reading_at(place)), POLICY) == row[place]


def test_no_row_of_the_table_is_dead():
    assert set(np.unique(everything()[1])) == set(range(len(POLICY.table)))


def test_a_legal_hold_wins_over_everything():
    row = everything()[1]
    held = where("hold", "ordered") | where("rights", "competing")
    assert actions(row[held]) == {Action.LEGAL_HOLD}
    assert actions(row[~held]) == set(Action)


def test_no_refusal_goes_out_without_a_measurement():
    """Every way to a refusal, a grant or a certificate has the reading on which its ground rests; only holds have none."""
    row = everything()[1]
    for number, line in enumerate(POLICY.table):
        if line.ground in NEEDS:
            assert where(*NEEDS[line.ground])[row == number].all()
        else:
            assert line.action is Action.LEGAL_HOLD
    refused = {line.ground for line in POLICY.table if line.action in REFUSALS}
    assert refused == {ground for ground in NEEDS if Action.REFUSE in ACTIONS[ground]}


@pytest.mark.parametrize("number", range(len(POLICY.table)))
def test_every_row_is_reached_by_facts_and_its_letter_has_the_numbers_that_carried_it(number):
    row = POLICY.table[number]
    reading = reading_at(int(np.flatnonzero(everything()[1] == number)[0]))
    decision = triage(facts_for(**reading), POLICY, filed(**reading))
    assert (decision.row, decision.action, decision.ground) == (number, row.action, row.ground)
    assert "$" not in decision.words
    assert "no legal advice" in decision.words
    if row.action is not Action.LEGAL_HOLD:
        assert NEEDS[row.ground][0] in decision.measurements
        assert all(text in decision.words for text in decision.measurements.values())
    if decision.mitigate:
        assert "mitigation, not a removal" in decision.words
        assert decision.deadlines["mitigation"] == NOW + timedelta(hours=72)
    else:
        assert "mitigation" not in decision.deadlines


def test_facts_are_read_as_they_were_made():
    for name, values in DOMAINS.items():
        for value in values:
            want = {**GRANTED, name: value}
            read = readings(facts_for(**{name: value}), POLICY, law(**want))
            assert {field.name: getattr(read, field.name) for field in fields(Readings)} == want


def decide(**changes):
    return triage(facts_for(**changes), POLICY, filed(**changes))


# ---------------------------------------------------------------------------------------------------------- the attacks


def test_an_impostor_with_a_valid_works_list_is_refused():
    """The works are there, copied, learned and opted out: and they are not the claimant's."""
    strongest = {"works": "many", "copies": "found", "learned": "learned", "opt_out": "valid"}
    decision = decide(authority="refuted", **strongest)
    assert (decision.action, decision.ground) == (Action.REFUSE, Ground.NO_AUTHORITY)
    assert RECORD in decision.measurements["authority"]
    assert decision.also == ()
    assert decide(**strongest).action is Action.PURGE_WORKS


def test_somebody_whose_authority_was_not_checked_is_not_refused():
    decision = decide(authority="open")
    assert (decision.action, decision.ground) == (Action.LEGAL_HOLD, Ground.AUTHORITY_OPEN)
    narrow = replace(POLICY, intake=replace(POLICY.intake, authority=(AuthorityKind.HEIR,)))
    assert triage(facts_for(), narrow, filed()).ground is Ground.AUTHORITY_OPEN


def test_an_artist_called_a_movement_is_not_refused_by_the_name_alone():
    """Somebody puts the artist's name on a list of movements, so that requests can be refused."""
    alone = replace(facts_for(), style=Style(others=0, asked=40, movement=True))
    assert triage(alone, POLICY, filed()).action is Action.STYLE_EDIT
    unasked = replace(facts_for(), style=Style(others=0, asked=0, movement=True))
    assert triage(unasked, POLICY, filed()).action is Action.LEGAL_HOLD
    shared = replace(facts_for(), style=Style(others=3, asked=40, movement=True))
    refused = triage(shared, POLICY, filed())
    assert (refused.action, refused.ground) == (Action.REFUSE, Ground.GENERIC_STYLE)
    assert "3 of 40 other artists" in refused.measurements["style"]
    assert refused.also == (Action.EXCLUDE_NEXT,), "the works are theirs, whatever the style is"


def test_a_search_that_looked_at_nothing_finds_nothing_and_refuses_nobody():
    for works in (
        Works(listed=50, present=0, searched=0, records=60_000, by=("sha256",)),
        Works(listed=50, present=0, searched=60_000, records=60_000, by=()),
        Works(listed=50, present=0, searched=1, records=60_000, by=("sha256", "perceptual")),
        Works(listed=50, present=0, searched=59_999, records=60_000, by=("sha256",)),
        None,
    ):
        blind = replace(facts_for(learned="not_learned"), works=works)
        assert triage(blind, POLICY, filed()).ground is Ground.UNMEASURED
    looked = replace(
        facts_for(learned="not_learned"),
        works=Works(listed=50, present=0, searched=60_000, records=60_000, by=("sha256",)),
    )
    assert triage(looked, POLICY, filed()).ground is Ground.NOT_PRESENT


def test_works_that_the_manifest_does_not_have_and_the_model_draws_go_to_a_person():
    assert decide(works="none", copies="found").ground is Ground.CONTRADICTION
    assert decide(works="none", learned="learned").ground is Ground.CONTRADICTION


def test_twenty_draws_do_not_show_that_there_is_no_copy():
    few = replace(facts_for(learned="not_learned"), copies=Copies(found=0, draws=20))
    assert triage(few, POLICY, filed()).ground is Ground.UNMEASURED
    none = replace(facts_for(learned="not_learned"), copies=Copies(found=0, draws=0))
    assert triage(none, POLICY, filed()).ground is Ground.UNMEASURED
    enough = replace(facts_for(learned="not_learned"), copies=Copies(found=0, draws=299))
    assert triage(enough, POLICY, filed()).ground is Ground.STYLE_NOT_LEARNED


def test_a_copy_is_not_forgiven_because_the_style_is_shared_or_the_edit_would_harm():
    assert decide(copies="found", style="shared").action is Action.PURGE_WORKS
    assert decide(copies="found", harm="beyond").action is Action.PURGE_WORKS


def test_harm_that_nobody_measured_neither_refuses_nor_grants():
    assert decide(harm="open").action is Action.LEGAL_HOLD
    refused = decide(harm="beyond")
    assert (refused.action, refused.ground) == (Action.REFUSE, Ground.NEIGHBOUR_HARM)
    assert "10 neighbours lose up to 20.0%" in refused.words


def test_a_large_shift_of_embeddings_alone_refuses_nobody():
    moved = replace(facts_for(), harm=Harm(at_most=0.01, neighbours=10, shift=0.9))
    decision = triage(moved, POLICY, filed())
    assert decision.action is Action.STYLE_EDIT
    assert "move by up to 90.0%" in decision.measurements["harm"]


def test_the_imitation_threshold_decides_only_where_the_measurement_does_not():
    assert decide(works="few", learned="open").action is Action.EXCLUDE_NEXT
    assert decide(works="many", learned="open").ground is Ground.UNMEASURED
    assert decide(works="few", learned="learned").action is Action.STYLE_EDIT


@pytest.mark.parametrize("load", [Load(edits=100), Load(edits=1, lost=0.051)])
def test_accumulated_edits_force_a_retraining(load):
    decision = triage(replace(facts_for(), load=load), POLICY, filed())
    assert (decision.action, decision.ground) == (Action.RETRAIN, Ground.BUDGET_SPENT)
    assert decision.deadlines["retrain"] == NOW + timedelta(days=180)
    assert decision.mitigate
    assert triage(replace(facts_for(), load=Load(edits=99, lost=0.05)), POLICY, filed()).action is Action.STYLE_EDIT


def test_the_law_switches_the_ground_and_never_the_copy():
    """A near-copy leaves in every law; on which ground is said as the court there said it."""
    book = default_jurisdictions()
    grounds = {}
    for code in ("GB", "DE", "US", "EU", "Atlantis"):
        what = Filed(received=NOW, basis=Basis.COPYRIGHT, jurisdiction=book.find(code))
        decision = triage(facts_for(copies="found"), POLICY, what)
        assert decision.action is Action.PURGE_WORKS
        grounds[code] = decision.ground
        assert any("42 O 14139/24" in source and "not final" in source for source in decision.law) is (code == "DE")
        assert all(source in decision.words for source in decision.law)
    assert grounds.pop("DE") is Ground.MEMORISED_REPRODUCTION
    assert set(grounds.values()) == {Ground.MEMORISED_COPY}


def test_a_law_that_protects_styles_takes_the_refusal_away_and_one_that_hears_no_training_claim_the_purge():
    assert decide(style="shared", protectable="affirmed").ground is Ground.STYLE_PROTECTED
    assert decide(style="shared", protectable="denied").ground is Ground.SHARED_STYLE
    assert decide(opt_out="valid", training="denied").action is Action.EXCLUDE_NEXT
    assert decide(opt_out="valid", training="open").action is Action.PURGE_WORKS


def test_the_decision_is_the_same_for_the_same_facts_and_names_what_it_was_made_by():
    first, again = decide(), decide()
    assert first == again
    assert first.policy == POLICY.digest
    assert loads(canonical(encode(first)))["ground"] == "style_learned", "it can be logged as it is"
    assert decide(works="few").facts != first.facts
    assert triage(facts_for(), replace(POLICY, version=2), filed()).policy != first.policy


@pytest.mark.parametrize(
    "make",
    [
        lambda: Authority(kind=AuthorityKind.AUTHOR, state="refuted", record=""),
        lambda: Authority(kind=AuthorityKind.AUTHOR, state="proven", record="Jane Doe, passport 12345"),
        lambda: Rights(state="public_domain"),
        lambda: Rights(state="mixed", record="some of them"),
        lambda: Works(listed=1, present=5, searched=4, records=4, by=("sha256",)),
        lambda: Works(listed=1, present=0, searched=5, records=4, by=("sha256",)),
        lambda: Works(listed=0, present=0, searched=4, records=4, by=("sha256",)),
        lambda: Copies(found=3, draws=2),
        lambda: Style(others=5, asked=4),
        lambda: Harm(at_most=float("nan"), neighbours=3),
        lambda: Harm(at_most=0.1, neighbours=0),
        lambda: Load(edits=1, lost=float("nan")),
    ],
)
def test_facts_that_no_measurement_gives_and_texts_instead_of_records_are_refused(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize("noun", [Works, Copies, OptOut, Style])
def test_counts_below_zero_are_refused(noun):
    names = {"listed": 1, "present": 0, "searched": 1, "records": 1, "by": ("sha256",), "found": 0, "draws": 1}
    names |= {"reserved": 0, "unknown": 0, "others": 0, "asked": 1, "movement": False}
    names |= {"brought": 1, "planted": (1, 1), "entry": 1}
    good = {field.name: names[field.name] for field in fields(noun)}
    noun(**good)
    for name, value in good.items():
        if isinstance(value, int) and not isinstance(value, bool):
            with pytest.raises(InputProblems):
                noun(**{**good, name: -1})


def test_nothing_measured_at_all_is_a_hold():
    assert triage(Facts(), POLICY, filed()).ground is Ground.AUTHORITY_OPEN
    checked = Facts(authority=Authority(kind=AuthorityKind.HEIR, state="proven", record=RECORD))
    assert triage(checked, POLICY, filed()).ground is Ground.UNMEASURED
    inconclusive = replace(facts_for(), learned=Learned(verdict=Verdict.UNVERIFIABLE, rate=0.1, at_most=0.4))
    assert triage(inconclusive, POLICY, filed()).ground is Ground.UNMEASURED


# ------------------------------------------------------------------------------------------------------------ deadlines


def test_deadlines_count_from_receipt_and_business_days_skip_the_weekend():
    due = deadlines(NOW, POLICY, Basis.COPYRIGHT)
    assert due["acknowledge"] == NOW + timedelta(days=2)
    friday = datetime(2026, 3, 6, 18, tzinfo=UTC)
    assert business_days(friday, 2) == datetime(2026, 3, 10, 18, tzinfo=UTC)
    assert business_days(friday + timedelta(days=1), 1) == datetime(2026, 3, 9, 18, tzinfo=UTC)
    assert (due["mitigation"] - NOW, due["decision"] - NOW) == (timedelta(hours=72), timedelta(days=14))
    assert "gdpr_answer" not in due


def test_a_request_under_the_gdpr_is_due_within_the_month():
    late = datetime(2026, 1, 31, 12, tzinfo=UTC)
    due = deadlines(late, POLICY, Basis.GDPR)
    assert due["gdpr_answer"] == datetime(2026, 2, 28, 12, tzinfo=UTC) == due["edit"]
    assert due["gdpr_extended"] == datetime(2026, 4, 30, 12, tzinfo=UTC) == due["retrain"]
    assert months(datetime(2027, 12, 31, tzinfo=UTC), 2) == datetime(2028, 2, 29, tzinfo=UTC)


def test_a_deadline_without_a_zone_is_none():
    with pytest.raises(InputError):
        deadlines(datetime(2026, 1, 1), POLICY, Basis.GDPR)
