"""The plan: everything that can change a result, hashed and logged before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from expunge.core.finding import Guarantee
from expunge.core.refs import ModelRef, check_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """What changes bits at the same seed: bit-identity is claimed only between runs with equal Numerics.

    `threads` is intra-op threads; `instruction_set` is torch's CPU capability; `build` names torch and its version.
    """

    precision: str
    threads: int
    device: str
    instruction_set: str
    build: str
    microbatch: int | None = None

    def differences(self, other: Numerics) -> list[str]:
        """`field: mine != theirs` for every field that differs."""
        return [
            f"{name}: {getattr(self, name)} != {getattr(other, name)}"
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(other, name)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """How fast, never what: process count and placement. Not hashed. `address` is where an executor's workers are."""

    processes: int = 1
    address: str | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a candidate is expected to cost. `fraction` is relative to one full retraining; `basis` says from where."""

    seconds: float
    fraction: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """A check by name with the limits and signals it will be held to. Both are hashed into the plan."""

    check: str
    limits: Mapping[str, str] = field(default_factory=dict)
    signals: tuple[str, ...] = ()


FIXED = "fixed: all complement pairs of the bank, once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One candidate, fixed before it runs. `split` is the keyed commitment to the ForgetSplit, never the ids.

    `reference` is the bank's digest, `pairs` the number of its complement pairs, all of which are read (`stopping`).
    """

    model: ModelRef
    split: str
    method: str
    method_origin: str
    aims_at: Guarantee
    params: Mapping[str, str]
    checks: tuple[CheckSpec, ...]
    policy: str
    numerics: Numerics
    recipe: str
    seed: str
    attempt: int
    reference: str
    pairs: int = 0
    stopping: str = FIXED

    def __post_init__(self) -> None:
        check_digest(self.policy)
        check_digest(self.recipe)
