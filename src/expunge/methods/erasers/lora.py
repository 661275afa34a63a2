"""A low-rank adapter that leads a concept away, and can be taken off again."""

from __future__ import annotations

from expunge.core.errors import InputError
from expunge.training.text_to_image.adapter import ADDED, merged, with_adapter
from expunge.training.text_to_image.erasing import Erased, EraseJob
from expunge.training.text_to_image.matching import leading
from expunge.training.text_to_image.tuning import ATTENTION, Tuning, figures_of, tuned


class Lora:
    """Low-rank additions to the linear layers of attn2 (Hu et al. 2022, arXiv 2106.09685, equation 3), trained until the
    erased prompts are answered as the frozen model answers their guides; what is published as removable "eraser" adapters
    (SPM, Lyu et al. 2024, arXiv 2312.16145) without its gate.

    The objective is that of `concept_ablation`. The weights underneath are the original's, byte for byte: the edit is as
    deep as a file that somebody may leave out. Settings: rank (4), scale (1), steps (200), lr (.003, for small models),
    batch (8), pictures (64), preserve_scale (1).

    EMPIRICAL at best, and suppression by construction: `removable` says "adapter", and without it the model is what it was.
    Needs no pictures: it draws them. Cost: as `concept_ablation`, with a file of a few per cent of the weights.
    Fails whenever the adapter is not loaded.
    """

    name = "lora"
    needs: frozenset[str] = frozenset()
    changes = r"\A(?!)"  # nothing underneath

    def __init__(
        self,
        *,
        rank: int = 4,
        scale: float = 1.0,
        steps: int = 200,
        lr: float = 3e-3,
        batch: int = 8,
        pictures: int = 64,
        preserve_scale: float = 1.0,
    ) -> None:
        if not (1 <= rank <= 1024 and 0 < scale <= 100):
            raise InputError("settings out of range", expected="rank 1..1024, scale 0..100", got=f"{rank}, {scale}")
        self.tuning = Tuning(steps=steps, lr=lr, batch=batch)
        self.rank, self.scale, self.pictures, self.preserve_scale = rank, scale, pictures, preserve_scale

    def erase(self, job: EraseJob) -> Erased:
        """Tune additions to a copy's cross-attention; the copy keeps them apart from the weights."""
        model = job.model
        unet = with_adapter(model.unet, ATTENTION, self.rank, self.scale, job.seed)
        loss = leading(job, self.pictures, self.preserve_scale, self.tuning.batch)
        done = tuned(model.with_unet(unet), loss, self.tuning, changes=ADDED, progress=job.progress)
        figures = figures_of(model, model.with_unet(merged(done.model.unet)), done.losses)
        added = sum(weight.numel() for name, weight in unet.named_parameters() if name.endswith((".up", ".down")))
        return Erased(
            model=done.model, figures={**figures, "numbers_in_the_adapter": float(added)}, removable="adapter"
        )
