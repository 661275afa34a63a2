"""Reliable and efficient concept erasure: UCE, and then what still leads there, found in closed form and erased too."""

from __future__ import annotations

from expunge.training.concepts.files import KEYS_AND_VALUES
from expunge.training.concepts.rece import Search, erased_in_rounds, spectrum
from expunge.training.concepts.uce import Scales
from expunge.training.text_to_image.cross_attention import foretold, keys_and_values, multiplied
from expunge.training.text_to_image.erasing import Erased, EraseJob


class Rece:
    """UCE in rounds (Gong et al. 2024, arXiv 2407.12383): after an edit, the embedding whose keys and values come closest to
    those the concept had (equation 9) is led to the guide as well, and so on.

    Deviations: the embeddings of all rounds stay in one solve from the original weights; every token of a prompt is an
    embedding of its own, as in `uce`; the paper's bound on the change of the weights
    is left to lam. Settings: rounds (1), search (lam of the search, .001), erase_scale (1), preserve_scale (1), lam (.1).

    EMPIRICAL at best, and by itself suppression: R can be inverted, so some embedding leads wherever the concept led.
    Leaves the pooled vector of Stable Diffusion XL as it was, like `uce`. Needs no pictures. Cost: a solve a round,
    milliseconds. Fails like UCE, and sooner: each round moves the neighbours more.
    """

    name = "rece"
    needs: frozenset[str] = frozenset()
    changes = KEYS_AND_VALUES.pattern

    def __init__(
        self,
        *,
        rounds: int = 1,
        search: float = 1e-3,
        erase_scale: float = 1.0,
        preserve_scale: float = 1.0,
        lam: float = 0.1,
    ) -> None:
        self.search = Search(rounds=rounds, lam=search)
        self.scales = Scales(erase=erase_scale, preserve=preserve_scale, lam=lam)

    def erase(self, job: EraseJob) -> Erased:
        """Edit all keys and values of a copy; says how much of the concept each round still found."""
        model = job.model
        gram = spectrum(weight.numpy() for weight in keys_and_values(model.unet, model.width).values())
        away, towards = (model.text.rows(prompts) for prompts in (job.erase, job.guide))
        kept = model.text.rows(job.preserve) if job.preserve else None
        done = erased_in_rounds(gram, away, towards, kept, self.scales, self.search)
        residue = {
            "residue_found_first": float(done.residue[0].max()),
            "residue_found_last": float(done.residue[-1].max()),
        }
        figures = foretold(model, done.edit, kept) | residue
        return Erased(model=multiplied(model, done.edit.factor), figures=figures)
