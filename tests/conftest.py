"""Shared data: tests marked `shared` run where ../shared/data is, and say so where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason=f"shared data: {SHARED.name} is not beside the checkout"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets and vectors."""
    return SHARED
