"""privacy-meter runs and results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from expunge.connect.scores._arrays import Intake, names_in
from expunge.connect.scores._checks import log_of, model_signals, pooled
from expunge.connect.scores._nouns import Given, ModelSignals, PooledScores
from expunge.stats.arrays import Bools, Floats

_RESULT = ("scores", "memberships")


class PrivacyMeter:
    """A log folder with `memberships.npy` (M, N) and `signals/<algorithm>_signals.npy` (N, M) [and
    `..._signals_pop.npy` (Z, M)], or one `report/exp/attack_result_*.npz` with `scores` and `memberships`
    (privacytrustlab/ml_privacy_meter e384af8, get_signals.py `get_model_signals`, models/utils.py, audit.py).

    Signals are true-class softmax probabilities; they are turned into logarithms and into (M, N), which is the
    orientation of the masks already. Result scores are higher for members there as here. A run that audited a sample
    of its data (`audit.data_size`) does not store which records those were: it cannot be joined with its masks and is
    refused. Its own float32 probabilities of 1 have lost what distinguishes them; the attacks here clip them.
    """

    layout: str = (
        "a folder with memberships.npy and signals/*_signals[_pop].npy, or one attack_result npz (scores, memberships)"
    )

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the names in the folder or in the npz."""
        if len(files) != 1:
            return False
        if files[0].is_dir():
            return (files[0] / "memberships.npy").is_file() and (files[0] / "signals").is_dir()
        return names_in(files[0]).issuperset(_RESULT)

    def read(self, files: tuple[Path, ...]) -> Given:
        """The bank of a log folder, or the scores of a result."""
        intake = Intake(f"privacy_meter: {', '.join(file.name for file in files)}")
        if len(files) != 1:
            intake.wrong(f"one log folder or one result expected, got {len(files)} files")
            intake.done()
        return _folder(intake, files[0]) if files[0].is_dir() else _result(intake, files[0])


def _folder(intake: Intake, folder: Path) -> ModelSignals:
    signals = [path for path in sorted((folder / "signals").glob("*_signals.npy")) if "ramia" not in path.name]
    if len(signals) != 1:
        intake.wrong(f"one signals/*_signals.npy expected, got {', '.join(path.name for path in signals) or 'none'}")
        intake.done()
    other = signals[0].with_name(signals[0].stem + "_pop.npy")
    log_p = _signals(intake, signals[0])
    population = _signals(intake, other) if other.is_file() else None
    _one_family(intake, folder)
    member = intake.mask("memberships.npy", intake.npy(folder / "memberships.npy"), 2)
    if log_p is not None and member is not None and member.shape[0] > log_p.shape[0]:
        member = member[: log_p.shape[0]]  # only the first models were audited
    if log_p is not None and member is not None and member.shape[1] != log_p.shape[1]:
        intake.wrong(
            f"{signals[0].name} covers {log_p.shape[1]} of {member.shape[1]} records and does not say which: "
            "run the audit with audit.data_size equal to the data, or read report/exp/attack_result_*.npz"
        )
        intake.done()
    return model_signals(intake, log_p, member, population, "log of the true class's softmax probability")


def _signals(intake: Intake, path: Path) -> Floats | None:
    values = log_of(intake, path.name, intake.numbers(path.name, intake.npy(path), 2))
    return None if values is None else np.ascontiguousarray(values.T)


def _one_family(intake: Intake, folder: Path) -> None:
    file = folder / "models_metadata.json"
    if not file.is_file():
        return
    entries = [entry for entry in intake.json(file).values() if isinstance(entry, dict)]
    families = {str(entry.get("model_name"))[:40] for entry in entries}
    if len(families) > 1:
        intake.wrong(f"models of different families: {', '.join(sorted(families))}")


def _result(intake: Intake, path: Path) -> PooledScores:
    arrays = intake.npz(path, _RESULT)
    scores = intake.numbers("scores", arrays.get("scores"), 1)
    member: Bools | None = intake.mask("memberships", arrays.get("memberships"), 1)
    if scores is None or member is None:
        return pooled(intake, None, None, "")
    if scores.shape != member.shape:
        intake.wrong(f"{scores.size} scores and {member.size} memberships")
    elif member.all() or not member.any():
        intake.wrong("memberships name only one side")
    intake.done()
    return pooled(intake, np.asarray(scores[member]), np.asarray(scores[~member]), "membership score of privacy-meter")
