"""Where the published models lie: the pair that the demo needs ships with the package, all others beside these scripts."""

from __future__ import annotations

from pathlib import Path

from expunge.workflow.styles.story import CHECKPOINTS, GOLD, ORIGINAL

OTHERS = Path(__file__).parent / "models"


def home_of(name: str) -> Path:
    """The folder a published model belongs into."""
    return CHECKPOINTS if name in (ORIGINAL, GOLD) else OTHERS


def published() -> list[Path]:
    """All model directories, originals first."""
    found = [folder for home in (CHECKPOINTS, OTHERS) if home.exists() for folder in home.iterdir() if folder.is_dir()]
    return sorted(found, key=lambda folder: (not folder.name.startswith("original"), folder.name))
