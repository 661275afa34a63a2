"""One margin in four units. All assume two Gaussians of equal variance this far apart, for this score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, special

from expunge.core.errors import CheckBroken

_LARGEST_SD = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """`sd`: distance in SD of O. `auc`, `tpr_at_1_percent`, `tpr_at_tenth_percent` in [0, 1]: what an attacker with
    this score gets. `advantage`: largest TPR − FPR. `epsilon`: of the two Gaussians at `delta`, which is a unit of
    distance for this score and not a privacy guarantee of the model (Dong, Roth and Su 2022, eq. 6)."""

    sd: float
    auc: float
    tpr_at_1_percent: float
    tpr_at_tenth_percent: float
    advantage: float
    epsilon: float
    delta: float

    def sentence(self) -> str:
        """All units in one line, with the caveat that belongs to the last."""
        return (
            f"{self.sd:.2f} SD = AUC {self.auc:.3f} = TPR {100 * self.tpr_at_1_percent:.1f} % at 1 % FPR = advantage "
            f"{self.advantage:.3f} (two equal-variance Gaussians; their epsilon at delta {self.delta:g} would be "
            f"{self.epsilon:.2f}: a unit for this score, not a privacy guarantee)"
        )


def margin_units(sd: float, delta: float = 1e-5) -> Margin:
    """A margin of `sd` standard deviations in every unit. Raises CheckBroken unless sd is finite and at least 0."""
    if not (math.isfinite(sd) and sd >= 0 and 0 < delta < 1):
        raise CheckBroken("a distance of at least 0 SD and a delta in (0, 1) expected", got=f"{sd} and {delta}")
    return Margin(
        sd=sd,
        auc=float(special.ndtr(sd / math.sqrt(2))),
        tpr_at_1_percent=float(special.ndtr(special.ndtri(0.01) + sd)),
        tpr_at_tenth_percent=float(special.ndtr(special.ndtri(0.001) + sd)),
        advantage=float(2 * special.ndtr(sd / 2) - 1),
        epsilon=gaussian_epsilon(sd, delta),
        delta=delta,
    )


def sd_of_auc(auc: float) -> float:
    """The distance in SD of an AUC in (0, 1)."""
    if not 0 < auc < 1:
        raise CheckBroken("an AUC in (0, 1) expected", got=str(auc))
    return float(math.sqrt(2) * special.ndtri(auc))


def gaussian_epsilon(sd: float, delta: float) -> float:
    """ε with δ = Φ(−ε/μ + μ/2) − e^ε·Φ(−ε/μ − μ/2), μ = sd (Balle and Wang 2018, Thm 8)."""

    def excess(epsilon: float) -> float:
        left = special.ndtr(-epsilon / sd + sd / 2)
        right = math.exp(epsilon + float(special.log_ndtr(-epsilon / sd - sd / 2)))
        return float(left) - right - delta

    if not (math.isfinite(sd) and sd >= 0 and 0 < delta < 1):
        raise CheckBroken("a distance of at least 0 SD and a delta in (0, 1) expected", got=f"{sd} and {delta}")
    if sd == 0 or excess(0.0) <= 0:
        return 0.0
    if sd > _LARGEST_SD:
        raise CheckBroken(f"a distance beyond {_LARGEST_SD:g} SD has no epsilon in float64", got=f"{sd:g}")
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-9))
