"""What every judge of pictures must obey: the same answer for the same picture, no style where there is nothing, and eyes.

A judge that needs nothing is shown the testbed's styles; one that takes `references` is given works in three colours of them,
and a tiny vision model of random weights where it takes `weights` too. Neither has learned from what it is shown here.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from expunge.core import registry
from expunge.core.errors import ExpungeError, InputError
from expunge.data._sample_photos import sample_photos
from expunge.data._styles import STYLES
from expunge.stats.intervals import share_at_most
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.training.judging.calibration import FLOOR
from expunge.training.judging.judge import OTHER, SIDE, Judge, JudgeBlind, Judged, JudgeMissing, Pixels
from expunge.training.text_to_image.libraries import library, quiet

CARD = ("Needs:", "Cost:", "Fails", "Measured:")
_PHOTOS, _REFERENCES, _SHOWN, _GARBAGE = 12, 30, 20, 24
_COLOURS = ("red", "green", "blue")
_SKY = 20.0
"""Grey values: a patch whose pixels have a smaller standard deviation than this shows nothing that a style could be put on."""
_CLOSE = 1e-3
"""Probability that sums over another batch may move, and by which a style must lead to be held to."""
_PLACED = 0.25
"""Share of pictures of nothing that may be given a style."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A judge, how it is made, and pictures whose style is known. `weights`: the folder that it reads; None = it takes none."""

    name: str
    plugin: Any
    settings: dict[str, Any]
    shown: Pixels
    truth: tuple[str, ...]
    weights: Path | None
    folder: Path

    def make(self, **changed: Any) -> Judge:
        """A fresh instance."""
        found: Judge = self.plugin(**{**self.settings, **changed})
        return found

    @property
    def images(self) -> Pixels:
        """The pictures; each law has its own copy, so that what one of them finds does not become another's."""
        return self.shown.copy()

    @cached_property
    def judge(self) -> Judge:
        """One instance for all laws that do not need their own."""
        return self.make()

    @cached_property
    def answer(self) -> Judged:
        """What it says of the pictures."""
        return self.judge.judge(self.images)


# -------------------------------------------------------------------------------------------------------- what is shown


@cache
def painted_photos() -> tuple[Pixels, tuple[str, ...]]:
    """(N, 32, 32, 3) patches of photos, without the sky, in every artist's style, and the style of each."""
    drawn = sample_photos(("photo",), 4 * _PHOTOS, "judges")["photo"]
    photos = np.stack([image for image in drawn if image.std(axis=(0, 1)).max() > _SKY][:_PHOTOS])
    styles = [style for style, known in STYLES.items() if known.artist]
    images = [STYLES[style].paint(image, f"suite/{row}") for style in styles for row, image in enumerate(photos)]
    return np.stack(images), tuple(style for style in styles for _ in photos)


def coloured(each: int, seed: int) -> dict[str, Pixels]:
    """Style -> (each, 32, 32, 3) noisy pictures in which one of three colours is the brightest."""
    generator = np.random.Generator(np.random.Philox(seed))
    found = {}
    for channel, style in enumerate(_COLOURS):
        images = generator.integers(0, 90, (each, SIDE, SIDE, 3))
        images[..., channel] += 120
        found[style] = images.astype(np.uint8)
    return found


def nothing() -> Pixels:
    """Plain pictures from black to white, and as many of noise."""
    generator = np.random.Generator(np.random.Philox(3))
    flat = np.linspace(0, 255, _GARBAGE).astype(np.uint8)[:, None, None, None]
    noise = generator.integers(0, 256, (_GARBAGE, SIDE, SIDE, 3)).astype(np.uint8)
    return np.concatenate([np.broadcast_to(flat, noise.shape), noise])


def tiny_vision(folder: Path) -> Path:
    """A CLIP vision model of two layers with random weights, as a folder."""
    texts = library("transformers")
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        config = texts.CLIPVisionConfig(**settings, image_size=SIDE, patch_size=8, projection_dim=16)
        texts.CLIPVisionModel(config).save_pretrained(folder)
    return folder


def subject_of(plugin: Any, name: str, folder: Path) -> Subject:
    """The judge with what it takes, and the pictures that it is shown."""
    takes = inspect.signature(plugin).parameters
    settings: dict[str, Any] = {}
    if "references" in takes:
        settings["references"] = coloured(_REFERENCES, seed=1)
        if "weights" in takes:
            settings["weights"] = tiny_vision(folder / "vision")
        shown = coloured(_SHOWN, seed=2)
        images, truth = np.concatenate(list(shown.values())), tuple(s for s, found in shown.items() for _ in found)
    else:
        images, truth = painted_photos()
    own = getattr(plugin(**settings), "folder", None) if "weights" in takes else None
    weights = settings.get("weights", own)
    return Subject(
        name=name, plugin=plugin, settings=settings, shown=images, truth=truth, weights=weights, folder=folder
    )


