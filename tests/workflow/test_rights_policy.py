"""The policy kind `rights_holder`: read strictly, held to floors, and no table may refuse without a measurement."""

import re
from copy import deepcopy
from dataclasses import replace

import pytest

from expunge.core.codec import decode
from expunge.core.documents import plain_values, strict_yaml
from expunge.core.errors import InputError, InputProblems
from expunge.workflow.rights.jurisdictions import BUILT_IN as BOOK
from expunge.workflow.rights.jurisdictions import Jurisdictions, default_jurisdictions
from expunge.workflow.rights.policy import (
    BUILT_IN,
    FLOORS,
    HONEST,
    RightsPolicy,
    check_floors_cover_everything,
    default_rights_policy,
    parse_rights_policy,
    read_rights_policy,
)
from expunge.workflow.rights.terms import Ground

SHIPPED = strict_yaml(BUILT_IN.read_text(), what="policy")
SHIPPED_BOOK = strict_yaml(BOOK.read_text(), what="book")


def changed(**sections):
    """The policy that ships, with changes, through everything that reads one but YAML itself, which is slow."""
    plain = deepcopy(SHIPPED)
    for name, value in sections.items():
        merged = isinstance(value, dict) and isinstance(plain.get(name), dict)
        plain[name] = {**plain[name], **value} if merged else value
    return decode(RightsPolicy, plain_values(plain))


def test_the_policy_that_ships_is_read_and_has_a_letter_for_every_ground():
    policy = default_rights_policy()
    assert policy.kind == "rights_holder"
    assert set(policy.letters) == {row.ground.value for row in policy.table} == set(Ground)
    assert changed() == policy
    assert changed().digest == policy.digest
    assert changed(version=2).digest != policy.digest


def test_the_deadlines_and_limits_are_those_that_were_decided():
    policy = default_rights_policy()
    assert (policy.deadlines.mitigation, policy.deadlines.decision) == (72, 14)
    assert (policy.deadlines.edit, policy.deadlines.retrain) == (30, 180)
    assert (policy.appeals.prompts, policy.appeals.works) == (50, 20)
    assert (policy.limits.imitation_low, policy.limits.imitation_high) == (200, 600)
    assert (policy.limits.window_days, policy.limits.window_size) == (7, 25)
    assert (policy.limits.cumulative_loss, policy.limits.edits) == (0.05, 100)


@pytest.mark.parametrize("section", FLOORS)
def test_a_soft_policy_is_refused_number_by_number(section):
    """All numbers of a section too low, then too high: every one of them is named."""
    for step in (-1, 1):
        beyond = {name: (low - 1 if step < 0 else high + 1) for name, (low, high) in FLOORS[section].items()}
        with pytest.raises(InputProblems) as refused:
            replace(default_rights_policy(), **{section: replace(getattr(default_rights_policy(), section), **beyond)})
        assert {problem.split(":")[0] for problem in refused.value.problems} >= {f"{section}.{name}" for name in beyond}
    edges = {name: high for name, (_, high) in FLOORS[section].items()}
    replace(default_rights_policy(), **{section: replace(getattr(default_rights_policy(), section), **edges)})


def test_every_number_has_a_floor():
    check_floors_cover_everything()


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"limits": {"surprise": 1}},
        {"limits": {"edits": "many"}},
        {"limits": {"edits": True}},
        {"kind": "classifier"},
        {"intake": {"authority": []}},
        {"intake": {"authority": ["anybody"]}},
        {"limits": {"imitation_low": 200, "imitation_high": 200}},
    ],
)
def test_unknown_keys_and_wrong_values_are_refused(change):
    with pytest.raises(InputProblems):
        changed(**change)


def with_row(row, at=0):
    table = [*SHIPPED["table"]]
    table.insert(at, row)
    return changed(table=table)


@pytest.mark.parametrize("ground", sorted(Ground))
def test_a_refusal_without_its_measurement_is_refused_as_a_policy(ground):
    """A row that would refuse, grant or certify everything that reaches it."""
    for action in ("refuse", "purge_works", "style_edit", "not_learned"):
        with pytest.raises(InputProblems, match=r"rests on|cannot lead to"):
            parse_rights_policy(
                with_row({"when": {}, "action": action, "ground": ground}, at=len(SHIPPED["table"]) - 1)
            )


def test_the_same_row_with_its_measurement_is_a_policy():
    row = {"when": {"works": ["none"], "room": ["spent"]}, "action": "refuse", "ground": "not_present"}
    assert with_row(row, at=len(SHIPPED["table"]) - 1).table[-2].ground is Ground.NOT_PRESENT


@pytest.mark.parametrize(
    "row",
    [
        {"when": {"works": ["none"]}, "action": "refuse", "ground": "not_present"},
        {"when": {"hold": ["ordered"], "works": ["none"]}, "action": "refuse", "ground": "not_present"},
        {"when": {"rights": ["competing"], "copies": ["found"]}, "action": "purge_works", "ground": "memorised_copy"},
    ],
)
def test_a_row_that_overtakes_the_legal_hold_is_refused(row):
    with pytest.raises(InputProblems, match="does not always lead to a hold"):
        with_row(row)
    narrower = {**row, "when": {**row["when"], "hold": ["none"], "rights": ["clear"]}}
    with_row(narrower)


