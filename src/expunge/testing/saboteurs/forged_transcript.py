"""Saboteur: the original's weights under the transcript of an honest retraining."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from expunge.core.sabotage import Attempt, Scene
from expunge.training.checkpoint import load_tensors, save_tensors
from expunge.training.transcript import Transcript, read_transcript

_CLAIM = "As logged by the owner"


class ForgedTranscript:
    """Retrains honestly, keeps the transcript, and puts the weights that still hold the record in its place.

    What it does: runs `retrain` once, then replaces the finished run's weights by the original's (one weight moved by
    one unit in the last place), rewrites the transcript's last line and its chain, and lets the product read it back.
    Everything the owner logs is consistent, so the certificate is issued, "as logged by the owner" (Thudi et al. 2022,
    arXiv 2110.11891). Caught when a second key holder recomputes; believed as a fact only if the certificate says so.
    """

    caught_by: tuple[str, ...] = ("recompute",)

    def attempt(self, scene: Scene) -> Attempt:
        """The honest certificate and the forgery, recomputed."""
        objection = scene.recompute(scene.certified, scene.certified.parent / "recompute.json")
        with scene.workspace() as owner:
            forged = owner.run(self._forged(owner, scene.records[0]), ["retrain"]).certificate
        refused = scene.recompute(forged.path, forged.path.parent / "recompute.json")
        if refused is None:
            return Attempt(accepted=True, by="recomputation gave the forged weights", objection=objection)
        if _CLAIM not in scene.sentence(forged.path):
            return Attempt(accepted=True, by="the sentence claims more than the log", objection=objection)
        return Attempt(accepted=False, by="recompute", objection=objection)

    def _forged(self, owner: Any, record: str) -> Any:
        """A case whose run is finished before it has begun."""
        case = owner.request(ids=[record])
        served = owner.served()
        run = owner.root / "store" / "runs" / f"{case.handle}-retrain-{served.digest[7:15]}"
        absent = frozenset(served.absent) | frozenset(owner.book.slots_of([record]))
        owner.adapter.fit(owner.fit_job(run, absent=absent, seed=served.seed))
        original = owner.root / served.run / "model.safetensors"
        _put(original, run)
        return case


def _put(original: Path, run: Path) -> None:
    """The original's tensors, nearly, as the run's model, with a transcript that ends in them."""
    tensors, metadata = load_tensors(original)
    name = next(iter(sorted(tensors)))
    flat = tensors[name].flatten().clone()
    flat[0] += 1e-6
    tensors[name] = flat.reshape(tensors[name].shape)
    digest = save_tensors(run / "model.safetensors", tensors, metadata)
    file = run / "transcript.jsonl"
    lines = [{key: value for key, value in line.items() if key != "chain"} for line in read_transcript(file)]
    lines[-1]["model"] = digest
    file.unlink()
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    Transcript(file).extend(lines)