# ------------------------------------------------------------------------------------------------------------- the laws


def card_says_needs_cost_failure_and_what_was_measured(subject: Subject) -> str | None:
    """A reader of the evidence must find out what it was shown, and where it does not see."""
    missing = [word for word in CARD if word not in (subject.plugin.__doc__ or "")]
    return f"the card lacks {', '.join(missing)}" if missing else has_card(subject.plugin)


def is_a_judge_of_its_name(subject: Subject) -> str | None:
    """The registered name, a family of evidence, and styles without repetition of which one is for nothing."""
    judge = subject.judge
    if not isinstance(judge, Judge) or judge.name != subject.name or not judge.family:
        return f"{type(judge).__name__} is named {getattr(judge, 'name', None)!r}, of family {judge.family!r}"
    styles = judge.styles
    return None if OTHER in styles and len({*styles}) == len(styles) > 2 else f"its styles are {styles!r}"[:200]


def digest_is_the_same_whenever_it_is_asked(subject: Subject) -> str | None:
    """`sha256:` and 64 hex digits, of every instance that is made alike, before and after it has judged."""
    before = subject.make()
    _ = subject.answer
    found = {before.digest, before.digest, subject.judge.digest, subject.make().digest}
    whole = all(
        len(one) == 71 and one.startswith("sha256:") and not set(one[7:]) - set("0123456789abcdef") for one in found
    )
    return None if whole and len(found) == 1 else f"digests: {', '.join(sorted(found))}"


def other_weights_are_refused_or_have_another_digest(subject: Subject) -> str | None:
    """One number of the weights is another: it raises, or nobody takes it for the judge that was."""
    if subject.weights is None:
        return None
    folder = Path(shutil.copytree(subject.weights, subject.folder / "changed", dirs_exist_ok=True))
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        weight = next(tensor for tensor in tensors.values() if tensor.is_floating_point() and tensor.numel() > 1)
        weight.view(-1)[0] += 1.0
        save_file(tensors, file, metadata={"format": "pt"})
    try:
        changed = subject.make(weights=folder)
        changed.judge(subject.images[:1])
    except ExpungeError:
        return None
    return "other weights, and the same digest" if changed.digest == subject.judge.digest else None


def missing_weights_are_missing(subject: Subject) -> str | None:
    """JudgeMissing, and never random numbers in their place."""
    if subject.weights is None:
        return None
    try:
        subject.make(weights=subject.folder / "nowhere").judge(subject.images[:1])
    except JudgeMissing:
        return None
    return "it judged without its weights"


def answers_are_about_these_pictures(subject: Subject) -> str | None:
    """A style of its own for each, under its own name; the style is the likeliest; none for none."""
    found, judge = subject.answer, subject.judge
    if (found.judge, found.family, found.styles) != (judge.name, judge.family, judge.styles):
        return f"the answer is of {found.judge} ({found.family}), with {len(found.styles)} styles"
    if len(found) != len(subject.shown) or found.style.dtype != np.int64:
        return f"{len(found)} answers of {found.style.dtype} about {len(subject.shown)} pictures"
    if found.shares is not None and not np.array_equal(found.shares.argmax(axis=1), found.style):
        return "the style is not the one with the largest probability"
    if (found.things is None) != (not found.objects):
        return "objects without probabilities, or probabilities without objects"
    return None if len(judge.judge(subject.images[:0])) == 0 else "it answers about no pictures"


def same_pictures_same_answer(subject: Subject) -> str | None:
    """To the last bit, from one instance and from another."""
    again = [judge.judge(subject.images) for judge in (subject.judge, subject.make())]
    return None if all(_same(subject.answer, one) for one in again) else "the same pictures were answered otherwise"


def a_picture_is_judged_alike_in_any_order_and_alone(subject: Subject) -> str | None:
    """Or a judge of a thousand pictures would not be the one that was calibrated on others."""
    backwards = subject.judge.judge(subject.images[::-1])
    if not _alike(subject.answer, backwards, np.arange(len(subject.shown))[::-1]):
        return "another order gives other answers"
    some = np.arange(0, len(subject.shown), 7)
    alone = [subject.judge.judge(subject.images[row : row + 1]) for row in some]
    return (
        None
        if all(_alike(one, subject.answer, [row]) for row, one in zip(some, alone, strict=True))
        else "alone it is another"
    )


def pictures_it_was_given_stay(subject: Subject) -> str | None:
    """They are evidence."""
    given = subject.images
    subject.judge.judge(given)
    return None if np.array_equal(given, subject.shown) else "it has changed the pictures"


