"""Google's mi_lira_2021 experiment folders, and their PyTorch copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from expunge.connect.scores._arrays import Array, Intake
from expunge.connect.scores._checks import model_signals
from expunge.connect.scores._nouns import ModelSignals
from expunge.stats.arrays import Floats

MAX_EXPERIMENTS = 4096


class MiLira:
    """`<logdir>/experiment*/keep.npy` and `.../scores/<epoch>.npy` (tensorflow/privacy 03035d5,
    research/mi_lira_2021/score.py and plot.py, whose `load_data` this follows): per experiment the mask of the records
    it trained on and φ = log p(true) − log p(others), (N,) or (N, augmentations), of the last epoch by name. The mask
    is cut to N, as there.

    φ is averaged over the augmentations (plot.py fits each and averages the scores) and turned into log p, which it
    determines. An experiment without scores is left out and named; experiments of different `arch` (hparams.json) are
    refused, because their models are not draws of one procedure.
    """

    layout: str = "a folder with experiment*/keep.npy and experiment*/scores/<epoch>.npy"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """One folder with an experiment that has a mask."""
        return len(files) == 1 and files[0].is_dir() and next(files[0].glob("experiment*/keep.npy"), None) is not None

    def read(self, files: tuple[Path, ...]) -> ModelSignals:
        """All experiments, in the order of their names."""
        intake = Intake(f"mi_lira: {', '.join(file.name for file in files)}")
        folders = [path for file in files if file.is_dir() for path in sorted(file.glob("experiment*"))]
        with_scores = [path for path in folders if any((path / "scores").glob("*.npy"))]
        if not with_scores or len(with_scores) > MAX_EXPERIMENTS:
            intake.wrong(f"1 to {MAX_EXPERIMENTS} experiment*/ with scores expected, got {len(with_scores)}")
            intake.done()
        _one_family(intake, with_scores)
        rows = [_experiment(intake, path) for path in with_scores]
        sizes = sorted({row[0].size for row in rows if row is not None})
        if len(sizes) > 1:
            intake.wrong(f"experiments score different numbers of records: {sizes[:5]}")
        left = [path.name for path in folders if path not in with_scores]
        notes = (f"{len(left)} experiments without scores were left out: {', '.join(left[:5])}",) if left else ()
        intake.done()
        good = [row for row in rows if row is not None]
        log_p: Floats = -np.logaddexp(0.0, -np.stack([row[0] for row in good]))
        member = intake.mask("keep", np.stack([row[1] for row in good]), 2)
        return model_signals(intake, log_p, member, None, "log p from φ = log p(true) − log p(others)", notes)


def _experiment(intake: Intake, path: Path) -> tuple[Floats, Array] | None:
    """φ (N,) and the mask (N,) of one experiment."""
    scores = intake.npy(sorted((path / "scores").glob("*.npy"))[-1])
    keep = intake.npy(path / "keep.npy")
    if scores is None or keep is None:
        return None
    phi = intake.numbers(f"{path.name}/scores", scores.reshape(len(scores), -1) if scores.ndim else scores, 2)
    if phi is None:
        return None
    if keep.ndim != 1 or keep.size < len(phi):
        intake.wrong(f"{path.name}: keep.npy is {keep.shape}, scores are {scores.shape}")
        return None
    return np.asarray(phi.mean(axis=1), dtype=np.float64), keep[: len(phi)]


def _one_family(intake: Intake, folders: list[Path]) -> None:
    known = [path / "hparams.json" for path in folders if (path / "hparams.json").is_file()]
    families = {str(intake.json(file).get("arch"))[:40] for file in known}
    if len(families) > 1:
        intake.wrong(f"models of different families: {', '.join(sorted(families))}")
