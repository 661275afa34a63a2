"""A prepared digits workspace, and the proof that a refused input changed nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import canonical
from expunge.evidence.merkle import leaf_hash, root_of

if TYPE_CHECKING:
    from expunge import Workspace

PAIRS, ANCHORS = 8, 4


def small_config(**bank: object) -> dict[str, object]:
    return {
        "data": {"source": "digits", "options": {"canaries": 20, "surrogates": 20}},
        "bank": {"pairs": PAIRS, "anchors": ANCHORS, "monitored": ("surrogate", "canary"), **bank},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "owner": {"name": "test owner"},
        "compute": {"executor": "inline"},
    }


def vouch_for(workspace: Workspace) -> None:
    """A recorded self-test that vouches for the workspace as it is now; nothing is tried. For tests of something else."""
    from evidence.story import selftest
    from expunge.workflow.selftest.gate import record, subject_of

    on, now = subject_of(workspace), datetime.now(UTC).replace(microsecond=0)
    report = selftest(made_at=now, policy=on.policy, bank=on.bank, expunge=on.expunge, kind=on.kind)
    record(workspace, replace(report, edits=report.edits and replace(report.edits, asked=on.asked)))


def change_policy(folder: Path, old: str, new: str) -> None:
    """Another policy, with a self-test that was made under it."""
    from expunge import Workspace

    file = folder / "policy.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with Workspace.open(folder) as workspace:
        vouch_for(workspace)


@contextmanager
def nothing_changed(folder: Path) -> Iterator[None]:
    """The log and the served model are, after the block, byte for byte what they were."""
    before = _fingerprint(folder)
    yield
    assert _fingerprint(folder) == before


def _fingerprint(folder: Path) -> tuple[int, bytes, str | None, bytes]:
    """Size and root of the log, the model it says is served, and the model's file."""
    with sqlite3.connect(f"file:{folder / 'log.db'}?mode=ro", uri=True) as db:
        bodies = [json.loads(body) for (body,) in db.execute("SELECT body FROM entry ORDER BY i")]
    root = root_of([leaf_hash(canonical(body)) for body in bodies])
    models = [body["payload"]["model"] for body in bodies if body["kind"] in ("model.trained", "model.released")]
    weights = folder / "store" / "runs" / "original" / "model.safetensors"
    return len(bodies), root, models[-1] if models else None, weights.read_bytes()
