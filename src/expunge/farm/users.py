"""Users' histories in a bank's folder, as the workspace has them: what was deleted of a source is not opened again.

A source still holds events that were deleted, and only the workspace's keys say which, so that workers cannot cut them.
The file is personal data like the bank beside it, and is written anew whenever somebody is erased.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core.codec import canonical, loads
from expunge.data._interactions import Histories, Interactions
from expunge.evidence.durable import write_file

FILE, NAMES = "histories.npz", "histories.json"
_ARRAYS = ("indptr", "indices", "values", "times")


def save_users(folder: Path, data: Interactions) -> None:
    """Histories of training and test users, 0600. Ids of training users are in `slots.json` beside them."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {}
    for name, part in (("train", data.train), ("test", data.test)):
        found = {key: getattr(part, key) for key in _ARRAYS}
        arrays |= {f"{name}_{key}": array for key, array in found.items() if array is not None}
    np.savez(buffer, **arrays)
    write_file(folder / FILE, buffer.getvalue(), mode=0o600)
    plain = {
        "source": data.source,
        "note": data.note,
        "scale": data.scale,
        "items": list(data.items),
        "test": list(data.test.ids),
    }
    write_file(folder / NAMES, canonical(plain), mode=0o600)


def read_users(folder: Path, ids: list[str | None], blocks: list[str]) -> Interactions | None:
    """What was saved, with these ids and blocks of the training users; None where a bank is not of users."""
    if not (folder / FILE).exists():
        return None
    names: Any = loads((folder / NAMES).read_bytes(), what=NAMES)
    with np.load(folder / FILE, allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays.files}

    def part(name: str, its: list[str | None], whose: list[str]) -> Histories:
        found: dict[str, Any] = {key: held.get(f"{name}_{key}") for key in _ARRAYS}
        return Histories(ids=tuple(its), blocks=tuple(whose), items=tuple(names["items"]), **found)

    return Interactions(
        source=names["source"],
        note=names["note"],
        scale=names["scale"],
        train=part("train", ids, blocks),
        test=part("test", names["test"], names["test"]),
    )


def digest_of_test(data: Interactions) -> str:
    """`sha256:` over the test users' histories: an answer about them is comparable only while these are the same."""
    found = hashlib.sha256(b"expunge/bank-test-users/v1")
    for slot in range(len(data.test)):
        found.update(data.test.content_digest(slot).encode())
    return "sha256:" + found.hexdigest()
