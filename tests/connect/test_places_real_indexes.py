"""Indices that faiss-cpu 1.15.1 and hnswlib 0.8.0 themselves wrote, over made-up vectors, in the folder `indexes`:

rows = ROWS, gone = [7, 30], left = the other 38, histories = HISTORIES below; one thread
for name, kind in (("flat", "Flat"), ("ivf", "IVF4,Flat"), ("idmap2", "IDMap2,Flat"), ("hnsw", "HNSW8,Flat"),
                   ("l2norm", "L2norm,Flat"), ("pq", "PQ8x4"), ("sq8", "SQ8")):
    index = faiss.index_factory(16, kind); index.train(rows)
    index.add_with_ids(rows, np.arange(40)) if "IDMap" in kind else index.add(rows)
    faiss.write_index(index, f"{name}.faiss")
    index.remove_ids(gone); faiss.write_index(index, f"{name}-removed.faiss")    # refused by hnsw; not kept of pq and sq8
for kind in ("Flat", "HNSW8", "IDMap2,Flat"):
    index = faiss.index_factory(8, kind); index.add(histories)                   # idmap2: add_with_ids
    faiss.write_index(index, f"histories-{kind[:4].lower()}.faiss")
for space in ("l2", "cosine"):
    index = hnswlib.Index(space=space, dim=16)
    index.init_index(max_elements=40, M=4, ef_construction=20, random_seed=1); index.add_items(rows, np.arange(40))
    index.mark_deleted(7); index.mark_deleted(30); index.save_index(f"{space}-marked.hnswlib")
    # and of 38 elements, rows[left]: f"{space}-rebuilt.hnswlib"
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from connect.traces import kind, traces
from expunge.core.errors import DataError

FOLDER = Path(__file__).parent / "indexes"
ROWS = (np.arange(640) * 2654435761 % 2**20 / 2**19 - 1).reshape(40, 16).astype(np.float32)
HISTORIES = np.array([[(user + 2) >> item & 1 for item in range(8)] for user in range(30)], np.float32)
GONE, NOBODY = traces("a", "b", slots=(7, 30)), traces("made up 1", "made up 2", slots=(100, 101))
HELD = [
    "flat.faiss",
    "ivf.faiss",
    "idmap2.faiss",
    "hnsw.faiss",
    "l2norm.faiss",
    "l2-marked.hnswlib",
    "cosine-marked.hnswlib",
]
CLEAN = [f"{name}-removed.faiss" for name in ("flat", "ivf", "idmap2", "l2norm")]
CLEAN += [f"{space}-rebuilt.hnswlib" for space in ("l2", "cosine")]


@pytest.fixture
def copy(tmp_path):
    """A copy of a fixture, with the vectors of all users beside it."""
    np.save(tmp_path / "v.npy", ROWS)
    return lambda name: Path(shutil.copy(FOLDER / name, tmp_path / name))


@pytest.mark.parametrize("name", HELD)
def test_users_are_found_in_what_the_library_wrote_and_also_after_mark_deleted(name, copy):
    found, path = kind("index", vectors="v.npy"), copy(name)
    assert found.count(path, GONE) == 2
    for slot in range(len(ROWS)):
        assert found.count(path, traces("one", slots=(slot,))) == 1


@pytest.mark.parametrize("name", CLEAN)
def test_removed_users_are_gone_and_the_others_and_the_control_are_found(name, copy, tmp_path):
    found, path = kind("index", vectors="v.npy"), copy(name)
    assert found.count(path, GONE) == 0
    for slot in set(range(len(ROWS))) - set(GONE.slots):
        assert found.count(path, traces("one", slots=(slot,))) == 1
    assert found.plant(path, tmp_path / "planted", NOBODY) == found.count(tmp_path / "planted", NOBODY) == 2


@pytest.mark.parametrize("name", ["pq.faiss", "sq8.faiss"])
def test_an_index_of_codes_is_refused_and_never_called_clean(name, copy):
    with pytest.raises(DataError, match="cannot be scanned") as caught:
        kind("index", vectors="v.npy").count(copy(name), GONE)
    assert str(caught.value.got) == "0 of 32 found"


@pytest.mark.parametrize("name", [*HELD, *CLEAN])
def test_without_vectors_an_index_of_factors_is_refused(name, copy):
    with pytest.raises(DataError, match="cannot be scanned"):
        kind("index").count(copy(name), traces("a"))


@pytest.mark.parametrize("name", ["histories-flat.faiss", "histories-hnsw.faiss", "histories-idma.faiss"])
def test_faiss_own_header_says_that_histories_are_kept_as_they_are(name, copy, tmp_path):
    found, path = kind("index"), copy(name)
    for user in range(len(HISTORIES)):
        assert found.count(path, traces("a", columns=[np.flatnonzero(HISTORIES[user])])) >= 1
    assert found.count(path, traces("a", columns=[np.flatnonzero(HISTORIES[27])])) == 1
    stranger = traces("a", columns=[range(8)])
    assert found.count(path, stranger) == 0
    assert found.plant(path, tmp_path / "planted", stranger) == found.count(tmp_path / "planted", stranger) == 1
    with pytest.raises(DataError, match="cannot be scanned"):
        found.count(path, traces("a", columns=[[0]], items=9))


def test_a_short_history_that_stands_across_two_others_is_an_alarm_too_many_and_never_one_too_few(copy):
    """Rows lie end to end: one film of eight is also the end of one row and the start of the next."""
    alone = traces("a", columns=[[1]])
    across = sum(np.array_equal(HISTORIES.ravel()[at : at + 8], np.eye(8)[1]) for at in range(HISTORIES.size - 7))
    assert kind("index").count(copy("histories-flat.faiss"), alone) == across > 1


@pytest.mark.parametrize("name", [*HELD, *CLEAN])
def test_an_index_is_never_changed_here(name, copy, tmp_path):
    path = copy(name)
    with pytest.raises(DataError, match="not scrubbed"):
        kind("index", vectors="v.npy").scrub(path, tmp_path / "out", GONE)
    assert not (tmp_path / "out").exists()
    assert path.read_bytes() == (FOLDER / name).read_bytes()
