"""What a self-test found, and what a policy asks of it. The verifier is tested harder than the eraser (VERDICTS 6).

Counts are per saboteur and never pooled: "no listed cheat passed, n = ..." is all that may be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from expunge.core.codec import LATER
from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Guarantee
from expunge.core.shares import exceeds, may_exceed, reaches

ENOUGH_PLACEBOS = 59
"""0 alarms of 59 bound the rate at 5 % (95 %, one-sided, Clopper-Pearson); fewer cannot."""

REQUIRED_METHODS = (
    "batchnorm_only",
    "clamp",
    "constant_margin",
    "defeat_device",
    "gradient_ascent",
    "label_flip",
    "last_layer_only",
    "no_op",
    "one_epoch",
    "one_in_ten",
    "output_filter",
    "retrain_with_data",
    "wrong_record",
)
RECOMMENDER_METHODS = (
    "float32_inverse",
    "hidden_copy",
    "one_item_kept",
    "popularity_answers",
    "skipped_rows",
    "stale_cache",
    "stale_counts",
    "stale_weights",
    "wrong_user",
)
"""Saboteurs of recommenders. Which of them a family can be tried on depends on what it keeps; each is named."""
USER_METHODS = ("honest_on_the_bench", "popular_lists", "users_left_in")
"""Saboteurs of recommenders that aim at EMPIRICAL: tried where a bank of users judges it, named everywhere."""
GENERATOR_METHODS = ("no_op", "retrain_with_data", "wrong_record")
"""Saboteurs of text-to-image models, against the proof by provenance."""
EDITS = "style_saboteurs/"
GENERATOR_EDITS = tuple(
    EDITS + name
    for name in (
        "adapter_beside",
        "another_artist",
        "no_op",
        "noise_collapse",
        "original_beside",
        "prompt_filter",
        "text_encoder_only",
        "watermark",
    )
)
"""Cheats handed over as edits of a text-to-image model. They bear on certificates of edits, and on no others."""
REQUIRED_PROCESSES = (
    "forged_transcript",
    "refiled_request",
    "reused_certificate",
    "seed_shopping",
    "soft_policy",
    "thresholds_changed",
)

ALWAYS_TRIED = frozenset(REQUIRED_PROCESSES)
"""Of every kind of model: they act in a scene of their own, so no family and no policy excuses from them."""
ALWAYS_TRIED_ON_USERS = frozenset({"hidden_copy", "one_item_kept", "stale_weights", "wrong_user"})
"""Of a recommender as well: every family can be tried on these, whatever it keeps."""


ALWAYS_TRIED_ON_WORKS = frozenset({"retrain_with_data", "wrong_record"})
"""Of a text-to-image model: every family can be tried on these."""
_METHODS: Mapping[str, tuple[str, ...]] = {
    "recommender": (*RECOMMENDER_METHODS, *USER_METHODS),
    "generator": (*GENERATOR_METHODS, *GENERATOR_EDITS),
}
_ALWAYS: Mapping[str, frozenset[str]] = {"recommender": ALWAYS_TRIED_ON_USERS, "generator": ALWAYS_TRIED_ON_WORKS}


def required(kind: str) -> frozenset[str]:
    """Saboteurs that a report about this kind of model has to name."""
    return frozenset({*_METHODS.get(kind, REQUIRED_METHODS), *REQUIRED_PROCESSES})


def always_tried(kind: str) -> frozenset[str]:
    """Those of them that a report may not skip, whatever its reason."""
    return ALWAYS_TRIED | _ALWAYS.get(kind, frozenset())


TOLERATED: Mapping[str, float] = {"one_in_ten": 0.05}
"""Share of tries that may be certified, where the cheat itself is a draw that may turn out honest; 0 for all others.

