"""Data sets as bytes for another process of ours: safetensors, with everything that is no array in one JSON tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from expunge.core.codec import canonical, loads
from expunge.data._records import CoinRecords, Dataset, ImageRecords

_BOOK = "book"
_PARTS = {"train": ImageRecords, "test": ImageRecords, "coins": CoinRecords}


def packed(found: Mapping[bytes, Dataset]) -> bytes:
    """Data sets by key."""
    tensors: dict[str, Any] = {}
    book = []
    for number, (key, data) in enumerate(found.items()):
        words: dict[str, Any] = {"key": key.decode(), **{f: getattr(data, f) for f in ("source", "note", "classes")}}
        for part in _PARTS:
            fields = {} if getattr(data, part) is None else _fields(getattr(data, part))
            arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
            tensors |= {f"{number}.{part}.{name}": np.ascontiguousarray(value) for name, value in arrays.items()}
            words[part] = {name: value for name, value in fields.items() if name not in arrays}
        book.append(words)
    tensors[_BOOK] = np.frombuffer(canonical(book), np.uint8)
    whole: bytes = save(tensors)
    return whole


def unpacked(data: bytes) -> dict[bytes, Dataset]:
    """The inverse of `packed`."""
    tensors = load(data)
    found = {}
    for number, words in enumerate(loads(tensors[_BOOK].tobytes(), what="shared data")):
        parts: dict[str, Any] = {}
        for part, kind in _PARTS.items():
            start = f"{number}.{part}."
            arrays = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
            plain = {name: tuple(value) for name, value in words[part].items()}
            parts[part] = kind(**arrays, **plain) if arrays else None
        found[words["key"].encode()] = Dataset(
            source=words["source"], note=words["note"], classes=tuple(words["classes"]), **parts
        )
    return found


def _fields(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.__dataclass_fields__}
