"""A trained recommender, and a fresh copy of it for every test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge import Workspace
from recommending import make


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("users")
    make(folder / "ws").close()
    return folder


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A fresh copy, with its own copy of the source."""
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    text = (folder / "ws" / "expunge.toml").read_text()
    (folder / "ws" / "expunge.toml").write_text(text.replace(str(trained), str(folder)))
    with Workspace.open(folder / "ws") as opened:
        yield opened
