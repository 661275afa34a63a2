"""The HTML report: what a reader of either kind of model is shown, and what nobody may find in it."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge import Workspace
from expunge.apps.reports._words import DEMANDS, ENTRIES, RUNGS
from expunge.apps.reports.html import HtmlReport
from expunge.checks.census import Census
from expunge.checks.ranking import Ranking
from expunge.core import registry
from expunge.core.codec import encode
from expunge.core.finding import Condition, Finding, Verdict
from expunge.core.ladder import Census as Places
from expunge.core.ladder import Ladder, Place
from expunge.core.ladder import Ranking as Measured
from expunge.core.policy import Demand
from expunge.evidence.verify_steps import REVOKED
from expunge.workflow.policy import checks_of
from oracle.banks import job
from recommending import a_user, cached_lists, make

HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x onerror=a> $\\frac$'
RECOMMENDER = [
    "What was checked",
    "Quality: before, after, and a retraining",
    "Where the users sat",
    "How the verifier was tested",
    "What was done",
    "The log",
    "What was not tested or is not covered",
    "What this does not claim",
]
CLASSIFIER = [RECOMMENDER[0], "How strong the attacks are here", *RECOMMENDER[3:]]
LADDER = ["V0", "V1", "V2", "V3", "V3, bank", "V3, file", "V4", "V5", "quality", "other accounts"]


def ranking(users: int = 400, **changes: Any) -> Finding:
    rng = np.random.default_rng(0)
    third = np.arange(users) % 3
    original = {name: rng.uniform(0.3, 0.7, users) for name in ("NDCG@100", "Recall@20")}
    retrained = {name: values + 0.005 * rng.standard_normal(users) for name, values in original.items()}
    noun = Measured(
        candidate={name: values.copy() for name, values in retrained.items()},
        original=original,
        reference=retrained,
        segments={f"activity {name}": third == k for k, name in enumerate(("low", "middle", "high"))},
        lists={"candidate": np.arange(50), "original": np.ones(50, np.int64), "reference": np.arange(50)},
        split="strong generalisation",
    )
    return Ranking().run(replace(job(), ladder=Ladder(ranking=replace(noun, **changes))))


def census(*places: Place, **changes: Any) -> Finding:
    noun = Places(places=places, orphans=0, cascade=(0, 0), test_users=0)
    return Census().run(replace(job(), ladder=Ladder(census=replace(noun, **changes))))


def place(name: str = "export of ratings", **changes: Any) -> Place:
    action = "cleaned; the copy takes its place when the case is accepted"
    plain = Place(kind="events", name=name, before=12_345, after=0, planted=(15, 15), action=action)
    return replace(plain, **changes)


def other(check: str, **changes: Any) -> Finding:
    plain = {"question": "q?", "statistic": "s", "verdict": Verdict.PASS, "reason": "r", "n": 1}
    return Finding(check=check, **{**plain, **changes})


def shown(*findings: Finding, kind: str = "recommender", **changes: Any) -> dict[str, Any]:
    """A view with these findings; what is not under test is short."""
    plain = {
        "kind": kind,
        "case": "case-1",
        "custody": "self-issued",
        "sentence": "As logged by the owner.",
        "guarantee": "EXACT",
        "guarantee_basis": "as logged by the owner",
        "issued_at": "2026-01-02T03:04:05.000000Z",
        "expires_at": "2027-01-02T03:04:05.000000Z",
        "attempt": 1,
        "findings": list(findings),
        "skipped": {},
        "other_kinds": 12,
        "demands": {finding.check: "must_pass" for finding in findings},
        "figures": {},
        "bank_n": 0,
        "facts": {"users": "488 before, 487 after"},
        "selftest": {"sentence": "no self-test", "made": "", "cheats": [], "alarms": []},
        "purged": ["3 files"],
        "retiring": [],
        "failed": [],
        "not_covered": ["backups"],
        "non_claims": ["no law"],
        "log": [entry(7, "plan.committed", digest="sha256:0c96102f4e29…")],
    }
    return encode({**plain, **changes})


def entry(index: int, kind: str, *, own: bool = True, digest: str | None = None) -> dict[str, Any]:
    return {"index": index, "kind": kind, "own": own, "time": "2026-11-28T19:26:46.308760Z", "digest": digest}


def page(*findings: Finding, **changes: Any) -> str:
    return HtmlReport().render(shown(*findings, **changes))["report.html"].decode()


def headings(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def section(html: str, heading: str) -> str:
    """Its text, without tags, blanks joined."""
    part = html.partition(f"<h2>{heading}</h2>")[2].partition("<h2>")[0]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", part)))


# ------------------------------------------------------------------------------------------------------- what is shown


def test_sections_of_a_recommender_in_order():
    html = page(census(place()), ranking())
    assert headings(html) == RECOMMENDER
    assert "12 checks are for other kinds of models." in html
    assert "1 check is for other kinds of models." in page(census(), other_kinds=1)
    assert "other kinds" not in page(census(), other_kinds=0)


def test_sections_of_a_classifier_are_what_they_were_and_the_log():
    html = page(other("membership"), other("census"), kind="classifier")
    assert headings(html) == CLASSIFIER
    assert not any(f'<span class="rung">{label}</span>' in html for label in LADDER)
    assert "There is no bank of at least four pairs" in html
    assert "A pass means" not in html
    assert "Under the policy" not in html


def test_checks_stand_in_the_order_of_the_ladder_and_say_what_a_pass_means():
    html = page(other("outside"), *map(other, sorted(RUNGS, reverse=True)))
    assert re.findall(r'<span class="rung">(.*?)</span> <strong>', html) == LADDER
    assert re.findall(r"<strong>(\w+)</strong><br>", html)[-1] == "outside"
    found = section(html, "What was checked")
    for rung in RUNGS.values():
        assert f"A pass means: {rung.passing} Under the policy this check must pass." in found


def test_every_demand_and_every_kind_of_entry_of_a_case_has_words():
    assert {demand.value for demand in Demand} == set(DEMANDS)
    source = Path(inspect.getfile(Workspace)).parent
    calls = (node for file in source.glob("*.py") for node in ast.walk(ast.parse(file.read_text())))
    logged = {
        REVOKED if getattr(call.args[0], "id", "") == "REVOKED" else call.args[0].value
        for call in calls
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", "") == "append"
        and any(keyword.arg == "case" for keyword in call.keywords)
    }
    assert "plan.committed" in logged
    assert logged - {"certificate.issued"} <= set(ENTRIES)


def test_quality_before_after_and_of_a_retraining_is_the_findings():
    finding = ranking()
    found = section(page(finding), RECOMMENDER[1])
    figures = {name: float(text) for name, text in finding.details.items() if name != "split"}
    means = [figures[f"{model}.NDCG@100"] for model in ("original", "candidate", "retraining")]
    assert " ".join(f"{mean:.4f}" for mean in means) in found
    low, high = (f"{end:+.4f}".replace("-", "−") for end in (finding.interval.low, finding.interval.high))
    assert f"{finding.estimate:+.4f} [{low}, {high}] PASS 0 [0, 0] PASS".replace("-", "−") in found
    assert "0.005 vs. before 0 vs. retraining" in found
    assert "97.5 % intervals" in found
    assert f"{figures['original.coverage']:.4f} {figures['candidate.coverage']:.4f}" in found
    assert f"{figures['activity_gap.original']:.4f}" in found
    places = [found.index(f"activity {name}") for name in ("low", "middle", "high")]
    assert places == sorted(places)


def test_without_a_retraining_the_report_says_so_and_invents_nothing():
    found = section(page(ranking(reference=None)), RECOMMENDER[1])
    assert "no retraining was made" in found
    files = HtmlReport().render(shown(ranking(reference=None)))
    assert b"after the deletion" in files["figures/quality.svg"]
    assert b"a retraining" not in files["figures/quality.svg"]


def test_a_quality_that_was_not_measured_has_a_reason_and_no_figure():
    unmeasured = Ranking().run(replace(job(), ladder=Ladder(unable={"ranking": "there are no test users"})))
    files = HtmlReport().render(shown(unmeasured))
    assert "there are no test users" in section(files["report.html"].decode(), RECOMMENDER[1])
    assert list(files) == ["report.html"]
    assert "was not measured" in section(page(census()), RECOMMENDER[1])


def test_a_group_of_few_users_gets_no_dot():
    """Segments of 20 users have one, of 19 have none, though the finding holds their mean."""
    crowd = np.arange(400)
    finding = ranking(segments={"twenty": crowd < 20, "nineteen": crowd < 19})
    assert "segment.nineteen.difference" in finding.details
    svg = HtmlReport().render(shown(finding))["figures/quality.svg"].decode()
    assert "twenty, 20 users" in svg
    assert "nineteen" not in svg


def test_places_with_what_was_there_what_is_left_and_what_was_done():
    found = section(page(census(place(), place("cache", before=0, action="nothing to do"))), RECOMMENDER[2])
    action = "cleaned; the copy takes its place when the case is accepted"
    assert f"export of ratings events 8,192 0 15 of 15 {action} PASS" in found
    assert "cache events 0 0 15 of 15 nothing to do PASS" in found
    assert "no deleted user among the test users" not in found
    assert "No deleted user, and no copy of one" in found


def test_places_that_hold_somebody_or_cannot_be_read_are_seen():
    found = section(page(census(place(after=2), place("dump", unread="secret.parquet is torn"))), RECOMMENDER[2])
    assert re.search(r"export of ratings events 8,192 2 15 of 15 .* FAIL", found)
    assert re.search(r"dump events – – – could not be read as one UNVERIFIABLE", found)
    assert "secret" not in found


def test_a_note_that_reads_otherwise_is_shown_as_it_stands():
    told = Condition(name="vault", verdict=Verdict.PASS, estimate=0.0, note="looked at by hand")
    odd = replace(census(place()), conditions=(told, census().conditions[-1]))
    assert "vault – 0 – looked at by hand PASS" in section(page(odd), RECOMMENDER[2])


def test_orphans_cascade_and_test_users_are_told_in_words():
    found = section(page(census(place(), orphans=2, cascade=(3, 1_700), test_users=1)), RECOMMENDER[2])
    assert "Items that only the deleted users had: 2." in found
    assert "a filter for rare items would also drop items of other people: 3, with 1,700 of their events" in found
    assert "Deleted users, or copies of them, among the test users: 1." in found
    none = section(page(census(orphans=0)), RECOMMENDER[2])
    assert "No place was declared" in none
    assert "Every item that the deleted users had is somebody else's too" in none


def test_the_log_is_told_in_words_and_an_earlier_deletion_as_such():
    entries = [entry(3, "data.purged", own=False), entry(9, "data.purged"), entry(4, "something.new")]
    found = section(page(census(), log=entries), "The log")
    assert "3 An earlier deletion left the data as they were before this one data.purged" in found
    assert f"9 {ENTRIES['data.purged']} data.purged" in found
    assert "4 something.new something.new" in found
    plan = section(page(census()), "The log")
    assert "7 The plan was fixed, before anything ran plan.committed sha256:0c96102f4e29… 2026-11-28 19:26:46" in plan


def test_counts_are_grouped_and_names_and_digests_are_not():
    digest = "sha256:" + "1234567890" * 6
    facts = {
        "a": f"{digest}, log",
        "b": "44630 events",
        "c": "20240101.csv",
        "d": "export-20240101 of a",
        "e": "0.12345 s",
    }
    found = page(other("algebra", reason="all 2250000 sums (of 12345)", n=2_250_000, original=90_000.0), facts=facts)
    for text in (
        digest,
        "44,630 events",
        "20240101.csv",
        "export-20240101 of",
        "0.12345 s",
        "2,250,000 sums",
        "90,000",
    ):
        assert text in found
    assert '<td class="num" data-label="n">2,250,000</td>' in found


# ---------------------------------------------------------------------------------------------------- what may not be


def test_hostile_names_are_text():
    finding = ranking(segments={HOSTILE: np.arange(400) < 200})
    views = shown(
        census(place(HOSTILE), place(f"{HOSTILE} 2", unread="x")),
        finding,
        other("algebra", reason=HOSTILE, question=HOSTILE),
        case=HOSTILE,
        facts={HOSTILE: HOSTILE},
        log=[entry(1, HOSTILE, digest=HOSTILE)],
    )
    files = HtmlReport().render(views)
    for name, data in files.items():
        for tag in (b"<script", b"<img src=http"):
            assert tag not in data, name
    assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in files["report.html"]
    assert b"&lt;script&gt;" in files["figures/quality.svg"]


@pytest.mark.parametrize("kind", ["recommender", "classifier"])
def test_one_page_without_script_or_reference(kind):
    html = page(census(place()), ranking(), kind=kind)
    for needle in ('src="http', "href=", "url(", "@import", "<script", "<link", "<iframe", "javascript:", "//"):
        assert needle not in re.sub(r'src="data:[^"]*"', "", html), needle
    assert ('src="data:image/svg+xml;base64,' in html) == (kind == "recommender")


def test_the_same_case_gives_the_same_bytes():
    first, second = (HtmlReport().render(shown(census(place()), ranking())) for _ in range(2))
    assert first == second
    assert first != HtmlReport().render(shown(census(place()), ranking(users=401)))


def test_numeric_columns_have_their_headings_over_them():
    html = page(census(place()), ranking())
    for table in re.findall(r"<table>(?:(?!<table>).)*?</thead>.*?</tr>", html, re.S):
        heads = ["num" in head for head in re.findall(r"<th( class=[^>]*)?>", table)]
        cells = ["num" in cell for cell in re.findall(r'<td( class="[^"]*")?', table)]
        assert heads == cells


# ------------------------------------------------------------------------------------------------ from a real workspace


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory):
    """(workspace, ids it had, views, bundles' report files) of two deletions, one after the other."""
    folder = tmp_path_factory.mktemp("reported")
    table = {"name": "cached lists", "kind": "lists", "path": "lists.json"}
    views: list[Any] = []
    original = HtmlReport.render

    def render(self: HtmlReport, view: Any) -> dict[str, bytes]:
        views.append((view, original(self, view)))
        return views[-1][1]

    with pytest.MonkeyPatch.context() as patch, make(folder / "ws", places=(table,)) as workspace:
        patch.setattr(HtmlReport, "render", render)
        ids = [str(name) for name in workspace.book.ids]
        for rank in (0.4, 0.9):
            user = a_user(workspace, rank)
            cached_lists(folder / "ws" / "lists.json", workspace.served().digest, [user.partition("/")[2]])
            workspace.run(workspace.request(ids=[user]))
        yield workspace, ids, views


def test_a_recommenders_view_names_its_own_checks_alone(reported):
    view, _ = reported[2][0]
    assert view["kind"] == "recommender"
    assert {finding["check"] for finding in view["findings"]} == checks_of("recommender") - {"deployed"}
    assert set(view["skipped"]) == {"deployed"}  # the policy asks for it under EMPIRICAL
    assert view["other_kinds"] == len(set(registry.names("checks")) - checks_of("recommender"))
    assert "users" in view["facts"]
    assert "records" not in view["facts"]
    assert view["demands"]["ranking"] == "must_not_fail"


def test_the_log_of_a_case_runs_from_its_data_to_its_purge(reported):
    workspace, _, views = reported
    first, second = (view["log"] for view, _ in views)
    case = ["request.received", "request.resolved", "plan.committed", "candidate.executed", "findings.recorded"]
    case += ["decision.made", "model.released", "data.purged"]
    assert [found["kind"] for found in first] == ["data.ingested", "selftest.recorded", *case]
    assert [found["kind"] for found in second] == ["selftest.recorded", "data.purged", *case]
    assert [found["own"] for found in second] == [False, False, *[True] * len(case)]
    assert second[1]["index"] == first[-1]["index"]
    plan = next(found for found in second if found["kind"] == "plan.committed")
    assert plan["digest"] == workspace.log.entry(plan["index"]).payload["plan"][:19] + "…"
    assert {found["kind"] for found in second if found["digest"]} == {"plan.committed", "findings.recorded"}


def test_nobody_and_nothing_is_named(reported):
    """Users, items and pseudonyms, in the page (without its pictures' code) and in the pictures."""
    workspace, ids, views = reported
    names = [
        text for name in (*ids, *workspace.data.items, *workspace.data.test.ids) for text in str(name).split("/")[1:]
    ]
    assert len(names) > 100
    subjects = [text for found in workspace.log.entries() for text in found.payload.get("subjects", ())]
    assert subjects
    for _, files in views:
        assert set(files) == {"report.html", "figures/quality.svg"}
        for name, data in files.items():
            text = re.sub(r'src="data:[^"]*"', "", data.decode())
            assert [word for word in (*names, *subjects) if word in text] == [], name
    other_case = views[0][0]["case"]
    assert other_case not in views[1][1]["report.html"].decode()


def test_the_bundle_holds_what_was_rendered(reported):
    workspace, _, views = reported
    for view, files in views:
        assert (workspace.root / "cases" / view["case"] / "report.html").read_bytes() == files["report.html"]
        assert headings(files["report.html"].decode()) == RECOMMENDER
        assert "cached lists lists 1 0" in section(files["report.html"].decode(), RECOMMENDER[2])


def test_a_check_belongs_to_a_kind_by_what_it_reads():
    sources = {
        name: Path(inspect.getfile(registry.load("checks", name))).read_text() for name in registry.names("checks")
    }
    ladder, styles = (
        {name for name, source in sources.items() if f"job.{field}" in source} for field in ("ladder", "styles")
    )
    assert ladder | {"linkage", "membership", "deployed"} == checks_of("recommender")
    assert styles | {"linkage", "membership", "provenance"} == checks_of("generator")
    assert set(sources) - ladder - styles == checks_of("classifier")


def test_a_classifiers_view_skips_what_its_policy_does_not_ask_for_and_no_rung(folder, monkeypatch):
    views: list[Any] = []
    original = HtmlReport.render
    monkeypatch.setattr(HtmlReport, "render", lambda self, view: (views.append(view), original(self, view))[1])
    with Workspace.open(folder) as workspace:
        outcome = workspace.run(workspace.request(ids=["train/7/0007"]))
    [view] = views
    assert view["kind"] == "classifier"
    others = checks_of("recommender") | checks_of("generator")
    assert view["other_kinds"] == len(others - checks_of("classifier"))
    assert "neighbourhood" in view["skipped"]
    assert set(view["skipped"]).isdisjoint(checks_of("recommender"))
    assert "records" in view["facts"]
    html = outcome.certificate.report.read_text()
    assert headings(html) == CLASSIFIER
    assert 'src="data:image/svg+xml;base64,' in section_of_pictures(html)


def section_of_pictures(html: str) -> str:
    return html.partition(f"<h2>{CLASSIFIER[1]}</h2>")[2].partition("<h2>")[0]
