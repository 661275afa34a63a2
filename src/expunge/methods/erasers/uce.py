"""Unified concept editing: one matrix for all keys and values of the cross-attention."""

from __future__ import annotations

from expunge.training.concepts.files import KEYS_AND_VALUES
from expunge.training.concepts.uce import Scales, edit_of
from expunge.training.text_to_image.cross_attention import foretold, multiplied
from expunge.training.text_to_image.erasing import Erased, EraseJob


class Uce:
    """W = W0 R for all keys and values (Gandikota et al. 2024, arXiv 2308.14761, equation 7), one d x d solve.

    Every token of a prompt is an embedding of its own: those of the erased prompts are led to those of their guides, place by
    place (the official code takes the last token of the subject only, and leaves the end tokens, which sum a prompt up).
    Settings: erase_scale (1), preserve_scale (1), lam (.5).

    EMPIRICAL at best, and by itself suppression: the weights keep the style, and one learned word brings it back
    (`tests/probes` shows it on a model of two colours). Needs no pictures. Cost: milliseconds.
    Stable Diffusion XL has a second way in: its pooled vector goes past the keys and values, and is left as it was.
    Fails on guides that share the erased embeddings, and on scales that leave black pictures.
    """

    name = "uce"
    needs: frozenset[str] = frozenset()
    changes = KEYS_AND_VALUES.pattern

    def __init__(self, *, erase_scale: float = 1.0, preserve_scale: float = 1.0, lam: float = 0.5) -> None:
        self.scales = Scales(erase=erase_scale, preserve=preserve_scale, lam=lam)

    def erase(self, job: EraseJob) -> Erased:
        """Edit all keys and values of a copy; says how far each neighbour's embeddings move."""
        model = job.model
        kept = model.text.rows(job.preserve) if job.preserve else None
        edit = edit_of(model.text.rows(job.erase), model.text.rows(job.guide), kept, self.scales)
        return Erased(model=multiplied(model, edit.factor), figures=foretold(model, edit, kept))
