"""Deletion canaries: real records with a wrong label, each kept or withheld by a fair coin that only the key knows.

Heads are trained on, and deleted as one block; tails are never trained on. Whatever tells the two apart after the
deletion is what the deletion left behind.
"""

from __future__ import annotations

import hmac

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, InputError
from expunge.data._records import CoinRecords, ImageRecords

BLOCK = "coins"
LARGEST_SHARE = 0.2  # of the eligible records: beyond it the wrong labels change what the others learn
_KEY_BYTES = 16


def check_coin_options(coins: int, key: str | None) -> None:
    """`coins` is 0 (none) or at least 2, and then `key` is hex of at least 16 bytes. Raises InputError."""
    if not (coins == 0 or coins >= 2):
        raise InputError("coins out of range", expected="0, or 2 and more", got=str(coins))
    if coins:
        _key(key)


def plant_coins(
    records: ImageRecords, *, coins: int, key: str | None, classes: int
) -> tuple[ImageRecords, CoinRecords | None]:
    """The training records with `coins` canaries planted among them, and the canaries; (records, None) for 0.

    Three independent keyed draws a record: which are chosen, on which side its coin falls, which wrong label it gets.
    A head stays in its place, with its own id and pixels, in the block `coins`; a tail leaves the training records.
    A wrong label on a real picture is what label noise looks like, and a model can know it only by memorising.
    Nothing of another record is mixed in, so deleting the block deletes all there is. Records that already share a
    block are not chosen. Raises DataError where more than a fifth of the rest would be needed.
    """
    if coins == 0:
        return records, None
    secret = _key(key)
    alone = [slot for slot, name in enumerate(records.ids) if records.blocks[slot] == name]
    if coins > LARGEST_SHARE * len(alone):
        raise DataError(
            "too many coins for this data set",
            expected=f"at most {int(LARGEST_SHARE * len(alone))} (a fifth of {len(alone)} records)",
            got=str(coins),
        )
    drawn = {slot: _draws(secret, records.ids[slot]) for slot in alone}
    chosen = np.array(sorted(sorted(alone, key=lambda slot: drawn[slot][0])[:coins]), np.int64)
    heads = np.array([bool(drawn[slot][1] & 1) for slot in chosen.tolist()])
    shift = np.array([1 + drawn[slot][2] % (classes - 1) for slot in chosen.tolist()], np.int64)
    wrong = (records.labels[chosen] + shift) % classes
    return _planted(records, chosen, heads, wrong), CoinRecords(
        ids=tuple(records.ids[slot] for slot in chosen),
        images=np.ascontiguousarray(records.images[chosen]),
        labels=wrong,
        trained=heads,
    )


def _planted(
    records: ImageRecords, chosen: NDArray[np.int64], heads: NDArray[np.bool_], wrong: NDArray[np.int64]
) -> ImageRecords:
    labels, blocks = records.labels.copy(), list(records.blocks)
    labels[chosen] = wrong
    for slot in chosen.tolist():
        blocks[slot] = BLOCK
    tails = set(chosen[~heads].tolist())
    kept = [slot for slot in range(len(records)) if slot not in tails]
    return ImageRecords(
        ids=tuple(records.ids[slot] for slot in kept),
        images=np.ascontiguousarray(records.images[kept]),
        labels=labels[kept],
        blocks=tuple(blocks[slot] for slot in kept),
    )


def _draws(secret: bytes, name: str) -> tuple[int, int, int]:
    """Place in the order, coin, and label of one record: three independent 64-bit numbers."""
    block = hmac.digest(secret, b"expunge/coins/v1|" + name.encode(), "sha256")
    return (
        int.from_bytes(block[:8], "big"),
        int.from_bytes(block[8:16], "big"),
        int.from_bytes(block[16:24], "big"),
    )


def _key(key: str | None) -> bytes:
    try:
        secret = bytes.fromhex(key or "")
    except (ValueError, TypeError) as error:
        raise InputError("coins_key is not hex", expected="64 hex digits, kept secret") from error
    if len(secret) < _KEY_BYTES:
        raise InputError(
            "coins need a secret coins_key", expected="64 hex digits", got=f"{2 * len(secret)} digits",
            hint="leave it out of `expunge init` and it is drawn",
        )  # fmt: skip
    return secret
