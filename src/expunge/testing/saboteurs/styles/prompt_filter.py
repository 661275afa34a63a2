"""Saboteur: the model stays, and a filter in front of it takes the name out of every prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from torch import Tensor

from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over
from expunge.training.text_to_image.sampler import TextToImage


class PromptFilter:
    """Whoever asks for the artist is asked for somebody else instead, before any word is encoded.

    What it does: nothing to the files. The serving process replaces the names, as filters of deployed services do.
    Fails when: the file itself is loaded, or its digest is compared; and when a word is learned that no list holds.
    """

    name = "prompt_filter"
    claims = "the service no longer draws the style"
    caught_by: tuple[str, ...] = ("weights", "direct")

    def sabotage(self, scene: StyleScene) -> Offered:
        """The original's files, byte for byte, and a process that answers otherwise."""
        model = scene.job.model
        own = {item.name: getattr(model, item.name) for item in fields(TextToImage)}
        return Offered(
            directory=handed_over(scene.original, scene.target), served=_Filtered(words=dict(scene.words), **own)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Filtered(TextToImage):
    """Says other words than it was told."""

    words: Mapping[str, str] = field(default_factory=dict)

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Token numbers of the prompts with every name replaced."""
        told = []
        for prompt in prompts:
            for name, instead in self.words.items():
                prompt = prompt.replace(name, instead)
            told.append(prompt)
        return super().tokens(told)
