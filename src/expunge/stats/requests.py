"""Several requests judged on one bank: what their findings say together (VERDICTS section 4).

Their tests share models, so only procedures that hold under any dependence are used: Holm for "no request is wrongly
failed (or passed) at all", e-BH for "few of those called so are wrong".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding
from expunge.stats.arrays import finite
from expunge.stats.evalues import calibrated
from expunge.stats.multiplicity import e_bh, holm

Claim = Literal["residue", "erased"]
_SHOWN = ("p_residue_shown", "p_over_shown")
_EXCLUDED = ("p_residue_excluded", "p_over_excluded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What H requests say together about one claim, by request: `adjusted` Holm p-values, `holds` those at most alpha
    (family-wise error at most alpha), `discovered` by e-BH on calibrated p-values (false-discovery rate at most alpha).
    """

    adjusted: Mapping[str, float]
    holds: frozenset[str]
    discovered: frozenset[str]
    alpha: float


def over_requests(p_values: Mapping[str, float], alpha: float) -> Family:
    """Holm and e-BH over requests on one bank; p-values by request. Raises CheckBroken when there is none."""
    names = tuple(p_values)
    column = finite("p-values", [p_values[name] for name in names], (None,))
    adjusted = holm(column)
    found = e_bh([calibrated(float(p)) for p in column], alpha)
    return Family(
        adjusted={name: float(p) for name, p in zip(names, adjusted, strict=True)},
        holds=frozenset(name for name, p in zip(names, adjusted, strict=True) if p <= alpha),
        discovered=frozenset(name for name, hit in zip(names, found, strict=True) if hit),
        alpha=alpha,
    )


def finding_p_value(finding: Finding, claim: Claim) -> float | None:
    """The p-value of a membership or deployed finding for one claim; None where it measured nothing.

    "residue": something is left (or was over-unlearned): the smallest over signals times their number (and two sides).
    "erased": equivalence within the margin: the largest over signals, assay included (intersection–union). A deployed
    finding says nothing about "erased": its rank can only fail a file.
    """
    if finding.check == "deployed":
        return _deployed(finding) if claim == "residue" else None
    if finding.check != "membership":
        raise CheckBroken("findings of membership or deployed expected", got=finding.check)
    names = sorted(key.removesuffix(".p_assay") for key in finding.details if key.endswith(".p_assay"))
    rows = [_row(finding, name, _SHOWN if claim == "residue" else _EXCLUDED) for name in names]
    if not rows or any(row is None for row in rows):
        return None
    known = [row for row in rows if row is not None]
    if claim == "erased":
        return max(max(row) for row in known)
    return min(1.0, len(known) * min(2 * max(assay, min(sides)) for assay, *sides in known))


def _deployed(finding: Finding) -> float | None:
    signals = sum(key.endswith(".rank_floor") for key in finding.details)
    return None if finding.estimate is None or not signals else min(1.0, signals * finding.estimate)


def _row(finding: Finding, name: str, sides: tuple[str, ...]) -> tuple[float, ...] | None:
    keys = [f"{name}.{key}" for key in ("p_assay", *sides)]
    if any(key not in finding.details for key in keys):
        return None
    return tuple(float(finding.details[key]) for key in keys)
