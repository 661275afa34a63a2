"""Cross-attention keys and values in a safetensors file: found by name, edited one at a time, the model never built."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.durable import storage_errors
from expunge.evidence.tensors import Span, layout_of

KEYS_AND_VALUES = re.compile(r"(?:^|\.)attn2\.to_[kv]\.weight\Z")
_JOINT = re.compile(r"(?:^|\.)(?:attn\.add_[kq]_proj|single_transformer_blocks\.|joint_blocks\.|double_blocks\.)")
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """`names` of the tensors that were changed, in file order, and how many weights they hold."""

    names: tuple[str, ...]
    weights: int


def kv_tensors(path: Path, width: int | None = None) -> tuple[Span, ...]:
    """The keys and values of the text cross-attention (`attn2`) of a UNet in the diffusers layout, (out, width) each.

    Raises InputError where there are none, by name for transformers without `attn2` (MMDiT: SD 3, Flux), which would be
    left untouched; on another width than the embeddings'; on a type that is no float. IntegrityError on a damaged file.
    """
    spans = layout_of(path)
    found = tuple(span for span in spans if KEYS_AND_VALUES.search(span.name))
    if not found:
        joint = next((span.name for span in spans if _JOINT.search(span.name)), None)
        kind = (
            f"a joint transformer ({joint}), which has no cross-attention to edit" if joint else "no attn2.to_k or to_v"
        )
        raise InputError(
            f"{path.name} holds nothing to edit: {kind}",
            expected="a UNet in the diffusers layout",
            code="no-cross-attention",
        )
    odd = [
        span
        for span in found
        if len(span.shape) != 2 or span.dtype not in _TYPES or span.shape[1] != (width or span.shape[1])
    ]
    if odd:
        got = f"{odd[0].name}: {odd[0].dtype} {odd[0].shape}"
        raise InputError("keys and values of another form", expected=f"(out, {width or 'width'}) floats", got=got)
    return found


def edit_file(source: Path, out: Path, factor: NDArray[np.float64]) -> Edited:
    """A copy of `source` whose keys and values W are W R; every other byte as it was.

    One tensor is in memory at a time, W R in float32 (float64 for float64 weights). A failed edit leaves no file. Raises
    InputError and IntegrityError as `kv_tensors`, and on weights that are not finite before or after.
    """
    if out.exists():
        raise InputError(
            "the edited file exists already", got=str(out), hint="choose another name; nothing is overwritten"
        )
    spans = kv_tensors(source, len(factor))
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with storage_errors(out, "write"):
            shutil.copyfile(source, unfinished)
            with unfinished.open("r+b") as file:
                for span, edited in _edited(source, spans, factor):
                    file.seek(span.begin)
                    file.write(edited)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    return Edited(
        names=tuple(span.name for span in spans), weights=sum(span.shape[0] * span.shape[1] for span in spans)
    )


def patch_file(source: Path, out: Path, factor: NDArray[np.float64]) -> Edited:
    """The edited keys and values alone, as a small safetensors file: 77 MB for a model of 3.4 GB. Like `edit_file`."""
    if out.exists():
        raise InputError("the patch exists already", got=str(out), hint="choose another name; nothing is overwritten")
    spans = kv_tensors(source, len(factor))
    header, at = {}, 0
    for span in spans:
        size = span.end - span.begin
        header[span.name] = {"dtype": span.dtype, "shape": list(span.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with storage_errors(out, "write"), unfinished.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for _, edited in _edited(source, spans, factor):
                file.write(edited)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    return Edited(
        names=tuple(span.name for span in spans), weights=sum(span.shape[0] * span.shape[1] for span in spans)
    )


def _edited(source: Path, spans: Sequence[Span], factor: NDArray[np.float64]) -> Iterator[tuple[Span, bytes]]:
    single = factor.astype(np.float32)
    with source.open("rb") as file:
        for span in spans:
            file.seek(span.begin)
            old = _floats(file.read(span.end - span.begin), span)
            with np.errstate(invalid="ignore", over="ignore"):  # seen below, and refused
                new = old @ (factor if old.dtype == np.float64 else single)
            finite = bool(np.isfinite(old).all() and np.isfinite(new).all())
            raw = _stored(new, span) if finite else b""
            if not finite or not np.isfinite(_floats(raw, span)).all():
                raise IntegrityError(
                    f"{span.name} is not finite", hint="smaller scales, or another file: nothing was written"
                )
            yield span, raw


def _floats(raw: bytes, span: Span) -> NDArray[Any]:
    """(out, width) float64 for F64, float32 for all others; bfloat16 is the upper half of a float32."""
    if span.dtype == "BF16":
        whole = np.frombuffer(raw, "<u2").astype("<u4") << 16
        return whole.view("<f4").reshape(span.shape)
    found = np.frombuffer(raw, _TYPES[span.dtype])
    return found.astype(np.float64 if span.dtype == "F64" else np.float32).reshape(span.shape)


def _stored(values: NDArray[Any], span: Span) -> bytes:
    """In the file's own type, rounded to the nearest, ties to even."""
    if span.dtype == "BF16":
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        stored = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    else:
        with np.errstate(over="ignore"):  # what leaves the type is seen and refused
            stored = values.astype(_TYPES[span.dtype])
    raw: bytes = stored.tobytes()
    return raw


def changed_tensors(first: Path, second: Path) -> tuple[str, ...]:
    """Names of tensors whose bytes differ, in file order. Raises InputError on files of other tensors."""
    ours, theirs = layout_of(first), layout_of(second)
    if [(span.name, span.dtype, span.shape) for span in ours] != [
        (span.name, span.dtype, span.shape) for span in theirs
    ]:
        raise InputError("the files do not hold the same tensors", hint="a removed or renamed tensor is no edit")
    maps = [np.memmap(path, np.uint8, "r") for path in (first, second)]
    return tuple(
        mine.name
        for mine, other in zip(ours, theirs, strict=True)
        if not _same(maps[0][mine.begin : mine.end], maps[1][other.begin : other.end])
    )


def _same(first: NDArray[np.uint8], second: NDArray[np.uint8], block: int = 1 << 24) -> bool:
    return all(np.array_equal(first[at : at + block], second[at : at + block]) for at in range(0, len(first), block))
