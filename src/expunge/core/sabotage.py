"""Saboteurs: cheats that the verifier must catch, tried on it before it is trusted (VERDICTS section 6).

A sabotaged method is an Unlearner that lies; it runs in the X arm and as the served file like any other, but it is
registered under `saboteurs`, so that no planner offers it; a plan names it in full, `saboteurs/no_op`. A sabotaged
process is an owner who cheats around the method; it acts in a Scene.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from expunge.core.errors import InputError
from expunge.core.protocols import Unlearner, UnlearnJob

PREFIX = "saboteurs/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of a cheat. `accepted`: somebody was made to believe it. `by` names what refused it, or let it pass.

    A scene that does not work proves nothing: `objection` is what was said against the honest twin of the same act,
    None = it was accepted.
    """

    accepted: bool
    by: str
    objection: str | None

    def __post_init__(self) -> None:
        if not self.by:
            raise InputError("an attempt names what caught it, or what let it pass")

    @property
    def control(self) -> bool:
        """Whether the honest twin was accepted, without which the attempt shows nothing."""
        return self.objection is None


@runtime_checkable
class SabotagedMethod(Unlearner, Protocol):
    """An unlearner that cheats. `caught_by` names the checks expected to catch it; () = honest, a placebo."""

    caught_by: tuple[str, ...]


class Scene(Protocol):
    """A throw-away workspace with a trained model, in which a cheating owner may do anything; and who judges them.

    The owner holds `folder`: keys, log, policy, files. The relying party holds its own copy of roots and policy from
    before the cheat, and its own copy of the retained data. One record was deleted honestly before the scene began:
    `certified` is its bundle, `requester` the receipt its requester took home. `records` are still there.
    """

    folder: Path
    records: tuple[str, ...]
    certified: Path
    requester: Path

    def workspace(self) -> AbstractContextManager[Any]:
        """The opened workspace, with the Python API that any owner has."""

    def verify(
        self, bundle: Path | bytes, *, model: str | None = None, receipt: Path | None = None, **stricter: float
    ) -> str | None:
        """None when the relying party accepts the bundle; otherwise the first failed step and why.

        `model` is the tensor root of the file at hand, `receipt` the requester's own; `stricter` replaces limits of the
        relying party's policy.
        """

    def recompute(self, bundle: Path, package: Path) -> str | None:
        """None when a second key holder gets the same weights and co-signs; otherwise why not."""

    def sentence(self, bundle: Path) -> str:
        """What a certificate says."""

    def sign(self, payload: bytes) -> Any:
        """The owner's own envelope, with both of its keys, over a statement of its making."""


@runtime_checkable
class SabotagedProcess(Protocol):
    """A cheat around the method: with logs, certificates, policies or seeds."""

    caught_by: tuple[str, ...]

    def attempt(self, scene: Scene) -> Attempt:
        """Act it out, with its honest twin as the control."""


def serving(name: str, method: Any, adapter: Any, job: UnlearnJob) -> Any:
    """What answers for the new file: the adapter, unless a saboteur puts something in front of it (`adapter_of`).

    Only a saboteur may: for any other method the file itself is asked.
    """
    hook = getattr(method, "adapter_of", None) if name.startswith(PREFIX) else None
    return adapter if hook is None else hook(adapter, job)
