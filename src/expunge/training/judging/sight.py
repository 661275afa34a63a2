"""Whether a judge sees the style that is asked for: by its record on held-out pictures, and on the works at hand.

The record says how well it saw when it was made. The works at hand are the artist's own and those of others: they tell of a
judge that answers the same to everything, whatever its record says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expunge.core.codec import decode
from expunge.core.errors import IntegrityError
from expunge.core.styles import JudgeSight
from expunge.data._pictures import Pictures
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.training.judging.calibration import FEWEST, FLOOR, LEVEL, MIXED_UP, Calibration, require_sighted
from expunge.training.judging.files import Shipped
from expunge.training.judging.judge import Judge, JudgeBlind, Pixels

HERE = 0.5
"""Upper 95 % limit of the share of the artist's works at hand below which a judge is not what its record says. Lower than the
record's `FLOOR`, because works at hand may be after other photos than any judge was made with."""


def recorded(judge: Judge) -> Calibration | None:
    """How the judge did on held-out pictures when it was made, or None where it has no record. Raises IntegrityError on the
    record of another judge."""
    if not isinstance(judge, Shipped):
        return None
    found = decode(Calibration, judge.made.held_out, what=f"{judge.name}: held out")
    if found.digest != judge.digest:
        raise IntegrityError("the record is another judge's", expected=judge.digest, got=found.digest)
    return found


def accuracy_of(judge: Judge, works: Pictures) -> tuple[int, int] | None:
    """(hits, n) of works whose style it has a name for, over all styles; None where it has a record, which counts then."""
    if recorded(judge) is not None:
        return None
    truth = [judge.styles.index(style) if style in judge.styles else -1 for style in works.styles]
    known = np.array(truth, np.int64)
    said = judge.judge(np.asarray(works.images)).style if works.styles else known
    return int((said == known)[known >= 0].sum()), int((known >= 0).sum())


def sight_of(
    judge: Judge,
    style: str,
    own: Pixels,
    others: Pixels,
    *,
    apart: Sequence[Pixels] = (),
    told: tuple[int, int] | None = None,
) -> JudgeSight:
    """What is known of one judge about a style, from its record and from works (N, S, S, 3) of the artist and of others. `apart`:
    works of others that a judge without a record has to tell from this style group by group; `told`: its accuracy on works that
    it was not made of.

    Blind is: a record that does not show that it sees the style; works at hand that show that it does not (`HERE`, and the
    limit of works of others in `calibration`, each at 95 %); or no record, and works at hand that do not show that it does.
    Names no style: the reason may be published.
    """
    record = recorded(judge)
    seen, taken = (int(judge.judge(images).says(style).sum()) if len(images) else 0 for images in (own, others))
    shares = (seen, len(own)), (taken, len(others))
    if record is not None:
        told, blind = (record.all_styles.hits, record.all_styles.n), _against(record, style) or _shown_blind(*shares)
    else:
        groups = [(int(judge.judge(images).says(style).sum()), len(images)) for images in apart if len(images)]
        blind = _unshown(*shares) or next((why for group in groups if (why := _mixed_up(group))), "")
    return JudgeSight(judge=judge.name, held_out=told, own=shares[0], others=shares[1], blind=blind)


def require_seeing(sights: Sequence[JudgeSight]) -> None:
    """Raises JudgeBlind where any judge is: two families have to agree, so the silence of one alone says nothing."""
    blind = [f"judge {sight.judge} cannot see this style: {sight.blind}" for sight in sights if sight.blind]
    if blind:
        raise JudgeBlind("; ".join(blind), hint="use another judge for this style, or train it on more pictures")


def _against(record: Calibration, style: str) -> str:
    """Without the numbers of the style, which would name it to whoever has the judge."""
    try:
        require_sighted(record, style)
    except JudgeBlind:
        return "its record on held-out pictures does not show that it recognises it and tells it from its neighbours"
    return ""


def _shown_blind(own: tuple[int, int], others: tuple[int, int]) -> str:
    reasons = []
    if own[1] and share_at_most(*own, LEVEL) < HERE:
        reasons.append(f"it recognises {own[0]} of {own[1]} of the artist's works, upper limit below {HERE}")
    if others[1] and share_at_least(*others, LEVEL) > MIXED_UP:
        reasons.append(f"it takes {others[0]} of {others[1]} works of others for it, lower limit above {MIXED_UP}")
    return "; ".join(reasons)


def _unshown(own: tuple[int, int], others: tuple[int, int]) -> str:
    if own[1] < FEWEST or share_at_least(*own, LEVEL) < FLOOR:
        return f"it has no record, and recognises {own[0]} of {own[1]} of the artist's works; {FLOOR} must be shown"
    return _mixed_up(others)


def _mixed_up(others: tuple[int, int]) -> str:
    if not others[1] or share_at_most(*others, LEVEL) > MIXED_UP:
        return f"it has no record, and takes {others[0]} of {others[1]} works of others for it; {MIXED_UP} is allowed"
    return ""
