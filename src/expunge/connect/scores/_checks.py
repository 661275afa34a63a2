"""Checked nouns from an intake: shapes that agree, scores that vary, models that are different models."""

from __future__ import annotations

import numpy as np

from expunge.connect.scores._arrays import Intake
from expunge.connect.scores._nouns import ModelSignals, PooledScores
from expunge.stats.arrays import LOG_PROBABILITY_SLACK, Bools, Floats

_TINY = 1e-45


def pooled(
    intake: Intake, members: Floats | None, nonmembers: Floats | None, meaning: str, notes: tuple[str, ...] = ()
) -> PooledScores:
    """Members and nonmembers; raises all problems, among them that both are the same array."""
    if members is None or nonmembers is None:
        if not intake.problems:
            intake.wrong("scores of members and of nonmembers expected")
    else:
        intake.varies("members and nonmembers together", np.concatenate([members, nonmembers]))
        if members.shape == nonmembers.shape and np.array_equal(members, nonmembers):
            intake.wrong("members and nonmembers are the same array")
    intake.done()
    return PooledScores(members=_some(members), nonmembers=_some(nonmembers), meaning=meaning, notes=notes)


def model_signals(
    intake: Intake,
    log_p: Floats | None,
    member: Bools | None,
    population: Floats | None,
    meaning: str,
    notes: tuple[str, ...] = (),
) -> ModelSignals:
    """Signals (M, N) with membership (M, N); raises all problems, among them a model that is there twice."""
    if log_p is None or member is None:
        if not intake.problems:
            intake.wrong("signals (M, N) and membership (M, N) expected")
    elif log_p.shape != member.shape:
        intake.wrong(f"signals are {log_p.shape} and membership {member.shape}: (models, records) of both must agree")
    for name, values in (("signals", log_p), ("population", population)):
        if values is not None and float(values.max()) > LOG_PROBABILITY_SLACK:
            intake.wrong(f"{name}: log-probabilities are at most 0, the largest is {float(values.max()):.4g}")
    if population is not None and log_p is not None and len(population) != len(log_p):
        intake.wrong(f"population has {len(population)} models, signals have {len(log_p)}")
    intake.varies("signals", log_p)
    intake.no_row_twice("signals", log_p)
    intake.done()
    return ModelSignals(
        log_p=np.minimum(_some(log_p), 0.0),
        member=np.zeros((0, 0), bool) if member is None else member,
        population=None if population is None else np.minimum(population, 0.0),
        meaning=meaning,
        notes=notes,
    )


def log_of(intake: Intake, name: str, probability: Floats | None) -> Floats | None:
    """Logarithms of probabilities; a 0 becomes 1e-45, as Google's score.py has it. Outside [0, 1] is a problem."""
    if probability is None:
        return None
    if float(probability.min()) < 0 or float(probability.max()) > 1 + LOG_PROBABILITY_SLACK:
        low, high = float(probability.min()), float(probability.max())
        intake.wrong(f"{name}: probabilities in [0, 1] expected, got {low:.4g} to {high:.4g}")
        return None
    return np.asarray(np.log(np.clip(probability, _TINY, 1.0)), dtype=np.float64)


def _some(values: Floats | None) -> Floats:
    return np.zeros(0) if values is None else values
