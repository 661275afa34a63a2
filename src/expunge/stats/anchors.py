"""How often the deployed file's check says what it should, for a number of full-size anchors: part of every plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Bools, Floats
from expunge.stats.rank import MIN_ANCHORS, ranked_p_values

RUNS = 2000
UNSEEN_ALPHA = 0.05
"""Level at which a file that is no anchor on never-trained records is held back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorDesign:
    """`out` and `into` full-size anchors, `gap` E(I − O) in SD of both. `fail` is the p-value at which one signal fails
    a file (alpha/S) and `member_share` of it watches the member side, the rest a file far below; `still_in` is the level
    at which every signal must reject "still IN". `signals` S correlate by `correlation`."""

    out: int
    into: int
    gap: float
    fail: float
    still_in: float
    signals: int
    correlation: float
    member_share: float = 0.8

    def __post_init__(self) -> None:
        rates = (self.fail, self.still_in, self.member_share)
        if min(self.out, self.into) < 2 or self.signals < 1 or not all(0 < rate < 1 for rate in rates):
            raise CheckBroken("2 anchors a side, a signal and rates in (0, 1) expected", got=str(self)[:150])
        if not (np.isfinite(self.gap) and -1 <= self.correlation <= 1):
            raise CheckBroken("a finite gap and a correlation in [-1, 1] expected", got=str(self)[:150])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorRates:
    """Shares of simulated files. `honest_passes`: an OUT file that is not failed, rejects "still IN" and whose original
    was caught, all signals; `honest_fails`: an OUT file that is failed; `member_fails`, `member_passes`: a file that still
    holds the block."""

    honest_passes: float
    honest_fails: float
    member_fails: float
    member_passes: float


def anchor_rates(design: AnchorDesign, *, seed: int, runs: int = RUNS) -> AnchorRates:
    """By simulation of Gaussian files and anchors. Below 19 anchors a side nothing passes."""
    rng = np.random.default_rng(seed)
    out, into = (_draw(design, count, runs, rng) for count in (design.out, design.into))
    honest, member = (_draw(design, 1, runs, rng)[:, 0] for _ in range(2))
    into, member = into + design.gap, member + design.gap
    fails_honest, fails_member = (_failed(design, files, out).any(axis=1) for files in (honest, member))
    caught = _failed(design, member, out, member_side=True).all(axis=1)
    enough = min(design.out, design.into) >= MIN_ANCHORS
    seen = rng.random(runs) > np.floor(UNSEEN_ALPHA * (design.out + 1)) / (design.out + 1)
    good = ~fails_honest & _rejects_in(design, honest, into) & caught & seen & enough
    bad = ~fails_member & _rejects_in(design, member, into) & caught & seen & enough
    return AnchorRates(
        honest_passes=float(good.mean()),
        honest_fails=float(fails_honest.mean()),
        member_fails=float(fails_member.mean()),
        member_passes=float(bad.mean()),
    )


def _draw(design: AnchorDesign, count: int, runs: int, rng: np.random.Generator) -> Floats:
    """(runs, count, S) standard Gaussians whose signals correlate."""
    floor = -1 / (design.signals - 1) if design.signals > 1 else 0.0
    between = np.full((design.signals, design.signals), max(design.correlation, floor))
    np.fill_diagonal(between, 1.0)
    values, vectors = np.linalg.eigh(between)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(rng.standard_normal((runs, count, design.signals)) @ root.T, dtype=np.float64)


def _failed(design: AnchorDesign, files: Floats, out: Floats, *, member_side: bool = False) -> Bools:
    """(runs, S): p at or below `fail`, on either side or on the member side alone."""
    columns = []
    for signal in range(design.signals):
        high = ranked_p_values(files[:, signal], out[..., signal], "above") / design.member_share
        low = ranked_p_values(files[:, signal], out[..., signal], "below") / (1 - design.member_share)
        columns.append((high if member_side else np.minimum(high, low)) <= design.fail)
    return np.stack(columns, axis=1)


def _rejects_in(design: AnchorDesign, files: Floats, into: Floats) -> Bools:
    """(runs,): every signal lies below the IN anchors."""
    p = [ranked_p_values(files[:, s], into[..., s], "below") for s in range(design.signals)]
    return np.asarray((np.stack(p, axis=1) <= design.still_in).all(axis=1), dtype=np.bool_)
