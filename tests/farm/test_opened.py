"""Workers get the data that their parent has opened; the file they get it through never has a name."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expunge.core.codec import encode
from expunge.core.plan import Compute
from expunge.data.cifar10 import CLASSES
from expunge.farm.bank import Bank, BankSpec
from expunge.farm.opened import forget, open_data, shared
from expunge.training.recipe import load_recipe


def write(folder: Path) -> None:
    folder.mkdir()
    for split, count in (("train", 200), ("test", 20)):
        pixels = np.random.Generator(np.random.Philox(3)).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        rows = []
        for number, image in enumerate(pixels):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            path = f"{CLASSES[number % 10]}/{number:04d}.png"
            rows.append({"img": {"bytes": file.getvalue(), "path": path}, "label": number % 10})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"cifar10-{split}.parquet")


@pytest.fixture
def spec(tmp_path):
    forget()
    write(tmp_path / "pictures")
    recipe = load_recipe("cifar10-w16").model_copy(
        update={"model": {"depth": 9, "width": 4}, "epochs": 1, "precision": "fp32"}
    )
    named = {"source": "cifar10", "options": {"path": str(tmp_path / "pictures")}}
    yield BankSpec(recipe=encode(recipe.model_dump()), data=named, seed="s", pairs=2)
    forget()


def gone(spec):
    """The data folder is emptied: nobody can decode it any more."""
    for file in Path(spec.data["options"]["path"]).iterdir():
        file.unlink()


def test_workers_train_on_what_the_parent_opened_and_agree_with_inline(spec, tmp_path):
    blocks = open_data(spec.data).train.blocks
    banks = [Bank(spec, tmp_path / name, blocks) for name in ("inline", "process")]
    for mine in banks:
        mine.folder.mkdir()
    inline = banks[0].build("inline", Compute())
    gone(spec)
    process = banks[1].build("process", Compute(processes=2))
    assert [r["digest"] for r in inline] == [r["digest"] for r in process]
    one, two = (mine.sketches() for mine in banks)
    assert np.array_equal(one.train, two.train)
    assert np.array_equal(one.test, two.test)


def test_without_a_parent_that_opened_it_a_worker_needs_the_folder(spec, tmp_path):
    """Control: the test above would fail without sharing."""
    blocks = open_data(spec.data).train.blocks
    mine = Bank(spec, tmp_path, blocks)
    forget()
    gone(spec)
    with pytest.raises(Exception, match="no train parquet"):
        mine.build("process", Compute(processes=1))


def test_the_shared_file_has_no_name_and_is_gone_afterwards(spec):
    open_data(spec.data)
    with shared() as connection:
        target = os.readlink(f"/proc/self/fd/{connection.fileno()}")
        assert target.endswith("(deleted)") or not Path(target).exists()
    assert connection.closed


def test_nothing_opened_nothing_shared():
    forget()
    with shared() as connection:
        assert connection is None


def test_without_room_for_the_file_workers_open_the_source_themselves(spec, tmp_path, monkeypatch):
    def full(*args, **named):
        raise OSError(28, "No space left on device")

    mine = Bank(spec, tmp_path / "bank", open_data(spec.data).train.blocks)
    mine.folder.mkdir()
    monkeypatch.setattr("expunge.farm.opened.tempfile.TemporaryFile", full)
    with shared() as connection:
        assert connection is None
    assert len(mine.build("process", Compute(processes=2))) == 4
