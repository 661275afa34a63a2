"""How often the rule on recovery passes a model that is exactly at the margin, and one that is like its controls.

    python benchmarks/style_recovery/rates.py        # result.json, about five minutes

Simulated runs of 40 pictures on one style and five controls. Rates differ from run to run: beta with an intraclass correlation
`spread`; the controls' levels differ by 30 % of the base rate. `plain` is the same rule without its floor on the spread of
runs (stats.recovery.SPREAD), whose limit is then a t-limit of eight or more clusters like any other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np

from expunge.stats import recovery
from expunge.stats.intervals import clopper_pearson
from expunge.stats.recovery import MARGIN, Runs, excess

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

PICTURES, CONTROLS, TRIALS = 40, 5, 1000
SEEDS, SPREADS, BASES = (8, 16, 29), (0.05, 0.2, 0.4), (0.0, 0.05, 0.1, 0.3)


def drawn(generator: np.random.Generator, rate: float, spread: float, shape: tuple[int, ...]) -> np.ndarray:
    """Hits of runs of this mean rate."""
    size = (1 - spread) / spread
    return generator.binomial(PICTURES, generator.beta(max(rate * size, 1e-9), max((1 - rate) * size, 1e-9), shape))


def passes(above: float, base: float, spread: float, seeds: int) -> dict[str, object]:
    """Share of models passed whose recovery is `above` their controls', with and without the floor."""
    generator, counts = np.random.default_rng(0), {"rule": 0, "plain": 0}
    for _ in range(TRIALS):
        levels = np.clip(base + 0.3 * base * generator.standard_normal(CONTROLS), 0, 1)
        control = Runs(
            hits=np.stack([drawn(generator, level, spread, (seeds,)) for level in levels]), pictures=PICTURES
        )
        mine = Runs(hits=drawn(generator, base + above, spread, (1, seeds)), pictures=PICTURES)
        counts["rule"] += excess(mine, control).high <= MARGIN
        with patch.object(recovery, "_least", lambda *_: 1e-12):
            counts["plain"] += excess(mine, control).high <= MARGIN
    found: dict[str, object] = {"seeds": seeds, "spread": spread, "base": base}
    for name, hits in counts.items():
        bounds = clopper_pearson(int(hits), TRIALS)
        found[name] = {"share": bounds.estimate, "low": bounds.low, "high": bounds.high}
    return found


def main() -> None:
    """Both tables, with what they were made on."""
    cells = [(base, spread, seeds) for seeds in SEEDS for spread in SPREADS for base in BASES]
    result = {
        "command": "python benchmarks/style_recovery/rates.py",
        "trials": TRIALS,
        "at_the_margin": [passes(MARGIN, *cell) for cell in cells],
        "like_controls": [passes(0.0, *cell) for cell in cells],
        "hardware": hardware(),
    }
    Path(__file__).with_name("result.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
