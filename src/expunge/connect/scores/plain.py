"""Arrays under our own names, for tools that have no reader here."""

from __future__ import annotations

from pathlib import Path

from expunge.connect.scores._arrays import Intake, names_in
from expunge.connect.scores._checks import model_signals, pooled
from expunge.connect.scores._nouns import Given

_POOLED = ("members", "nonmembers")
_MODELS = ("log_probabilities", "member", "population")


class Plain:
    """One npz: `members` (n,) and `nonmembers` (m,), higher = more likely a member (negate losses before saving); or
    `log_probabilities` (M, N), natural logarithms of the true class's probability, with `member` (M, N) bool and, if
    there is one, `population` (M, Z) on records that no model trained on."""

    layout: str = "one npz with members and nonmembers, or log_probabilities and member (M, N)[, population (M, Z)]"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """Whether the one file has these names."""
        held = names_in(files[0]) if len(files) == 1 else frozenset()
        return held.issuperset(_POOLED) or held.issuperset(_MODELS[:2])

    def read(self, files: tuple[Path, ...]) -> Given:
        """The arrays as they are."""
        intake = Intake(f"plain: {', '.join(file.name for file in files)}")
        if len(files) != 1:
            intake.wrong(f"one npz expected, got {len(files)} files")
        arrays = intake.npz(files[0], _POOLED + _MODELS) if len(files) == 1 else {}
        if "log_probabilities" in arrays:
            return model_signals(
                intake,
                intake.numbers("log_probabilities", arrays["log_probabilities"], 2),
                intake.mask("member", arrays.get("member"), 2),
                intake.numbers("population", arrays.get("population"), 2),
                "log-probability of the true class",
            )
        members, nonmembers = (intake.numbers(name, arrays.get(name), 1) for name in _POOLED)
        return pooled(intake, members, nonmembers, "score as given")
