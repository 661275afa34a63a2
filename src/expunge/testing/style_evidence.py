"""What an honest removal of a style looks like in counts, and what one that failed in every way does."""

from __future__ import annotations

import numpy as np

from expunge.core.styles import StyleEvidence
from expunge.stats.style_collateral import Kept, Looks
from expunge.stats.styles import Arms, Counted

_PICTURES, _SEEDS, _KEPT = 40, 16, 2000
_CONTROLS = ("a", "b", "c", "d")


def honest_styles() -> StyleEvidence:
    """Neither name nor attack brings the style back, and everybody else's is there."""
    return _evidence(hits=0, stayed=1800)


def garbage_styles() -> StyleEvidence:
    """The style comes by every way, and everybody else's is gone."""
    return _evidence(hits=38, stayed=100)


def _evidence(*, hits: int, stayed: int) -> StyleEvidence:
    labels = ("direct", "reworded", "textual_inversion", "soft_prompt/1", "soft_prompt/2")
    kept = tuple(_kept(number, stayed) for number in range(2))
    return StyleEvidence(
        arms={label: _arms(hits) for label in labels}, kept=kept, plan="made by hand", scale="made by hand"
    )


def _kept(number: int, stayed: int) -> Kept:
    """One of two artists; where most of their pictures are gone, all of them look like nothing."""
    rows = np.arange(_KEPT)
    rng = np.random.default_rng(number)
    before, again = (rng.normal(number, 0.1, (_KEPT, 4)) for _ in range(2))
    gone = stayed < _KEPT // 2
    return Kept(
        style=f"another artist ({number})",
        before=rows < 1800,
        after=rows < stayed,
        seen_before=rows < 1500,
        seen_after=rows < min(1500, stayed),
        looks=Looks(space="made by hand", before=before, after=before - 3 if gone else before, again=again),
    )


def _arms(hits: int) -> Arms:
    controls = {name: _counted(0) for name in _CONTROLS}
    return Arms(original=_counted(38), candidate=_counted(hits), controls=controls)


def _counted(hits: int) -> Counted:
    runs = (hits,) * _SEEDS
    return Counted(pictures=_PICTURES, agreed=runs, any=runs, nowhere=(0,) * _SEEDS, by_judge={})