A lower limit that lies on that share already counts as a cheat that passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One saboteur. `certified` of `tried` got a certificate, or were believed; `upper` bounds that share at 95 %.

    `caught` counts, by check (for a process, by what refused it), the tries in which it failed; `undecided` tries were
    refused only because nothing could be shown. `lower` is the 95 % lower bound. `skipped` says why it was not tried.
    """

    saboteur: str
    kind: Literal["method", "process", "edit"]
    expected: tuple[str, ...]
    tried: int
    certified: int
    undecided: int
    caught: Mapping[str, int]
    lower: float | None
    upper: float | None
    skipped: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.certified + self.undecided <= self.tried:
            raise InputError(f"{self.saboteur}: counts do not add up", got=f"{self.certified} of {self.tried}")
        if (self.tried == 0) != bool(self.skipped):
            raise InputError(f"{self.saboteur}: skipped with a reason exactly when it was not tried")

    @property
    def passed(self) -> bool:
        """Whether this cheat gets through: certified more often than its own luck explains. The counts say so, exactly."""
        tolerated = TOLERATED.get(self.saboteur, 0.0)
        return self.certified > 0 and (not tolerated or reaches(self.certified, self.tried, tolerated))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """False alarms of one check on honest models. `models` are distinct among the `trials`, and bound what may be
    claimed: trials that share a model are not independent. `lower` and `upper` are one-sided 95 % limits of the rate
    over the trials; they are for readers, and no rule believes them: rules count."""

    check: str
    source: str
    signals: tuple[str, ...]
    trials: int
    models: int
    alarms: int
    lower: float | None
    upper: float | None
    skipped: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.alarms <= self.trials or (self.trials > 0) != (self.models > 0):
            got = f"{self.alarms} of {self.trials} on {self.models} models"
            raise InputError(f"false alarms of {self.check}: counts do not add up", got=got)

    @property
    def independent(self) -> int:
        """Trials that a rule may count on: no more than there are models."""
        return min(self.trials, self.models)

    @property
    def claim(self) -> str:
        """What may be said about the rate."""
        if not self.trials:
            return f"not measured: {self.skipped}"
        words = f"{self.alarms} of {self.trials}, {self.models} models"
        if self.upper is None or self.independent < ENOUGH_PLACEBOS:
            return f"{words}: too few to claim a rate of 5 % ({ENOUGH_PLACEBOS} are needed)"
        return f"{words}: at most {self.upper:.1%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """The block put back into honestly unlearned models: `rise` of one signal in SD of O at this dose, `seen` whether
    it was significant at the policy's alpha."""

    signal: str
    dose: int
    rise: float | None
    seen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EditTrial:
    """How cheats were tried as edits of a text-to-image model. `unread`: why nobody can judge styles here; `seeds` x `pictures`
    of a probe. `objection`: what was said against the honest control, a model that was trained without the artist and judged
    as an edit; empty = it was believed. Counts at which nobody is believed show nothing about cheats. `asked`: digest of all that
    a battery asks here, as plans pin it: weaker attacks believe more cheats, so a certificate's has to be the same.
    """

    asked: str = ""
    unread: str = ""
    seeds: int = 0
    pictures: int = 0
    objection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestReport:
    """Everything a self-test found, canonical and without any record id. `blocks` are keyed pseudonyms.

    `canary_power` is the power at which planted canaries, moved to d = 3 SD where they stand farther, were found with
    this bank; None with `canary_reason` where nothing was planted.
    """

    size: str
    expunge: str
    made_at: datetime
    policy: str
    recipe: str
    family: str
    bank: str | None
    pairs: int
    anchors: int
    blocks: tuple[str, ...]
    tallies: tuple[Tally, ...]
    alarms: tuple[Alarms, ...]
    doses: tuple[Dose, ...]
    canary_power: float | None
    canary_reason: str
    kind: str = "classifier"
    v: int = 1
    notes: tuple[str, ...] = field(default=())
    edits: EditTrial | None = field(default=None, metadata={LATER: True})

    @property
    def passed(self) -> tuple[str, ...]:
        """Names of the cheats that got through."""
        return tuple(tally.saboteur for tally in self.tallies if tally.passed)

    @property
    def owed(self) -> tuple[str, ...]:
        """Cheats that no report may skip and this one did, each with its reason."""
        must = always_tried(self.kind)
        return tuple(f"{t.saboteur} ({t.skipped})" for t in self.tallies if t.saboteur in must and not t.tried)

    @property
    def against_empirical(self) -> tuple[str, ...]:
        """Why nothing can be certified EMPIRICAL on this, all reasons at once; empty = nothing stands in the way.

        What a deletion by provenance or by sums rests on is tried by other cheats.
        """
        if self.kind == "recommender":
            left = [tally.saboteur for tally in self.tallies if tally.saboteur in USER_METHODS and not tally.tried]
            return (f"cheats against a bank of users that were not tried: {', '.join(left)}",) if left else ()
        if self.kind != "generator":
            return ()
        if self.edits is None:
            return ("no cheat against a style was tried",)
        if self.edits.unread:
            return (f"no style can be judged here: {self.edits.unread}",)
        mine = [tally for tally in self.tallies if tally.saboteur.startswith(EDITS)]
        passed = [tally.saboteur for tally in mine if tally.passed]
        skipped = [f"{tally.saboteur} ({tally.skipped})" for tally in mine if not tally.tried]
        few = not self.edits.seeds or not self.edits.pictures
        return (
            *(("cheats against a style were tried on no picture",) if few else ()),
            *((f"cheats against a style that passed: {', '.join(passed)}",) if passed else ()),
            *((f"cheats against a style that were not tried: {', '.join(skipped)}",) if skipped else ()),
            *((f"the honest control was not believed: {self.edits.objection}",) if self.edits.objection else ()),
        )

    @property
    def sentence(self) -> str:
        """The only sentence about all of them."""
        against, what = self.against_empirical, "edit" if self.kind == "generator" else "approximate deletion"
        edits = f"; no {what} is certified: {'; '.join(against)}" if against else ""
        tried = [tally for tally in self.tallies if tally.tried]
        if self.passed:
            return f"cheats that passed: {', '.join(self.passed)}"
        if self.owed:
            return f"nothing is vouched for, these were not tried: {', '.join(self.owed)}"
        counts = ", ".join(f"{tally.saboteur} {tally.certified}/{tally.tried}" for tally in tried)
        return f"no listed cheat passed, n = {sum(tally.tried for tally in tried)}: {counts}{edits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a self-test must have been made on to vouch for a certificate. `asked`: what a text-to-image model is asked, which
    bears on certificates of edits alone."""

    policy: str
    bank: str | None
    expunge: str
    kind: str = "classifier"
    asked: str = ""


def empirical_problems(report: SelftestReport, on: Subject | None = None) -> list[str]:
    """Why nothing can be certified EMPIRICAL on this report, there; empty = nothing stands in the way."""
    asked = "" if on is None else on.asked
    other = asked and report.edits is not None and not report.edits.unread and report.edits.asked != asked
    return [
        *report.against_empirical,
        *(("cheats were tried with another battery than is asked now",) if other else ()),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestRule:
    """What a policy asks of the self-test behind a certificate; the saboteurs that must have been tried are in code.

    `max_age_days`: how old it may be when a certificate is issued. `alarm_rate`: the rate of false alarms that must not
    be exceeded demonstrably (its lower 95 % limit). `alarm_upper`: what the upper limit must not exceed; below 1 it takes
    as many placebos as that bound needs. Both limits are of the counts, exactly, over trials on different models.
    """

    max_age_days: int = 90
    alarm_rate: float = 0.05
    alarm_upper: float = 1.0

    def __post_init__(self) -> None:
        problems = [
            f"selftest.{name}: {getattr(self, name)} is outside [{low}, {high}]"
            for name, (low, high) in RULE_FLOORS.items()
            if not low <= getattr(self, name) <= high
        ]
        if problems:
            raise InputProblems("selftest rule", problems, code="policy")

    def problems(
        self, report: SelftestReport, at: datetime, on: Subject | None = None, guarantee: Guarantee | None = None
    ) -> list[str]:
        """Why this report vouches for nothing at this moment, all reasons at once; empty = it does. `guarantee`: for a
        certificate that says so; EMPIRICAL needs that the cheats which aim at it were tried, and with the same battery."""
        age = at - report.made_at
        found = []
        if age > timedelta(days=self.max_age_days) or age < -timedelta(minutes=10):
            found.append(f"it is {age.days} days old, {self.max_age_days} are allowed")
        if on is not None:
            found += [
                f"it was made on another {name}"
                for name in ("policy", "bank", "expunge", "kind")
                if getattr(report, name) != getattr(on, name)
            ]
        empirical = empirical_problems(report, on) if guarantee is Guarantee.EMPIRICAL else []
        return found + self._missing(report) + self._cheats(report) + self._alarms(report) + empirical

    def _missing(self, report: SelftestReport) -> list[str]:
        named = {tally.saboteur for tally in report.tallies}
        missing = sorted(required(report.kind) - named)
        found = [f"saboteurs that were not tried: {', '.join(missing)}"] if missing else []
        owed = self.owed(report)
        return [*found, f"saboteurs that may not be skipped: {', '.join(owed)}"] if owed else found

    def owed(self, report: SelftestReport) -> tuple[str, ...]:
        """What the report leaves owing; no policy file can excuse from it."""
        return report.owed

    def _cheats(self, report: SelftestReport) -> list[str]:
        passed = [tally.saboteur for tally in report.tallies if tally.passed and not tally.saboteur.startswith(EDITS)]
        return [f"saboteurs that were certified: {', '.join(passed)}"] if passed else []

    def _alarms(self, report: SelftestReport) -> list[str]:
        found = []
        for item in report.alarms:
            if exceeds(item.alarms, item.independent, self.alarm_rate):
                found.append(f"{item.check} raised false alarms: {item.alarms} of {item.trials} ({item.source})")
            if self.alarm_upper < 1 and may_exceed(item.alarms, item.independent, self.alarm_upper):
                found.append(f"{item.check}: the rate of false alarms is not bounded by {self.alarm_upper:g}")
        return found


RULE_FLOORS: Mapping[str, tuple[float, float]] = {
    "max_age_days": (1, 366),
    "alarm_rate": (0.0, 0.1),
    "alarm_upper": (0.001, 1.0),
}
"""(lowest, highest) that any policy may set."""
