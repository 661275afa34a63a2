"""TensorFlow Privacy attack inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import special

from expunge.connect.scores._arrays import Array, Intake, names_in
from expunge.connect.scores._checks import log_of, pooled
from expunge.connect.scores._nouns import PooledScores
from expunge.stats.arrays import Floats

_KINDS = ("loss", "logits", "probs", "entropy")
_NAMES = tuple(f"{kind}_{side}" for kind in (*_KINDS, "labels") for side in ("train", "test"))


class TfPrivacy:
    """One npz with the fields of `AttackInputData` under their own names (tensorflow/privacy 03035d5,
    tensorflow_privacy/privacy/privacy_tests/membership_inference_attack/data_structures.py; release 0.9.0): `loss_*`,
    or `logits_*` or `probs_*` with integer `labels_*`, or `entropy_*`, each for `train` (members) and `test`.

    The first of loss, logits, probs, entropy that both sides have is used, negated where low means member: −loss, the
    log-probability of the true class, or −entropy. Its own `PERCENTILE` slices, sample weights and multi-label
    encodings are not read; multi-hot labels are refused.
    """

    layout: str = "one npz with loss_train and loss_test, or logits/probs with labels, or entropy, for both sides"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the field names."""
        held = names_in(files[0]) if len(files) == 1 else frozenset()
        return any(held.issuperset((f"{kind}_train", f"{kind}_test")) for kind in _KINDS)

    def read(self, files: tuple[Path, ...]) -> PooledScores:
        """Scores of train (members) and test."""
        intake = Intake(f"tf_privacy: {', '.join(file.name for file in files)}")
        if len(files) != 1:
            intake.wrong(f"one npz expected, got {len(files)} files")
        arrays = intake.npz(files[0], _NAMES) if len(files) == 1 else {}
        kind = next((kind for kind in _KINDS if f"{kind}_train" in arrays and f"{kind}_test" in arrays), None)
        if kind is None:
            if not intake.problems:
                intake.wrong(f"none of {', '.join(_KINDS)} is there for both train and test")
            intake.done()
        members, nonmembers = (_scores(intake, arrays, str(kind), side) for side in ("train", "test"))
        meaning = {"loss": "negated loss", "entropy": "negated entropy"}.get(str(kind), "log p of the true class")
        return pooled(intake, members, nonmembers, meaning)


def _scores(intake: Intake, arrays: dict[str, Array], kind: str, side: str) -> Floats | None:
    name = f"{kind}_{side}"
    if kind in ("loss", "entropy"):
        values = intake.numbers(name, arrays[name], 1)
        return None if values is None else -values
    table = intake.numbers(name, arrays[name], 2)
    if kind == "probs":
        table = log_of(intake, name, table)
    labels = intake.numbers(f"labels_{side}", arrays.get(f"labels_{side}"), 1)
    if labels is None and not any(f"labels_{side}" in problem for problem in intake.problems):
        intake.wrong(f"{name} needs labels_{side}")
    if table is None or labels is None:
        return None
    if labels.size != len(table) or (labels % 1).any() or labels.min() < 0 or labels.max() >= table.shape[1]:
        intake.wrong(f"labels_{side}: {len(table)} whole numbers from 0 to {table.shape[1] - 1} expected")
        return None
    if kind == "logits":
        table = table - special.logsumexp(table, axis=1, keepdims=True)
    picked: Floats = np.take_along_axis(table, labels.astype(np.int64)[:, None], axis=1)[:, 0]
    return np.minimum(picked, 0.0)
