"""A prepared digits workspace, and the proof that a refused input changed nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge.core.codec import canonical
from expunge.evidence.merkle import leaf_hash, root_of

PAIRS, ANCHORS = 8, 4


def small_config(**bank: object) -> dict[str, object]:
    return {
        "data": {"source": "digits", "options": {"canaries": 20, "surrogates": 20}},
        "bank": {"pairs": PAIRS, "anchors": ANCHORS, "monitored": ("surrogate", "canary"), **bank},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "owner": {"name": "test owner"},
        "compute": {"executor": "inline"},
    }


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
