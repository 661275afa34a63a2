"""LeakPro attack results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from expunge.connect.scores._arrays import Intake
from expunge.connect.scores._checks import pooled
from expunge.connect.scores._nouns import PooledScores

_KEYS = ("result_type", "signal_values", "true_labels")


class LeakPro:
    """`data_objects/<attack id>.json`, which `MIAResult.save` writes from `MIAResultSchema` (aidotse/LeakPro c47752f,
    leakpro/reporting/mia_result.py and leakpro/schemas.py): `signal_values` and `true_labels` (1 = member) of one
    attack. "Large signal values are indicative of membership" there too, so nothing is negated.

    Results made from confusion counts alone have no signal values and are refused. LeakPro writes its membership
    results as JSON only: there is no csv or npz of them.
    """

    layout: str = "data_objects/<attack id>.json with signal_values and true_labels"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the keys at the start or end of the one JSON file; the arrays are not parsed."""
        if len(files) != 1 or files[0].suffix != ".json" or not files[0].is_file():
            return False
        with files[0].open("rb") as stream:
            start = stream.read(4096)
        return b'"result_type"' in start and b'"result_name"' in start

    def read(self, files: tuple[Path, ...]) -> PooledScores:
        """Scores of members and nonmembers."""
        intake = Intake(f"leakpro: {', '.join(file.name for file in files)}")
        if len(files) != 1:
            intake.wrong(f"one result expected, got {len(files)} files")
        result: dict[str, Any] = intake.json(files[0]) if len(files) == 1 else {}
        missing = [key for key in _KEYS if key not in result]
        if missing and not intake.problems:
            intake.wrong(f"no {', '.join(missing)} in the result")
        if result.get("result_type", "MIAResult") != "MIAResult":
            intake.wrong(f"a MIAResult expected, got {str(result['result_type'])[:40]}")
        if "signal_values" in result and result["signal_values"] is None:
            intake.wrong("signal_values is null: this result was made from counts and holds no scores")
        signal = intake.numbers("signal_values", result.get("signal_values"), 1)
        member = intake.mask("true_labels", result.get("true_labels"), 1)
        if signal is None or member is None or signal.shape != member.shape:
            if signal is not None and member is not None:
                intake.wrong(f"{signal.size} signal_values and {member.size} true_labels")
            return pooled(intake, None, None, "")
        if member.all() or not member.any():
            intake.wrong("true_labels name only one side")
            intake.done()
        meaning = f"signal of {str(result.get('result_name', 'an attack'))[:60]}"
        return pooled(intake, np.asarray(signal[member]), np.asarray(signal[~member]), meaning)
