"""The honest story whose bundle the attacks change."""

from __future__ import annotations

from pathlib import Path

import pytest

from attack.bundles import check
from evidence.story import Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    story = Story(tmp_path / "s")
    story.tell()
    assert check(story).ok
    return story
