"""Fixtures of all rooms. Tests marked `shared` run where ../shared/data is, and say so where it is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workspaces import small_config, vouch_for

if TYPE_CHECKING:
    from expunge import Workspace

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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For networks too small to share: threads that wait for each other cost ten times their work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained model, bank of 8 pairs, 4 anchors, vouched for without a trial."""
    root = tmp_path_factory.mktemp("prepared") / "ws"
    from expunge import Workspace
    from expunge.training.recipe import load_recipe, parse_recipe

    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 16})
    with Workspace.create(root, config=small_config(), recipe=recipe) as workspace:
        workspace.train()
        workspace.bank()
        vouch_for(workspace)
    return root


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A fresh copy of the prepared workspace."""
    return Path(shutil.copytree(prepared, tmp_path / "ws"))


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and vouched-for text-to-image workspace to copy: training it takes longer than all that it is asked."""
    from testbed import make_testbed, small_testbed

    root = tmp_path_factory.mktemp("painted") / "ws"
    with pytest.MonkeyPatch.context() as patch:
        small_testbed(patch)
        make_testbed(root).close()
    return root


@pytest.fixture
def workspace_of_works(painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """An open copy of it."""
    from expunge import Workspace
    from testbed import small_testbed

    small_testbed(monkeypatch)
    with Workspace.open(shutil.copytree(painted, tmp_path / "ws")) as opened:
        yield opened


@pytest.fixture(scope="session")
def deleted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace after an artist's works were deleted and the model was asked for the style; the original beside it."""
    from expunge.training.text_to_image.export import export
    from testbed import make_testbed, small_testbed

    root = tmp_path_factory.mktemp("rerun") / "ws"
    with pytest.MonkeyPatch.context() as patch:
        small_testbed(patch)
        with make_testbed(root) as workspace:
            file = workspace.root / workspace.served().run / "model.safetensors"
            shutil.copy(file, root.parent / "original.safetensors")
            outcome = workspace.run(workspace.request(block="duotone"))
            file = workspace.root / workspace.served().run / "model.safetensors"
            export(workspace.adapter.load(file)[0], root.parent / "dir")
    return root, outcome


@pytest.fixture
def case(deleted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An open copy of it, and the case."""
    from expunge import Workspace
    from testbed import small_testbed

    small_testbed(monkeypatch)
    with Workspace.open(shutil.copytree(deleted[0], tmp_path / "ws")) as opened:
        yield opened, deleted[1].case
