"""The demonstration stories: a workspace, a model, a bank, and deletions with their honest verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expunge.core.errors import InputError, NotErased
from expunge.core.protocols import Progress, silent
from expunge.training.precision import suited
from expunge.training.recipe import AnyRecipe, load_recipe
from expunge.workflow.choose import Choice, choose
from expunge.workflow.pipeline import Outcome
from expunge.workflow.policy import DEFAULT
from expunge.workflow.red_team import Victim, user_of
from expunge.workflow.selftest.gate import latest
from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One request of a story. `methods` restricts the candidates; empty = all.

    `chosen` is `typical` or `atypical`, the record that was picked on models that never judge; or, of users, `median`,
    `largest` (by activity) or `readable` (whose whole history the weights give away).
    """

    title: str
    ids: tuple[str, ...] = ()
    block: str | None = None
    methods: tuple[str, ...] = ()
    chosen: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A story before it is played. `estimate` is what the user is told before it starts."""

    title: str
    estimate: str
    config: Mapping[str, Any]
    recipe: AnyRecipe
    deletions: tuple[Deletion, ...]
    images_per_step: int
    resumable: bool = False
    policy: str = DEFAULT
    choose_class: str | None = None
    choose_pairs: int = 0
    selftest: str = "quick"
    prepare: Callable[[Workspace], None] | None = None
    red_team: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A deletion as it came out: an outcome, or the reason why nothing was released."""

    title: str
    outcome: Outcome | None
    refusal: str = ""
    trials: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()


