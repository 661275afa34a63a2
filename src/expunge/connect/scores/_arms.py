"""Three arms from files: OUT, IN and unlearned scores, paired row by row, one or several signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expunge.connect.scores._arrays import MAX_NAMES, Array, Intake, names_in
from expunge.stats.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreArms:
    """Block statistics by signal, float (n,) each, row k of all arms being complement pair k: `out` never saw the
    block, `into` did, `unlearned` is the IN model after the method (None: no X arm). Higher = more likely a member."""

    out: Mapping[str, Floats]
    into: Mapping[str, Floats]
    unlearned: Mapping[str, Floats] | None


def read_arms(out: Path, into: Path, unlearned: Path | None) -> ScoreArms:
    """One npy (n,) or (n, R) an arm, or one npz with an array a signal under the same names in every arm.

    Of (n, R) the mean over the R records of the block is taken. Raises InputProblems with everything that is wrong,
    among it that two arms are the same array: a copied arm is no retraining. (An unlearned arm that equals IN is read:
    it is the no-op, and it fails.)
    """
    intake = Intake("three arms")
    files = {"out": out, "in": into} | ({} if unlearned is None else {"unlearned": unlearned})
    arms = {arm: _signals(intake, arm, file) for arm, file in files.items()}
    names = {arm: sorted(signals) for arm, signals in arms.items()}
    if len({tuple(found) for found in names.values()}) > 1:
        intake.wrong(f"the arms hold different signals: {names}")
        intake.done()
    for name in names["out"]:
        _agree(intake, name, {arm: signals[name] for arm, signals in arms.items()})
    _no_signal_twice(intake, arms["out"])
    intake.done()
    return ScoreArms(out=arms["out"], into=arms["in"], unlearned=arms.get("unlearned"))


def _signals(intake: Intake, arm: str, file: Path) -> dict[str, Floats]:
    held = sorted(names_in(file))[:MAX_NAMES]
    found: dict[str, Array] = intake.npz(file, held) if held else {}
    single = None if held else intake.npy(file)
    if single is not None:
        found = {"score": single}
    signals = {}
    for name, array in found.items():
        table = intake.numbers(f"{arm}/{name}", array.reshape(len(array), -1) if array.ndim == 1 else array, 2)
        if table is not None:
            signals[name] = np.asarray(table.mean(axis=1), dtype=np.float64)
    if not signals and not intake.problems:
        intake.wrong(f"{arm}: no array")
    return signals


def _agree(intake: Intake, name: str, arms: Mapping[str, Floats]) -> None:
    sizes = {arm: values.size for arm, values in arms.items()}
    if len(set(sizes.values())) > 1:
        intake.wrong(f"{name}: arms are not paired: {sizes}")
        return
    for arm, values in arms.items():
        intake.varies(f"{name}/{arm}", values)
    for arm in ("in", "unlearned"):
        if arm in arms and np.array_equal(arms[arm], arms["out"]):
            intake.wrong(f"{name}: {arm} is a copy of out")


def _no_signal_twice(intake: Intake, out: Mapping[str, Floats]) -> None:
    """One signal under three names is one signal."""
    seen: dict[bytes, str] = {}
    for name, values in out.items():
        first = seen.setdefault(values.tobytes(), name)
        if first != name:
            intake.wrong(f"signal {name} is a copy of signal {first}")
