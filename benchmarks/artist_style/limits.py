"""What is saved beside a pilot row's word: the limits that it rests on, and what the edit cost of a retraining."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from expunge.stats.styles import Answer

TIMES = ("cpu_seconds_of_the_last_part", "seconds_of_the_last_part")
"""What a training may have been timed by, the better one first: older records have the clock's seconds and no processor's."""


def limits_of(answers: Iterable[Answer]) -> dict[str, dict[str, float]]:
    """Of each probe that was judged: `share_at_most` of prompts (the candidate); of attacks `left_at_most` (candidate minus
    controls) and `seen_at_least` (original minus controls). One-sided, at the verdict's level."""
    found = {}
    for answer in answers:
        limits = {
            "share_at_most": answer.at_most,
            "left_at_most": answer.left and answer.left.high,
            "seen_at_least": answer.seen and answer.seen.low,
        }
        found[answer.label] = {name: limit for name, limit in limits.items() if limit is not None}
    return found


def fraction_of_retrain(cpu_seconds: float, gold: Path) -> dict[str, Any]:
    """Processor seconds of an edit over those of the gold's training, from the record beside the gold's directory, and which of
    its times that was. Empty where nothing is published."""
    record = gold.parent / f"{gold.name}.json"
    if not record.exists():
        return {}
    made = json.loads(record.read_text())
    timed = next(name for name in TIMES if name in made)
    return {"fraction_of_retrain": cpu_seconds / made[timed], "retrain_timed_by": timed, "retrain_seconds": made[timed]}
