"""scikit-learn's digits: 1,797 real 8x8 handwritten digits that come with the package; no download."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.data._coins import check_coin_options, plant_coins
from expunge.data._records import Dataset, ImageRecords, check_records


class Digits:
    """UCI optical digits test set as shipped in scikit-learn (Alpaydin and Kaynak 1998), pixels scaled to 0..255.

    Every fifth record is the test split. `canaries` of the training records are given a wrong label and put into the
    block `canary`: they are what a model can only know by memorising, which is ground truth for the verifier.
    `surrogates` further ones make the block `surrogate`, on which the self-test tries its cheats.
    Options: canaries (default 20; 0 to 200), canary_blocks (default 1), surrogates (default 0; 0 to 200), coins (default
    0; canaries whose presence a secret coin decides, heads in the block `coins`) and coins_key (hex).
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        canaries: int = 20,
        canary_blocks: int = 1,
        surrogates: int = 0,
        coins: int = 0,
        coins_key: str | None = None,
    ) -> None:
        if path is not None:
            raise InputError("digits are embedded and take no path", got=path)
        if not 0 <= canaries <= 200 or not 1 <= canary_blocks <= 10:
            raise InputError(
                "canaries out of range", expected="0..200 in 1..10 blocks", got=f"{canaries}, {canary_blocks}"
            )
        if not 0 <= surrogates <= 200:
            raise InputError("surrogates out of range", expected="0..200", got=str(surrogates))
        check_coin_options(coins, coins_key)
        self.surrogates, self.coins, self.coins_key = surrogates, coins, coins_key
        self.canaries = canaries
        self.canary_blocks = canary_blocks

    def open(self) -> Dataset:
        """The data set; the same bytes every time."""
        from sklearn.datasets import load_digits

        bunch: Any = load_digits()
        images = (bunch.images * 255.0 / 16.0).round().astype(np.uint8)[..., None]
        labels = bunch.target.astype(np.int64)
        rows = np.arange(len(labels))
        test = rows % 5 == 4
        train = self._plant(_records("train", rows[~test], images, labels))
        train = self._plant_surrogates(train)
        train, coins = plant_coins(train, coins=self.coins, key=self.coins_key, classes=10)
        return Dataset(
            source="digits",
            note=self._note(),
            classes=tuple(str(k) for k in range(10)),
            train=check_records(train, 10, "digits train"),
            test=check_records(_records("test", rows[test], images, labels), 10, "digits test"),
            coins=coins,
        )

    def _note(self) -> str:
        planted = [f"{self.canaries} planted canaries"] if self.canaries else []
        planted += [f"{self.coins} coins"] if self.coins else []
        return "scikit-learn digits (8x8)" + (f" with {' and '.join(planted)}" if planted else "")

    def _plant(self, records: ImageRecords) -> ImageRecords:
        """Mislabel every (N/canaries)-th record: label + 1 + slot mod 9, never the true one."""
        if self.canaries == 0:
            return records
        chosen = np.linspace(7, len(records) - 7, self.canaries).round().astype(int)
        labels = records.labels.copy()
        ids, blocks = list(records.ids), list(records.blocks)
        for number, slot in enumerate(chosen):
            labels[slot] = (labels[slot] + 1 + slot % 9) % 10
            ids[slot] = f"train/canary/{number:04d}"
            part = number % self.canary_blocks
            blocks[slot] = "canary" if self.canary_blocks == 1 else f"canary-{part}"
        return ImageRecords(ids=tuple(ids), images=records.images, labels=labels, blocks=tuple(blocks))

    def _plant_surrogates(self, records: ImageRecords) -> ImageRecords:
        """Mislabel as many more ordinary records, evenly spread, into the block `surrogate`."""
        if self.surrogates == 0:
            return records
        ordinary = np.flatnonzero([block == name for block, name in zip(records.blocks, records.ids, strict=True)])
        chosen = ordinary[np.linspace(20, len(ordinary) - 20, self.surrogates).round().astype(int)]
        labels = records.labels.copy()
        ids, blocks = list(records.ids), list(records.blocks)
        for number, slot in enumerate(chosen):
            labels[slot] = (labels[slot] + 1 + slot % 9) % 10
            ids[slot], blocks[slot] = f"train/surrogate/{number:04d}", "surrogate"
        return ImageRecords(ids=tuple(ids), images=records.images, labels=labels, blocks=tuple(blocks))


def _records(split: str, rows: NDArray[np.int64], images: NDArray[np.uint8], labels: NDArray[np.int64]) -> ImageRecords:
    ids = tuple(f"{split}/{labels[row]}/{row:04d}" for row in rows)
    return ImageRecords(ids=ids, images=np.ascontiguousarray(images[rows]), labels=labels[rows], blocks=ids)
