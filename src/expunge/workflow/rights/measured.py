"""From what the rest of the house measures to the facts of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from expunge.core.errors import CheckBroken
from expunge.data.opt_out.signals import Signals
from expunge.workflow.rights.facts import Harm, Learned, OptOut

if TYPE_CHECKING:
    from expunge.stats.style_collateral import Collateral
    from expunge.stats.styles import Answer


def opt_out_of(present: Iterable[str], signals: Mapping[str, Signals]) -> OptOut:
    """Of the works that were found in the data (by record id): how many were reserved when they were fetched, and of how many
    nobody knows, because nothing or no time was recorded."""
    said = [signals[record].reserved_at_crawl() if record in signals else None for record in present]
    return OptOut(reserved=said.count(True), unknown=said.count(None))


def learned_of(answer: Answer) -> Learned:
    """The battery's first answer (`stats.styles.not_learned`)."""
    if answer.label != "not_learned" or answer.rate is None or answer.at_most is None:
        raise CheckBroken("not the answer whether the style was learned", got=answer.label)
    return Learned(verdict=answer.verdict, rate=answer.rate, at_most=answer.at_most)


def harm_of(collateral: Collateral, shift: float | None = None) -> Harm:
    """What an edit that was tried on a copy did to others (`stats.style_collateral`)."""
    return Harm(at_most=collateral.lost, neighbours=len(collateral.styles), shift=shift)