def digits_story() -> Story:
    """20 planted canaries as one block, then one natural digit, on scikit-learn's embedded digits."""
    recipe = load_recipe("digits")
    return Story(
        title="expunge demo: scikit-learn digits, 1,437 training records of which 20 are planted canaries",
        estimate="under 90 s on 2 cores: train, 32 bank models and 40 anchors, three deletions",
        config={
            "data": {"source": "digits", "options": {"canaries": 20, "surrogates": 20}},
            "bank": {"pairs": 16, "anchors": 40, "monitored": ("surrogate", "canary")},
            "owner": {"name": "demo"},
        },
        recipe=recipe,
        deletions=(
            Deletion(
                title="fine-tuning the canary block away (a saboteur: must not certify)",
                block="canary",
                methods=("finetune",),
            ),
            Deletion(title="the canary block, 20 mislabelled records", block="canary"),
            Deletion(title="one natural digit", ids=("train/7/0007",)),
        ),
        images_per_step=recipe.batch,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of CIFAR-10 a story uses: training images (None = all), pairs that judge and that choose, anchors."""

    images: int | None
    pairs: int
    choosing: int
    anchors: int
    estimate: str


SIZES: Mapping[str, Size] = {
    "short": Size(images=10_000, pairs=12, choosing=4, anchors=0, estimate="20 minutes"),
    "medium": Size(images=15_000, pairs=24, choosing=6, anchors=40, estimate="2 hours"),
    "full": Size(images=None, pairs=24, choosing=8, anchors=40, estimate="5 hours"),
}


def cifar10_story(data: Path | None, *, size: str) -> Story:
    """A typical and an atypical automobile of CIFAR-10, at one of SIZES.

    Without `data` the archive is downloaded once, checked against its known SHA-256, and cached. Raises InputError on
    an unknown size.
    """
    if size not in SIZES:
        raise InputError("unknown size", expected=", ".join(SIZES), got=size)
    recipe, changed = suited(load_recipe("cifar10-w16"))
    scale = SIZES[size]
    options: dict[str, Any] = {} if scale.images is None else {"limit": scale.images}
    return Story(
        title=f"expunge demo: one CIFAR-10 automobile, {scale.images or 50_000:,} training images",
        estimate=f"{scale.estimate} or so on 2 quiet cores with bf16{f' ({changed})' if changed else ''}; "
        "an interrupted run continues where it was",
        config={
            "data": {"source": "cifar10", "path": str(data.resolve()) if data else None, "options": options},
            "bank": {"pairs": scale.pairs, "anchors": scale.anchors},
            "owner": {"name": "demo"},
        },
        recipe=recipe,
        deletions=(
            Deletion(
                title="fine-tuning the atypical automobile: must not certify",
                chosen="atypical",
                methods=("finetune",),
            ),
            Deletion(title="the atypical automobile", chosen="atypical"),
            Deletion(
                title="fine-tuning the typical automobile: must not certify",
                chosen="typical",
                methods=("finetune",),
            ),
            Deletion(title="the typical automobile", chosen="typical"),
        ),
        images_per_step=recipe.batch,
        resumable=True,
        policy=DEFAULT.replace("margin: 0.2 ", "margin: 0.3 "),
        choose_class="automobile",
        choose_pairs=scale.choosing,
    )


def play(story: Story, folder: Path, progress: Progress = silent) -> list[Chapter]:
    """Carry a story through; does only what an earlier, interrupted run did not."""
    with _workspace(story, folder, progress) as workspace:
        state = workspace.state()
        if state.model is None:
            workspace.train()
        if story.prepare is not None:
            story.prepare(workspace)
        choice = None
        if story.choose_class is not None:
            choice = choose(workspace, label=story.choose_class, pairs=story.choose_pairs)
        if not state.banks and workspace.policy.kind == "classifier":
            workspace.bank(monitored=_blocks(workspace, choice))
        if latest(workspace) is None:
            workspace.selftest(story.selftest)
        return [_told(workspace, story, deletion, choice) for deletion in story.deletions]


def _blocks(workspace: Workspace, choice: Choice | None) -> tuple[str, ...]:
    return () if choice is None else tuple(workspace.book.blocks[slot] for slot in (choice.typical, choice.atypical))


def _workspace(story: Story, folder: Path, progress: Progress) -> Workspace:
    if (folder / "expunge.toml").exists():
        return Workspace.open(folder, progress=progress)
    return Workspace.create(folder, config=story.config, recipe=story.recipe, policy=story.policy, progress=progress)


def _told(workspace: Workspace, story: Story, deletion: Deletion, choice: Choice | None) -> Chapter:
    """One chapter, with the weights attacked before and after it if the story is about that."""
    try:
        ids = _ids(workspace, deletion, choice)
    except InputError as refusal:
        return Chapter(title=deletion.title, outcome=None, refusal=refusal.message)
    if not (story.red_team and deletion.chosen == "readable" and ids):
        return _delete(workspace, deletion, ids)
    attack = Victim(workspace, ids[0])
    before = attack.read()
    chapter = _delete(workspace, deletion, ids)
    return replace(chapter, notes=(before, attack.read()))


def _ids(workspace: Workspace, deletion: Deletion, choice: Choice | None) -> tuple[str, ...]:
    """Whom the request names; a record that an interrupted run already erased is told as such."""
    if deletion.chosen is None:
        return deletion.ids
    if choice is None:
        return (user_of(workspace, deletion.chosen),)
    name = workspace.book.ids[getattr(choice, deletion.chosen)]
    if name is None:
        raise InputError("an earlier run has already erased this record")
    return (name,)


def _delete(workspace: Workspace, deletion: Deletion, ids: tuple[str, ...]) -> Chapter:
    try:
        case = workspace.request(ids=ids, block=deletion.block)
        outcome = workspace.run(case, deletion.methods)
        return Chapter(title=deletion.title, outcome=outcome, trials=outcome.trials)
    except NotErased as refusal:
        return Chapter(
            title=deletion.title, outcome=None, refusal=refusal.got or refusal.message, trials=refusal.trials
        )
    except InputError as refusal:
        said = f"{refusal.message} ({refusal.hint})" if refusal.code == "not_present" else refusal.message
        return Chapter(title=deletion.title, outcome=None, refusal=said)
