"""The integer Gram matrix G = X'X of histories X (U users, I items): the whole truth about a linear recommender.

Sums of products of small integers are exact, so adding and removing rows commutes, and a Gram that was downdated equals
one that was built without the user, bit for bit, or somebody made a mistake. Entries are int32; sums
with weights int64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError

Gram = NDArray[np.signedinteger[Any]]
Integer = TypeVar("Integer", bound=np.signedinteger[Any])
Rows = Any
"""(U, I) integer histories."""

PROBES = 4
_LIMIT = 2**31 - 1
_BLOCK = 1024


def gram_of(rows: Rows, entry: type[np.signedinteger[Any]] = np.int32, most: int = _LIMIT) -> Gram:
    """X'X, (I, I), in integers of the type `entry`. Raises InputError when an entry would be more than `most`."""
    largest = int((rows.multiply(rows)).sum(axis=0).max()) if rows.nnz else 0
    if largest > most:
        bits = most.bit_length() + (most == _LIMIT)
        raise InputError(f"a Gram entry does not fit in {bits} bits", expected=f"at most {most}", got=str(largest))
    gram: Gram = np.zeros((rows.shape[1],) * 2, entry)
    add_rows(gram, rows, 1)
    return gram


def add_rows(
    gram: NDArray[Integer],
    rows: Rows,
    sign: int,
    only: Iterable[int] | None = None,
    weights: NDArray[Integer] | None = None,
) -> None:
    """Add (`sign` 1) or remove (-1) the outer products of the rows, in place; d^2 operations for a row of d entries.

    `weights` (U,), whole numbers too, multiply the products; entries and weights are taken as integers of G's type.
    """
    for number in range(rows.shape[0]) if only is None else only:
        span = slice(rows.indptr[number], rows.indptr[number + 1])
        columns, values = rows.indices[span], rows.data[span].astype(gram.dtype)
        scale = sign if weights is None else sign * int(weights[number])
        gram[np.ix_(columns, columns)] += np.multiply.outer(scale * values, values)


def same_gram(gram: Gram, rows: Rows, generator: np.random.Generator, probes: int = PROBES) -> bool:
    """Is `gram` exactly X'X? Freivalds' test (1977), without building X'X: G z = X'(X z) for random integer z.

    z is uniform on [0, 2^b) with b as large as float64 keeps every sum exact (30 bits for 10,000 items and counts below
    512, 23 for 20,000 items and counts below 32,768), so a matrix that differs anywhere is believed with probability at
    most 2^-b a probe, if z is drawn after the matrix was fixed. O(I^2 + E).
    """
    if gram.shape != (rows.shape[1],) * 2:
        return False
    bits = probe_bits(gram)
    if bits < 1:
        raise InputError("Gram entries are too large for an exact probe", got=f"{bits} bits left")
    z = generator.integers(0, 2**bits, (len(gram), probes), np.int64)
    return np.array_equal(product(gram, z.astype(np.float64)).astype(np.int64), rows.T @ (rows @ z))


def probe_bits(gram: Gram) -> int:
    """b of `same_gram`: |G| z summed over I entries stays below 2^53."""
    largest = max(1, abs(int(gram.max(initial=0))), abs(int(gram.min(initial=0))))
    return 53 - largest.bit_length() - len(gram).bit_length()


def product(gram: Gram, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """G z, (I, k), a block of rows at a time, so that no float copy of G is ever whole."""
    found = np.empty((len(gram), z.shape[1]))
    for start in range(0, len(gram), _BLOCK):
        found[start : start + _BLOCK] = gram[start : start + _BLOCK].astype(np.float64) @ z
    return found


def triangle(gram: NDArray[Integer]) -> NDArray[Integer]:
    """The upper triangle with the diagonal, row by row, (I (I + 1) / 2,): what is stored and hashed."""
    return np.concatenate([gram[row, row:] for row in range(len(gram))]) if len(gram) else np.zeros(0, gram.dtype)


def from_triangle(packed: NDArray[Integer], size: int) -> NDArray[Integer]:
    """The inverse of `triangle`."""
    if packed.shape != (size * (size + 1) // 2,):
        raise InputError("not a packed Gram of this size", expected=str(size * (size + 1) // 2), got=str(packed.shape))
    gram = np.zeros((size, size), packed.dtype)
    start = 0
    for row in range(size):
        gram[row, row:] = packed[start : start + size - row]
        start += size - row
    mirror(gram)
    return gram


def mirror(matrix: NDArray[Any]) -> None:
    """Copy the upper triangle onto the lower one, in place, in blocks that fit a cache."""
    size = len(matrix)
    for first in range(0, size, _BLOCK):
        rows = slice(first, min(first + _BLOCK, size))
        for second in range(first, size, _BLOCK):
            columns = slice(second, min(second + _BLOCK, size))
            if first == second:
                block = matrix[rows, columns]
                matrix[rows, columns] = np.triu(block) + np.triu(block, 1).T
            else:
                matrix[columns, rows] = matrix[rows, columns].T