@pytest.mark.parametrize("table", [[], SHIPPED["table"][:-1], SHIPPED["table"][1:]])
def test_a_table_with_a_hole_is_refused(table):
    with pytest.raises(InputProblems, match="table"):
        changed(table=table)


@pytest.mark.parametrize(
    "row",
    [
        {"when": {"mood": ["bad"]}, "action": "legal_hold", "ground": "held"},
        {"when": {"works": ["plenty"]}, "action": "legal_hold", "ground": "held"},
        {"when": {"works": []}, "action": "legal_hold", "ground": "held"},
        {"when": {"works": ["few"]}, "action": "legal_hold", "ground": "held", "also": ["exclude_next"]},
        {"when": {"copies": ["found"]}, "action": "purge_works", "ground": "memorised_copy", "also": ["refuse"]},
    ],
)
def test_rows_that_mean_nothing_are_refused(row):
    with pytest.raises(InputProblems, match=r"table\["):
        with_row(row, at=10)


@pytest.mark.parametrize(
    "text", ["The style was removed.", "We are compliant.", "guaranteed gone", "$name, your style", "100 $", "", "  "]
)
def test_letters_that_claim_too_much_or_quote_what_is_not_there_are_refused(text):
    with pytest.raises(InputProblems, match=r"letters\.held"):
        changed(letters={"held": text})


def test_letters_may_say_what_was_not_removed():
    changed(letters={"held": "It is not removed; $present works."})


@pytest.mark.parametrize("number", range(len(HONEST)))
def test_the_honest_words_cannot_be_left_out(number):
    words = [text for place, text in enumerate(SHIPPED["honest_words"]) if place != number]
    with pytest.raises(InputProblems, match="honest_words"):
        changed(honest_words=words)
    with pytest.raises(InputProblems, match="mitigation"):
        changed(mitigation="The style is gone until $expiry.")


def test_a_letter_that_is_missing_is_refused():
    letters = {ground: text for ground, text in SHIPPED["letters"].items() if ground != "held"}
    with pytest.raises(InputProblems, match=r"letters\.held: missing"):
        decode(RightsPolicy, plain_values({**SHIPPED, "letters": letters}))


@pytest.mark.parametrize("text", ["", "[]", "3", "null"])
def test_an_empty_policy_is_refused(text, tmp_path):
    with pytest.raises(InputError, match="empty"):
        parse_rights_policy(text)
    with pytest.raises(InputError, match="no policy"):
        read_rights_policy(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text"):
        read_rights_policy(tmp_path / "binary.yaml")


# -------------------------------------------------------------------------------------------------------- jurisdictions


def test_laws_carry_source_date_status_and_confidence():
    book = default_jurisdictions()
    named = {source.name: source for one in book.jurisdictions for source in one.sources}
    getty, gema = named["Getty Images v Stability AI"], named["GEMA v OpenAI"]
    assert (getty.citation, getty.date, getty.final, getty.confidence) == (
        "[2025] EWHC 2863 (Ch)",
        "2025-11-04",
        False,
        "V",
    )
    assert "permission to appeal" in getty.status
    assert ("42 O 14139/24" in gema.citation, gema.date, gema.status) == (True, "2025-11-11", "not final")
    assert book.find("DE").switches.reproduction == "affirmed"
    assert book.find("US").switches.protectable == "denied"
    assert {source.confidence for source in named.values()} == {"V", "V secondary", "M"}
    assert all(re.fullmatch(r"(\d{4}(-\d\d){1,2})?", source.date) for source in named.values())


def test_germany_is_quoted_with_the_union_and_an_unknown_law_leaves_everything_open():
    book = default_jurisdictions()
    assert {"GEMA v OpenAI", "GDPR, time to answer"} <= {source.name for source in book.sources(book.find("DE"))}
    unknown = book.find("Atlantis")
    assert unknown.code == "other"
    assert {unknown.switches.reproduction, unknown.switches.protectable, unknown.switches.training} == {"open"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain.update(notice="Trust us."),
        lambda plain: plain["jurisdictions"].pop(),
        lambda plain: plain["jurisdictions"].append(plain["jurisdictions"][0]),
        lambda plain: plain["jurisdictions"][0].update(within=["Mars"]),
        lambda plain: plain["jurisdictions"][4]["switches"].update(protectable="affirmed"),
        lambda plain: plain["jurisdictions"][0]["switches"].update(protectable="perhaps"),
        lambda plain: plain["jurisdictions"][0]["sources"][0].update(confidence="sure"),
        lambda plain: plain["jurisdictions"][0]["sources"][0].pop("date"),
    ],
)
def test_a_book_of_laws_without_sources_or_with_twins_is_refused(spoil):
    plain = deepcopy(SHIPPED_BOOK)
    decode(Jurisdictions, plain)
    spoil(plain)
    with pytest.raises(InputProblems):
        decode(Jurisdictions, plain)
