"""A sheet of samples for somebody who is no engineer: the same prompts and the same noise, drawn by each model in turn.

A sheet shows, and proves nothing: what counts is counted in the battery. It holds what the original draws by the artist's
name, so it leaves the store with the certificate.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.evidence.durable import write_file
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.sampler import Sampling, TextToImage

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

FILE = "sheet.json"
NEIGHBOURS = 3


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One row: what was asked for, in words that name nobody, and the prompts."""

    words: str
    prompts: tuple[str, ...]


def sheet_of(models: Mapping[str, TextToImage], rows: Sequence[Asked], how: Sampling) -> dict[str, Any]:
    """columns: the models' labels; rows: the words and a strip of pictures a model, as PNG in base64."""
    drawn = []
    for number, row in enumerate(rows):
        noise = Sampling(seed=derive_seed(how.seed, "sheet", number), steps=how.steps, guidance=how.guidance)
        strips = [strip(model.sample(list(row.prompts), noise)) for model in models.values()]
        drawn.append({"words": row.words, "strips": strips})
    return {"columns": list(models), "rows": drawn}


def strip(images: NDArray[np.uint8]) -> str:
    """N pictures (N, S, S, 3) side by side, as PNG in base64."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.concatenate(list(images), axis=1)).save(stream, format="PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def keep_sheet(folder: Path, sheet: Mapping[str, Any]) -> None:
    """Beside the candidate's weights, until a report has it."""
    write_file(folder / FILE, json.dumps(sheet).encode(), mode=0o600)


def kept_sheet(workspace: Workspace, run: str) -> Mapping[str, Any] | None:
    """The sheet of a run, if one was drawn."""
    file = workspace.root / run / FILE
    found: Mapping[str, Any] | None = json.loads(file.read_bytes()) if file.exists() else None
    return found


def drop_sheet(workspace: Workspace, run: str) -> None:
    """Take it out of the store: the report has it now."""
    (workspace.root / run / FILE).unlink(missing_ok=True)
