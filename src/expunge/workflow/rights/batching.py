"""Accepted style edits wait for a window and are solved together: n artists are one solve (`training.concepts.uce`).

Edits add up. When their number or what they cost others reaches the policy's cap, the answer is a retraining: another
edit would take from those who asked for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from expunge.core.errors import InputError
from expunge.workflow.rights.appeal import HeldOut, check_held_out
from expunge.workflow.rights.facts import Load
from expunge.workflow.rights.policy import RightsPolicy

if TYPE_CHECKING:
    from expunge.training.text_to_image.erasing import EraseJob
    from expunge.training.text_to_image.sampler import TextToImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A granted style edit, under its pseudonym. loss: upper limit of what this edit alone cost retained styles when it was tried
    on a copy (0 to 1)."""

    request: str
    accepted: datetime
    loss: float

    def __post_init__(self) -> None:
        if self.accepted.tzinfo is None:
            raise InputError("accepted at a time with a zone", got=self.accepted.isoformat())
        if not -1 <= self.loss <= 1:
            raise InputError("a loss is a share", got=str(self.loss))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Waiting):
    """The same with its words. erase: prompts that name the style; guide: what each should lead to."""

    erase: tuple[str, ...]
    guide: tuple[str, ...]

    def __post_init__(self) -> None:
        Waiting.__post_init__(self)
        if not self.erase or len(self.erase) != len(self.guide):
            raise InputError("a guide for every prompt to erase", got=f"{len(self.erase)} and {len(self.guide)}")


W = TypeVar("W", bound=Waiting)


class Answer(Enum):
    """What a window says."""

    WAIT = "wait"
    EDIT = "edit"
    RETRAIN = "retrain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[W]):
    """What to do now. `batch`: requests of this solve; `left`: those that wait on, or wait for the retraining."""

    answer: Answer
    batch: tuple[W, ...] = ()
    left: tuple[W, ...] = ()
    reason: str = ""


def ends(waiting: Sequence[Waiting], policy: RightsPolicy) -> datetime | None:
    """When the window closes: so many days after the oldest request in it was accepted."""
    oldest = min((one.accepted for one in waiting), default=None)
    return None if oldest is None else oldest + timedelta(days=policy.limits.window_days)


def next_step(waiting: Sequence[W], load: Load, policy: RightsPolicy, now: datetime) -> Step[W]:
    """Pure. Waits until the window ends or is full; then the oldest go together, if the caps have room for all of them, and
    otherwise the model is retrained without all who wait. Losses are added up: that no two edits harm the same neighbour would
    have to be measured."""
    queue = tuple(sorted(waiting, key=lambda one: (one.accepted, one.request)))
    twice = len({one.request for one in queue}) != len(queue)
    if twice:
        raise InputError("a request waits twice in one window")
    limits, closing = policy.limits, ends(queue, policy)
    full = len(queue) >= limits.window_size
    if closing is None or (now < closing and not full):
        return Step(answer=Answer.WAIT, left=queue, reason="" if closing is None else f"until {closing.isoformat()}")
    batch, left = queue[: limits.window_size], queue[limits.window_size :]
    problem = over(load, batch, policy)
    if problem:
        return Step(answer=Answer.RETRAIN, left=queue, reason=problem)
    return Step(answer=Answer.EDIT, batch=batch, left=left, reason="the window is full" if full else "the window ended")


def over(load: Load, batch: Sequence[Waiting], policy: RightsPolicy) -> str:
    """Why these edits are too many on top of what there is; empty = they are not."""
    edits, lost = load.edits + len(batch), after(load, batch).lost
    if edits > policy.limits.edits:
        return f"{edits} edits since the last training; {policy.limits.edits} are allowed"
    if lost > policy.limits.cumulative_loss:
        return f"others would have lost up to {lost:.1%}; {policy.limits.cumulative_loss:.0%} is allowed"
    return ""


def after(load: Load, batch: Sequence[Waiting]) -> Load:
    """The load once these edits are made. An edit that seems to help others buys nothing for the next."""
    lost = load.lost + sum(max(0.0, one.loss) for one in batch)
    return Load(edits=load.edits + len(batch), lost=min(1.0, lost))


def job_of(
    batch: Sequence[Accepted],
    model: TextToImage,
    preserve: Sequence[str],
    *,
    seed: str,
    held_out: Sequence[HeldOut],
) -> EraseJob:
    """One job for the whole batch. Raises InputError where one artist's prompt is to be kept for another, and where a prompt
    is a claimant's held-out probe: what tests an edit may not make it."""
    from expunge.training.text_to_image.erasing import EraseJob

    pairs = [(prompt, guide) for one in batch for prompt, guide in zip(one.erase, one.guide, strict=True)]
    guides: dict[str, str] = {}
    for prompt, guide in pairs:
        if guides.setdefault(prompt, guide) != guide:
            raise InputError("one prompt is to lead to two guides", got=prompt[:80])
    both = sorted(set(guides) & set(preserve))
    if both:
        raise InputError("a prompt is to be erased and kept", got=both[0][:80])
    check_held_out((*guides, *guides.values(), *preserve), (), held_out)
    return EraseJob(model=model, erase=tuple(guides), guide=tuple(guides.values()), preserve=tuple(preserve), seed=seed)
