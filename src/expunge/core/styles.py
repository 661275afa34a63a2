"""What may be said about an erased style, in one word. The ladder goes up; a rung is taken only when all below it hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class StyleRung(StrEnum):
    """The verdict on a style."""

    NOT_LEARNED = "NOT-LEARNED"
    """The untouched model does not draw the style when it is asked to: nothing was edited."""
    NOT_ERASED = "NOT-ERASED"
    """The style still comes by its name."""
    NOT_SHOWN = "NOT-SHOWN"
    """Too few pictures to say that the style does not come by its name, or what came are none (black, noise, copies), or others
    were harmed, or may have been, beyond what is allowed."""
    SUPPRESSED = "SUPPRESSED"
    """Prompts no longer bring the style, and someone who has a few of the artist's pictures gets it back, or could not be
    shown not to."""
    INDISTINGUISHABLE = "INDISTINGUISHABLE-FROM-CONTROL"
    """Every attack that sees anything brings it back no more often than styles that no training saw."""
    EXACT = "EXACT"
    """The weights are those of a training without the artist; rests on provenance, not on pictures."""


SENTENCES = {
    StyleRung.NOT_LEARNED: "The model was asked for the style and did not draw it more often than it is seen by mistake; "
    "nothing was changed.",
    StyleRung.NOT_ERASED: "The style was not erased.",
    StyleRung.NOT_SHOWN: "It was not shown that the style is erased and that everybody else's is still there.",
    StyleRung.SUPPRESSED: "The style is suppressed, not removed: its name no longer brings it, and the weights may still hold "
    "it. Whoever trains on a few of the works may get it back.",
    StyleRung.INDISTINGUISHABLE: "With the attacks and budgets listed, the style came back no more often than styles that the "
    "model never saw, within the margin stated. Other attacks were not tested; this is not a proof of absence.",
    StyleRung.EXACT: "The weights are those of a training without the artist's works, as logged by the owner.",
}
"""What a certificate may say, and no more."""


SCALE = "procedural styles of invented artists at 32x32, judged by networks of expunge's own"
"""On what all that is said of the artists of the source `artist_styles` was measured; of declared ones their roster says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSight:
    """How well one judge sees, each as (hits, n). held_out: styles told right in its record, over all styles, None = it has none;
    own: works of the artist that it recognises; others: works of others that it takes for this style. `blind`: why its silence
    about this style says nothing, empty = it sees."""

    judge: str
    held_out: tuple[int, int] | None
    own: tuple[int, int]
    others: tuple[int, int]
    blind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleEvidence:
    """What was drawn and seen, before anybody concludes. Workflow measures, checks judge.

    `arms`: probe -> hits of the style on original and candidate and of the control styles on the candidate
    (stats.styles.Arms). `kept`: other artists' styles before and after (stats.style_collateral.Kept). `mistakes`: share of
    pictures that the judges take for the style and that are not. `plan`: digest of the battery as it was fixed. `scale`: on
    what all this was measured. `unread`: why nothing could be asked. `figures`: what the eraser said of its edit before
    anything was drawn; they decide nothing. `judges`: how well each of them sees this style.
    `further`: where several artists go at once, the same of each other one by a battery of their own; `kept` is in the first's.
    """

    arms: Mapping[str, Any] = field(default_factory=dict)
    kept: tuple[Any, ...] = ()
    mistakes: float = 0.0
    plan: str = ""
    scale: str = ""
    unread: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    judges: tuple[JudgeSight, ...] = ()
    further: tuple[StyleEvidence, ...] = ()