def what_is_no_picture_is_refused(subject: Subject) -> str | None:
    """Floats, NaN among them, one picture without a row for it, grey and four channels, and what is not square: InputError."""
    one = subject.images[:2]
    wrong: dict[str, NDArray[Any]] = {
        "floats": one.astype(np.float32) / 255,
        "no numbers": np.full(one.shape, np.nan, np.float32),
        "a picture alone": one[0],
        "grey": one[..., 0],
        "four channels": np.concatenate([one, one[..., :1]], axis=3),
        "not square": one[:, : SIDE - 1],
    }
    for words, images in wrong.items():
        try:
            subject.judge.judge(images)
        except InputError:
            continue
        return f"{words}: judged"
    return None


def what_shows_nothing_is_no_style(subject: Subject) -> str | None:
    """Black, white, grey and noise are "none of these": a sink among the styles would call a ruined model somebody's."""
    images = nothing()
    found = subject.judge.judge(images)
    placed = int((~found.says(OTHER)).sum())
    return None if placed <= _PLACED * len(images) else f"{placed} of {len(images)} pictures of nothing are in a style"


def styles_are_seen_in_pictures_it_has_not_learned_from(subject: Subject) -> str | None:
    """No style is never seen, and the share of all is not shown (95 %) to lie below the floor under which no judge may speak."""
    said = np.array([subject.answer.styles[number] for number in subject.answer.style])
    right = said == np.array(subject.truth)
    never = sorted({style for style in subject.truth if not right[np.array(subject.truth) == style].any()})
    if never:
        return f"blind to {', '.join(never)}"
    hits = int(right.sum())
    return None if share_at_most(hits, len(right)) >= FLOOR else f"{hits} of {len(right)} styles are seen"


def references_that_differ_in_nothing_blind_it(subject: Subject) -> str | None:
    """Two styles with works of one kind: a judge that goes by references says JudgeBlind, and does not guess."""
    if "references" not in subject.settings:
        return None
    alike = coloured(2 * _REFERENCES, seed=5)["red"]
    try:
        subject.make(references={"even": alike[::2], "odd": alike[1::2]}).judge(subject.images[:1])
    except JudgeBlind:
        return None
    return "it tells styles apart that are one"


def global_state_is_left_alone(subject: Subject) -> str | None:
    """Neither the random numbers of the process nor its threads are touched, nor is gradient mode."""

    def state() -> tuple[Any, ...]:
        kept = str(np.random.get_state(legacy=False))  # noqa: NPY002
        return torch.get_rng_state().tolist(), kept, torch.get_num_threads(), torch.is_grad_enabled()

    before = state()
    subject.make().judge(subject.images[:4])
    return None if state() == before else "global random numbers, threads or gradient mode have changed"


def _same(first: Judged, second: Judged) -> bool:
    pairs = ((first.style, second.style), (first.shares, second.shares), (first.things, second.things))
    return all(np.array_equal(a, b) if a is not None and b is not None else a is b for a, b in pairs)


def _alike(first: Judged, second: Judged, rows: Any) -> bool:
    """Whether `first` says of its pictures what `second` says of these rows, but for sums in another order."""
    if first.shares is None or second.shares is None:
        return np.array_equal(first.style, second.style[rows])
    shares = np.sort(first.shares, axis=1)
    sure = shares[:, -1] - shares[:, -2] > _CLOSE
    near = bool(np.abs(first.shares - second.shares[rows]).max(initial=0.0) <= _CLOSE)
    return near and np.array_equal(first.style[sure], second.style[rows][sure])


JUDGE_LAWS: tuple[Law[Subject], ...] = (
    card_says_needs_cost_failure_and_what_was_measured,
    is_a_judge_of_its_name,
    digest_is_the_same_whenever_it_is_asked,
    other_weights_are_refused_or_have_another_digest,
    missing_weights_are_missing,
    answers_are_about_these_pictures,
    same_pictures_same_answer,
    a_picture_is_judged_alike_in_any_order_and_alone,
    pictures_it_was_given_stay,
    what_is_no_picture_is_refused,
    what_shows_nothing_is_no_style,
    styles_are_seen_in_pictures_it_has_not_learned_from,
    references_that_differ_in_nothing_blind_it,
    global_state_is_left_alone,
)


def check_judge(name: str) -> None:
    """Hold the registered judge `name` to every law."""
    require("judges", name, examine_judge(registry.load("judges", name), name=name))


def examine_judge(plugin: Any, *, name: str, laws: Sequence[Law[Subject]] = JUDGE_LAWS) -> tuple[Broken, ...]:
    """The broken laws of a judge's class."""
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        return examine(laws, subject_of(plugin, name, Path(folder)))
