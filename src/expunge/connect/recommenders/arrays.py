"""Weights under our own names, for tools that have no reader here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from expunge.connect.recommenders._arrays import Array, names_in, npy, npz, safetensors
from expunge.connect.recommenders._files import only, opened, starts_with
from expunge.connect.recommenders._linear import ForeignLinear, linear
from expunge.core.errors import InputProblems

_WEIGHTS = ("weights", "B", "item_similarity")
_LAMBDA = ("lambda", "lam", "regularisation", "regularization", "reg_weight")
_COUNTS = ("item_counts", "counts")
_ITEMS = ("items", "item_ids")
_T = TypeVar("_T")
_ALL = (*_WEIGHTS, *_LAMBDA, *_COUNTS, *_ITEMS)


class Arrays:
    """One npz with `weights` or `B` (I, I) and, if known, `lambda`, `item_counts` (I,) and `items` (I,) strings or
    whole numbers; one npy with B alone; or one safetensors file with the same names, `lambda` as a tensor or in the
    metadata and `items` in the metadata as a JSON list."""

    layout: str = "one npz or safetensors with weights or B (I, I)[, lambda, item_counts, items], or one npy of B"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the names of the arrays, and npy and safetensors by their first bytes."""
        if len(files) != 1:
            return False
        start = starts_with(files[0], 4096)
        tensors = files[0].suffix == ".safetensors" and any(f'"{name}"'.encode() in start for name in _WEIGHTS)
        return start[:6] == b"\x93NUMPY" or tensors or not names_in(files[0]).isdisjoint(_WEIGHTS)

    def read(self, files: tuple[Path, ...]) -> ForeignLinear:
        """The arrays as they are."""
        path = only(files, self.layout)
        start = starts_with(path, 6)
        if start == b"\x93NUMPY":
            return linear("npy", weights=npy(path))
        if start[:2] == b"PK":
            return _named("npz", npz(path, _ALL), {})
        found, metadata = safetensors(path)
        with opened(path, "a safetensors file"):
            return _named("safetensors", found, {key: value for key, value in metadata.items() if key in _ALL})


def _named(source: str, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> ForeignLinear:
    problems: list[str] = []
    for names in (_WEIGHTS, _LAMBDA, _COUNTS, _ITEMS):
        given = [name for name in names if name in arrays or name in metadata]
        if len(given) > 1:
            problems.append(f"{' and '.join(given)} are given: one of them expected")
    if not any(name in arrays for name in _WEIGHTS):
        problems.append(f"one of {', '.join(_WEIGHTS)} expected, got {', '.join(sorted(arrays))[:100] or 'nothing'}")
    if problems:
        raise InputProblems(source, problems)
    return linear(
        source,
        weights=_first(arrays, _WEIGHTS),
        regularisation=_number(_first(arrays, _LAMBDA), _first(metadata, _LAMBDA)),
        items=_ids(_first(arrays, _ITEMS), _first(metadata, _ITEMS)),
        item_counts=_first(arrays, _COUNTS),
    )


def _first(held: Mapping[str, _T], names: tuple[str, ...]) -> _T | None:
    return next((held[name] for name in names if name in held), None)


def _number(array: Array | None, text: str | None) -> float | None:
    if array is not None and (array.size != 1 or array.dtype.kind not in "iuf"):
        raise InputProblems("lambda", ["one number expected"])
    try:
        return float(array.reshape(())) if array is not None else None if text is None else float(text)
    except ValueError as error:
        raise InputProblems("lambda", [f"a number expected, got {str(text)[:40]!r}"]) from error


def _ids(array: Array | None, text: str | None) -> list[str] | None:
    if array is None and text is None:
        return None
    try:
        found = json.loads(text) if text is not None else None if array is None else _listed(array)
    except (ValueError, RecursionError) as error:
        raise InputProblems("items", [str(error)[:100]]) from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InputProblems("items", ["a list of strings expected"])
    return found


def _listed(array: Array) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise ValueError(f"one string or whole number an item expected, got {array.dtype} {array.shape}")
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in array.tolist()]
