"""What a report calls things: rungs of a recommender's ladder, entries of the log, what a policy asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """`label` stands before a check's name; `passing` is what a PASS means to somebody who is no engineer, and `events` the
    same where only events were deleted and the person stays; empty where it is the same."""

    label: str
    passing: str
    events: str = ""

    def means(self, unit: str) -> str:
        """What a PASS means after a deletion of records or of events."""
        return self.passing if unit == "records" else self.events or self.passing


RUNGS: Mapping[str, Rung] = {
    "census": Rung(
        label="V0",
        passing="every place that the owner declared was searched, by a search that was seen to work, and the person is "
        "in none of them.",
        events="every place that the owner declared was searched, by a search that was seen to work, and what was deleted "
        "is in none of them. The person may be, with everything else.",
    ),
    "algebra": Rung(
        label="V1",
        passing="the model is computed from sums over its users, and these sums are those of the remaining users, with no "
        "rounding: the person's part in them is gone.",
        events="the model is computed from sums over histories, and these sums are those of the histories without the "
        "deleted events, with no rounding: neither more nor less is gone.",
    ),
    "weights_only": Rung(
        label="V2",
        passing="somebody who has the model's files and nothing else can see that no deleted person's whole history is in "
        "them.",
        events="somebody who has the model's files and nothing else can see that no history is in them as it was before the "
        "deletion.",
    ),
    "left_out": Rung(
        label="V3",
        passing="asked about what the person watched, bought or rated, the model answers as one that never had the person.",
        events="asked about what the person watched, bought or rated, the model answers as one that never had the deleted "
        "events.",
    ),
    "membership": Rung(
        label="V3, bank",
        passing="models that had the person, and from which the person was deleted in the same way, cannot be told from models "
        "that never had the person by any of the signals, which do see the person where nothing was deleted.",
    ),
    "deployed": Rung(
        label="V3, file",
        passing="the file in service was told from models that have the person; this check can fail a file and proves none.",
    ),
    "behaviour": Rung(
        label="V4",
        passing="other people are answered as by a model that was trained again without the person.",
        events="people are answered as by a model that was trained again without the deleted events.",
    ),
    "downstream": Rung(
        label="V5",
        passing="nothing that the owner declared goes on being served from the old model, beyond the release or a day that is "
        "named, and a restored backup is refused, or gives the new model once the list of deletions is applied to it.",
    ),
    "ranking": Rung(
        label="quality",
        passing="recommendations for everybody else are as good as those of a model trained again, and no worse than "
        "before by more than the margin.",
    ),
    "linkage": Rung(
        label="other accounts",
        passing="no second account with nearly the same history was found, by a search that finds most copies put there to "
        "test it.",
    ),
}
"""From what is stored (V0) to what is served from it (V5), then what is not a rung; a report keeps this order."""

FIGURES: Mapping[str, str] = {
    "NDCG@100": "how high in a list of 100 the items stand that people really chose; 0 to 1, more is better",
    "Recall@20": "the share of these among the first 20; 0 to 1, more is better",
    "coverage": "share of the catalogue that is recommended to anybody",
    "gini": "0 where all items are shown equally often, 1 where all lists show the same few (Gini index of exposure)",
    "activity gap": "how much better the most active third of the test users is served than the least active third",
    "activity low": "the third of the test users with the shortest histories",
    "activity middle": "the third between them",
    "activity high": "the third with the longest histories",
}
"""Measures and groups of test users; another one stands there without an explanation."""

DEMANDS: Mapping[str, str] = {
    "must_pass": "must pass",
    "must_pass_if_seen": "must pass where anything can be seen",
    "must_not_fail": "must not fail",
    "report": "is reported and decides nothing",
}

ENTRIES: Mapping[str, str] = {
    "data.ingested": "The data were read in and committed to, as they were before this deletion",
    "selftest.recorded": "The self-test of the verifier was recorded",
    "request.received": "The request came in",
    "request.resolved": "What the request is about was looked up in the data",
    "request.held": "The request was held for a person to decide",
    "request.refused": "The request was refused",
    "plan.committed": "The plan was fixed, before anything ran",
    "candidate.executed": "A new model was made as planned",
    "candidate.failed": "This attempt was given up",
    "findings.recorded": "The findings of all checks were recorded",
    "decision.made": "The policy decided on the findings",
    "model.released": "The new model went into service in place of the old one",
    "data.purged": "The records and what was made from them were destroyed",
    "incident.opened": "No attempt had passed: an incident was opened",
    "certificate.revoked": "The certificate was revoked: it holds no longer",
}
"""Kinds of log entries; another one is shown under its own name."""
EARLIER = "An earlier deletion left the data as they were before this one"


def entry_words(kind: str, own: bool) -> str:
    """An entry in plain words; the data of a case may come from the purge of another one."""
    return EARLIER if kind == "data.purged" and not own else ENTRIES.get(kind, kind)
