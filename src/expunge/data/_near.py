"""Is it the same picture? A perceptual hash and an embedding, compared over the views that an edit could have left.

The search is one pass over all N records for every wanted one: 63-bit hashes of all its views against all hashes, then
embeddings of the few that are left. Views (shifts, crops, zooms, each mirrored or not) are made of the wanted record
only, so the index stays one hash and one vector a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]
Embed = Callable[[Images], Floats]

PIXELS = "pixels"  # the embedding that every source has
PLAIN = 2  # the first two views are the record itself and its mirror image
_SIDE = 8  # lowest frequencies in either direction
_THUMB = 16  # pixels
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SHIFTS = tuple(step / 32 for step in (0, -2, -1, 1, 2))
_CROP, _ZOOM, _STEPS = 0.9, 1.1, 5
_CHUNK = 5_000  # pictures at once, so that 50,000 need no gigabyte


def luminance(images: Images) -> Floats:
    """(N, H, W) of (N, H, W, C): the weighted sum of three colours, the mean of any other number of channels."""
    pixels = images.astype(np.float32)
    return np.asarray(pixels @ _LUMINANCE if images.shape[3] == 3 else pixels.mean(3), np.float32)


def perceptual_hash(images: Images) -> Hashes:
    """63 bits a picture: which of the 63 lowest frequencies of its luminance lie above their median (DCT hash as in
    Zauner 2010, section 3.2.1, on the pictures as they are: nothing is resized). The mean grey is left out, so that
    brightness plays no part. A picture without any contrast hashes to 0."""
    grey = luminance(images)
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :_SIDE, :_SIDE].reshape(len(grey), -1)[:, 1:]
    bits = low > np.median(low, axis=1, keepdims=True)
    bits[np.ptp(grey, axis=(1, 2)) == 0] = False
    padded = np.pad(bits, ((0, 0), (0, 64 - bits.shape[1])))
    return np.packbits(padded, axis=1).view(np.uint64).ravel()


def thumbnails(images: Images) -> Floats:
    """(N, F) unit vectors: luminance at 16x16 or smaller, less its mean; their inner product is a correlation."""
    grey = luminance(images)
    step = max(1, grey.shape[1] // _THUMB)
    height, width = grey.shape[1] // step, grey.shape[2] // step
    small = grey[:, : height * step, : width * step].reshape(len(grey), height, step, width, step).mean((2, 4))
    return unit(small.reshape(len(grey), -1) - small.mean((1, 2))[:, None])


def unit(vectors: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays zero and is like nothing."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(norms > 1e-6, vectors / np.maximum(norms, 1e-6), 0), np.float32)


# --------------------------------------------------------------------------------------------------------------- views


def views(image: Images) -> Images:
    """(V, H, W, C) of one (H, W, C): itself, its mirror, then shifts by up to 1/16, crops to 90 % and zooms to 110 %."""
    down, right = _windows(image.shape[0]), _windows(image.shape[1])
    picked = np.array(_picks())
    pixels = image.astype(np.float32)
    moved = np.einsum("vij,jkc,vlk->vilc", down[picked[:, 0]], pixels, right[picked[:, 1]], optimize=True)
    both = np.stack([moved, moved[:, :, ::-1]], axis=1)  # (V/2, mirror, H, W, C)
    return np.asarray(np.clip(np.rint(both), 0, 255).reshape(-1, *image.shape), np.uint8)


@cache
def _offsets() -> tuple[tuple[float, float], ...]:
    """(start, length) of the windows of one axis, as shares of its length."""
    scaled = [(step * (1 - length) / (_STEPS - 1), length) for length in (_CROP, _ZOOM) for step in range(_STEPS)]
    return (*((shift, 1.0) for shift in _SHIFTS), *scaled)


@cache
def _picks() -> tuple[tuple[int, int], ...]:
    """Pairs of windows with the same length on both axes."""
    lengths = [length for _, length in _offsets()]
    return tuple((i, j) for i, j in product(range(len(lengths)), repeat=2) if lengths[i] == lengths[j])


@cache
def _windows(side: int) -> Floats:
    """(windows, side, side): linear interpolation at the pixels of each window; the edge goes on beyond the picture."""
    matrices = np.zeros((len(_offsets()), side, side), np.float32)
    for matrix, (start, length) in zip(matrices, _offsets(), strict=True):
        at = np.clip((np.arange(side) + 0.5) * length + start * side - 0.5, 0, side - 1)
        low = np.minimum(at.astype(int), side - 2)
        matrix[np.arange(side), low] = 1 - (at - low)
        matrix[np.arange(side), low + 1] += at - low
    return matrices


# -------------------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When two records count as one picture: two detectors agree, or one is beyond its strict threshold.

    The hash agrees at up to `hash_agree` differing bits, an embedding at a cosine of at least agree[name]; alone they
    decide at `hash_alone` bits, or at alone[name] for those embeddings that have one.
    """

    hash_agree: int
    hash_alone: int
    agree: Mapping[str, float]
    alone: Mapping[str, float]

    def holds(self, bits: NDArray[np.integer], cosines: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """Elementwise over pairs: bits (n,), cosines name -> (n,)."""
        votes = (bits <= self.hash_agree).astype(int)
        found = np.asarray(bits <= self.hash_alone)
        for name, values in cosines.items():
            votes += values >= self.agree[name]
            found = found | (values >= self.alone.get(name, np.inf))
        return np.asarray(found | (votes >= 2))


@dataclass(frozen=True, kw_only=True)
class Index:
    """hashes (N,) uint64; embeddings name -> (N, F) unit rows; present (N,) bool: the rows that may be found."""

    hashes: Hashes
    embeddings: Mapping[str, Floats]
    present: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One record to look for: hashes (V,) of its views, embeddings name -> (E, F) of all views or of the first two."""

    hashes: Hashes
    embeddings: Mapping[str, Floats]


def wanted(image: Images, embed: Mapping[str, Embed]) -> Wanted:
    """One record (H, W, C) ready to be looked for: `pixels` over all views, every other embedding over the plain ones,
    because it costs a forward pass a view and a trained model hardly sees the difference."""
    seen = views(image)
    return Wanted(
        hashes=np.unique(perceptual_hash(seen)),
        embeddings={name: of(seen if name == PIXELS else seen[:PLAIN]) for name, of in embed.items()},
    )


def indexed(images: Images, embed: Mapping[str, Embed]) -> Index:
    """The index of (N, H, W, C), all present."""
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    return Index(
        hashes=np.concatenate([perceptual_hash(chunk) for chunk in chunks]),
        embeddings={name: np.concatenate([of(chunk) for chunk in chunks]) for name, of in embed.items()},
        present=np.ones(len(images), bool),
    )


def matches(index: Index, one: Wanted, rule: Rule) -> NDArray[np.int64]:
    """Rows of the index that are the same picture, ascending. N hash comparisons a view, N inner products a plain view;
    the other views' inner products only where the hash is near or the plain views are."""
    bits = distance(index.hashes, one)
    near = bits <= rule.hash_agree
    for name, table in index.embeddings.items():
        near |= (table @ one.embeddings[name][:PLAIN].T).max(1) >= rule.agree[name]
    rows = np.flatnonzero(index.present & near)
    cosines = {name: _nearest(table[rows], one.embeddings[name]) for name, table in index.embeddings.items()}
    return rows[rule.holds(bits[rows], cosines)]


def _nearest(rows: Floats, queries: Floats) -> Floats:
    return np.asarray((rows @ queries.T).max(1, initial=-1.0), np.float32)


def distance(hashes: Hashes, one: Wanted) -> NDArray[np.uint8]:
    """(N,) bits in which each hash differs from the nearest view."""
    nearest = np.full(len(hashes), 64, np.uint8)
    for view in one.hashes:
        np.minimum(nearest, np.bitwise_count(hashes ^ view), out=nearest)
    return nearest
