"""jax_privacy canary scores."""

from __future__ import annotations

from pathlib import Path

from expunge.connect.scores._arrays import Intake, names_in
from expunge.connect.scores._checks import pooled
from expunge.connect.scores._nouns import PooledScores

_IN, _OUT = "in_canary_scores", "out_canary_scores"


class JaxPrivacy:
    """Held-in and held-out canary scores, as jax_privacy's `CanaryScoreAuditor(in_canary_scores, out_canary_scores)`
    takes them (google-deepmind/jax_privacy 8967688, jax_privacy/auditing.py; release 2.0.0): 1-d, higher = held in.

    The library writes no files; save its two arguments under their own names, as one npz or as two npy files. Canaries
    are usually included by fair coins, but the arrays do not say so: pass `--coins` if they were.
    """

    layout: str = f"one npz with {_IN} and {_OUT}, or {_IN}.npy and {_OUT}.npy"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the two names."""
        if len(files) == 1:
            return names_in(files[0]).issuperset((_IN, _OUT))
        return {file.name for file in files} == {f"{_IN}.npy", f"{_OUT}.npy"}

    def read(self, files: tuple[Path, ...]) -> PooledScores:
        """The two arrays."""
        intake = Intake(f"jax_privacy: {', '.join(file.name for file in files)}")
        if len(files) == 1:
            arrays = intake.npz(files[0], (_IN, _OUT))
        else:
            read = {file.stem: intake.npy(file) for file in files if file.stem in (_IN, _OUT)}
            arrays = {name: array for name, array in read.items() if array is not None}
        for name in (_IN, _OUT):
            if name not in arrays and not intake.problems:
                intake.wrong(f"no array {name}")
        members, nonmembers = (intake.numbers(name, arrays.get(name), 1) for name in (_IN, _OUT))
        return pooled(intake, members, nonmembers, "canary score")
