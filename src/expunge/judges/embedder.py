"""A style embedder of the user's own (CSD, CLIP, DINO), read out against neighbours and never as a raw cosine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from expunge.core.codec import digest_of
from expunge.data._pictures import picture_digest
from expunge.stats.csls import Corpus, corpus_of, gaps, own_scores, style_scores
from expunge.stats.intervals import Bounds, clopper_pearson, standardised_mean
from expunge.training.judging.embedding import Embedding, open_embedding
from expunge.training.judging.judge import OTHER, JudgeBlind, Judged, JudgeMissing, Pixels, check_pixels

_FEWEST = 20
_LOWEST = 0.01


class Embedder:
    """Nearest style by CSLS (Conneau et al. 2018, arXiv 1710.04087, section 2.3) among works of the style and of neighbours.

    A raw cosine is not calibrated: with CSD's weights 23 of 91 artists had a negative same-against-different gap, with CSLS
    4 (arXiv 2605.09030). So a picture is held against works of every style at once, and the corpus is asked first, with each
    work left out, whether the embedding tells its styles at all: where it does not, JudgeBlind.

    Needs: weights, a folder with a CLIP, SigLIP or DINOv2 vision model in safetensors, read locally and without any code;
    references, 20 works or more of the style and of each neighbour, none of which the model under test made; k (10).
    "None of these": nearer to no style than all but 1 % of that style's own works are. Says nothing of objects.
    Cost: one pass of the vision model a picture. Fails where neighbours are missing: the nearest of few is still the nearest.
    Measured: nothing but the readout; on a random CLIP of 2 layers (n = 1, tests) colours are told apart and stripes are none
    of these.
    """

    name = "embedder"
    family = "embedding"

    def __init__(
        self, *, weights: Path | None = None, references: Mapping[str, Pixels] | None = None, k: int = 10
    ) -> None:
        self.weights, self.references, self.k = weights, dict(references or {}), k

    @property
    def styles(self) -> tuple[str, ...]:
        """The references' styles and "none of these"."""
        return (*self.references, OTHER)

    @property
    def digest(self) -> str:
        """Of every file of the model, of all references, and k."""
        works = {
            style: [picture_digest("", image) for image in pictures] for style, pictures in self.references.items()
        }
        return digest_of([self.name, self._embedding.digest, works, self.k])

    @cached_property
    def _embedding(self) -> Embedding:
        return open_embedding(self.weights)

    @cached_property
    def _corpus(self) -> Corpus:
        few = [style for style, pictures in self.references.items() if len(pictures) < _FEWEST]
        if len(self.references) < 2 or few or OTHER in self.references:
            raise JudgeMissing(
                "the embedding judge needs works of the style and of neighbours",
                expected=f"2 styles or more, {_FEWEST} works each",
                got=", ".join(few) or f"{len(self.references)} styles",
            )
        found = [self._embedding.of(check_pixels(pictures, None)) for pictures in self.references.values()]
        numbers = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
        return corpus_of(np.concatenate(found), numbers, self.k)

    def discrimination(self) -> dict[str, tuple[Bounds, Bounds]]:
        """Style -> (mean gap over its works in their SDs, share of its works with a gap above 0), 95 % intervals. The gap is
        how much nearer a work, left out, is to its own style than to the next: a number of this corpus only."""
        corpus, margins = self._corpus, gaps(self._corpus)
        found = {}
        for number, style in enumerate(self.references):
            own = margins[corpus.style == number]
            told = clopper_pearson(int((own > 0).sum()), len(own))
            found[style] = (standardised_mean(own, own, alpha=0.025), told)
        return found

    def _require_gaps(self) -> None:
        blind = [
            f"{style} ({told.estimate:.2f} told)"
            for style, (gap, told) in self.discrimination().items()
            if gap.low is None or gap.low <= 0
        ]
        if blind:
            raise JudgeBlind(
                f"the embedding does not tell {', '.join(blind)} from the other references",
                expected="each work nearer to its own style than to the next, on average (95 %)",
                hint="use another embedder, or other neighbours and more works",
            )

    @cached_property
    def _lowest(self) -> np.ndarray:
        """(S,) the score that all but 1 % of a style's own works reach."""
        scores, corpus = own_scores(self._corpus), self._corpus
        rows = [scores[corpus.style == number, number] for number in range(corpus.styles)]
        return np.array([np.quantile(own, _LOWEST) for own in rows])

    def judge(self, pictures: Pixels) -> Judged:
        """The nearest style of each picture. Raises JudgeMissing without weights or references, JudgeBlind without gaps."""
        self._require_gaps()
        check_pixels(pictures, None)
        best = np.zeros(0, np.int64)
        if len(pictures):
            scores = style_scores(self._corpus, self._embedding.of(pictures))
            best = scores.argmax(axis=1).astype(np.int64)
            best[scores[np.arange(len(best)), best] < self._lowest[best]] = len(self.references)
        return Judged(judge=self.name, family=self.family, styles=self.styles, style=best)
