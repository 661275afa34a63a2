"""Who of the monitored blocks sits with whom in the halves of a bank: every two of them together as often as apart.

A block of canaries changes a half-size model as a whole (two planted blocks of 20 on digits: 5 SD of each other's OUT
scores). Sides drawn by independent coins put two of them together in all of 6 pairs once in 32 banks; then the arm that
lost one block still has the other, its reference never had it, and an honest retraining looks like residue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.training.rng import derive_seed, seed_number


def balanced_sides(seed: str, pairs: int, blocks: int) -> NDArray[np.bool_]:
    """Side (False = model 2k, True = 2k + 1) of each monitored block in each pair, (pairs, blocks).

    Columns of a Sylvester-Hadamard matrix (Plackett and Burman 1946), a power of two of pairs at a time: over each such
    group any two blocks are together in exactly half of the pairs. Rows are shuffled and each is turned round by a coin
    of its own, so that one block alone is on a fair and independent side in every pair, as an ordinary block is. More
    pairs continue fewer.
    """
    size = 1 << (max(blocks, 1) - 1).bit_length()
    index = np.arange(size)
    ones = np.bitwise_count(index[:, None] & index[None, :blocks]) % 2 == 1
    groups = -(-pairs // size)
    rows = np.concatenate([_generator(seed, "group", group).permutation(size) for group in range(groups)])[:pairs]
    turned = np.array([_generator(seed, "pair", pair).integers(2) == 1 for pair in range(pairs)])
    return np.asarray(ones[rows] ^ turned[:, None], dtype=np.bool_)


def _generator(seed: str, purpose: str, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed_number(derive_seed(seed, purpose, number))))
