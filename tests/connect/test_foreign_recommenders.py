"""Recommenders trained elsewhere: what each library writes is read as it means it, with what else of users is inside."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from connect import lookalikes as made
from expunge.connect import recommenders
from expunge.connect.recommenders import ForeignFactors, ForeignLinear, ForeignNeighbours, RecommenderReader
from expunge.core.errors import DataError, InputProblems
from expunge.training.closed_form.adopt import adopt

NAMES = [info.name for info in pkgutil.iter_modules(recommenders.__path__) if not info.name.startswith("_")]
ITEMS = [f"m{n}" for n in range(9)]


def reader(name):
    module = importlib.import_module(f"expunge.connect.recommenders.{name}")
    own = [item for item in vars(module).values() if inspect.isclass(item) and item.__module__ == module.__name__]
    (found,) = [item for item in own if not item.__name__.startswith("_")]
    return found()


@pytest.fixture
def artefacts(tmp_path):
    """One artefact a reader, by the name of the reader."""
    x = made.rows()
    np.savez(tmp_path / "plain.npz", B=made.ease(x, 5.0))
    return {
        "lenskit": made.lenskit_scorer(tmp_path / "scorer.pkl", made.ease(x, 5.0, np.float32), 5.0, ITEMS),
        "cornac": made.cornac_model(tmp_path / "model.pkl", x, 5.0),
        "recbole": made.recbole_checkpoint(tmp_path / "EASE-Nov-28-2026.pth", x, 5.0),
        "implicit": made.implicit_factors(tmp_path / "als.npz"),
        "arrays": tmp_path / "plain.npz",
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_meets_the_protocol_and_names_its_layout(name):
    assert isinstance(reader(name), RecommenderReader)
    assert reader(name).layout


def test_no_reader_takes_what_another_one_takes(artefacts):
    assert sorted(artefacts) == sorted(NAMES)
    for owner, path in artefacts.items():
        assert [name for name in NAMES if reader(name).recognises((path,))] == [owner]


@pytest.mark.parametrize("name", NAMES)
def test_recognising_never_raises_and_reading_says_what_it_takes(name, tmp_path):
    found = reader(name)
    for files in ((), (tmp_path,), (tmp_path / "none",), (tmp_path, tmp_path)):
        assert not found.recognises(files)
        with pytest.raises(DataError):
            found.read(files)


@pytest.mark.parametrize("name", ["lenskit", "cornac", "recbole"])
def test_what_a_library_wrote_is_taken_over_and_the_gram_matrix_is_that_of_its_rows(name, artefacts):
    model = reader(name).read((artefacts[name],))
    found = adopt(model.weights, model.regularisation, model.item_counts)
    own = found.gram[1:, 1:] if name == "recbole" else found.gram
    assert np.array_equal(own, made.gram(made.rows()))


def test_importing_the_readers_imports_neither_torch_nor_the_libraries():
    code = "; ".join(
        [f"import expunge.connect.recommenders.{name}" for name in NAMES]
        + ["import sys", "print([n for n in ('torch', 'pyarrow', 'pandas', 'safetensors') if n in sys.modules])"]
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------------- lenskit


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("items", [ITEMS, list(range(3, 12))])
@pytest.mark.parametrize("vocab", ["vocab", "_vocab"])
def test_lenskit_scorer(tmp_path, protocol, items, vocab):
    weights = made.ease(made.rows(), 7.0, np.float32)
    path = made.lenskit_scorer(tmp_path / "s.pkl", weights, 7.0, items, protocol=protocol, vocab=vocab)
    found = reader("lenskit").read((path,))
    assert isinstance(found, ForeignLinear)
    assert np.array_equal(found.weights, weights)
    assert found.weights.dtype == np.float32
    assert found.items == tuple(str(name) for name in items)
    assert (found.regularisation, found.item_counts, found.residues) == (7.0, None, ())
    assert "item counts" in found.notes[0]


@pytest.mark.parametrize("vocab", ["vocab", "_vocab"])
def test_lenskit_pipeline_holds_everybodys_history_and_so_the_item_counts(tmp_path, vocab):
    x = made.rows()
    user, item = x.nonzero()
    weights = made.ease(x, 7.0, np.float32)
    more = (user.tolist(), item.tolist())
    path = made.lenskit_scorer(tmp_path / "p.pkl", weights, 7.0, ITEMS, vocab=vocab, more=more)
    found = reader("lenskit").read((path,))
    assert np.array_equal(found.item_counts, np.diag(made.gram(x)))
    assert found.residues == (
        "_nodes/history-lookup/component/interactions",
        "_nodes/history-lookup/component/interactions/vocabularies/user",
    )
    assert found.notes == ()


def test_lenskit_counts_that_do_not_fit_the_items_are_not_taken(tmp_path):
    weights = made.ease(made.rows(), 7.0, np.float32)
    path = made.lenskit_scorer(tmp_path / "p.pkl", weights, 7.0, ITEMS, more=([0, 1], [0, 9]))
    assert reader("lenskit").read((path,)).item_counts is None


def test_lenskit_without_a_scorer_or_with_ids_that_come_twice(tmp_path):
    weights = made.ease(made.rows(), 7.0, np.float32)
    path = made.lenskit_scorer(tmp_path / "s.pkl", weights, 7.0, ["a"] * 9)
    with pytest.raises(InputProblems, match="item ids come twice"):
        reader("lenskit").read((path,))
    path.write_bytes(path.read_bytes().replace(b"EASEScorer", b"EASEScored"))
    with pytest.raises(DataError, match="one EASEScorer expected in the pickle, 0 are there"):
        reader("lenskit").read((path,))


# -------------------------------------------------------------------------------------------------------------- cornac


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cornac(tmp_path, protocol):
    x = made.rows()
    found = reader("cornac").read((made.cornac_model(tmp_path / "m.pkl", x, 11, protocol=protocol),))
    assert np.array_equal(found.weights, made.ease(x, 11))
    assert found.items == tuple(f"item {n}" for n in range(9))  # not the three that were only tested on
    assert np.array_equal(found.item_counts, np.diag(made.gram(x)))
    assert (found.regularisation, found.values_times, found.notes) == (11.0, 1, ())
    assert found.residues == ("U", "uid_map")


def test_cornac_with_negatives_cut_says_so_and_is_not_adopted(tmp_path):
    found = reader("cornac").read((made.cornac_model(tmp_path / "m.pkl", made.rows(), 2.0, posB=True),))
    assert "posB" in found.notes[0]
    with pytest.raises(DataError, match="not the weights of EASE"):
        adopt(found.weights, found.regularisation, found.item_counts)


def test_cornac_of_half_stars_is_given_in_halves(tmp_path):
    x = made.rows(values=(0.5, 2.5, 5.0))
    found = reader("cornac").read((made.cornac_model(tmp_path / "m.pkl", x, 3.0),))
    assert (found.values_times, found.regularisation) == (2, 12.0)
    assert np.array_equal(found.item_counts, np.diag(made.gram(x * 2)))
    assert np.array_equal(adopt(found.weights, found.regularisation, found.item_counts).gram, made.gram(x * 2))


def test_cornac_of_other_values_has_no_counts(tmp_path):
    x = made.rows(values=(0.3, 1.0))
    assert reader("cornac").read((made.cornac_model(tmp_path / "m.pkl", x, 3.0),)).item_counts is None


def test_cornac_training_set_beside_the_model_is_a_residue(tmp_path):
    path = made.cornac_model(tmp_path / "m.pkl", made.rows(), 3.0)
    (tmp_path / "m.pkl.trainset").write_bytes(b"rows")
    assert reader("cornac").read((path,)).residues == ("U", "uid_map", "m.pkl.trainset")


def test_cornac_whose_rows_or_ids_are_of_another_model(tmp_path):
    with pytest.raises(DataError, match="is not a Cornac pickle") as caught:
        reader("cornac").read((made.cornac_model(tmp_path / "m.pkl", made.rows(), 3.0, U=made.rows(items=8)),))
    assert "rows over 8 items beside weights of 9" in str(caught.value.got)
    with pytest.raises(DataError) as caught:
        reader("cornac").read((made.cornac_model(tmp_path / "m.pkl", made.rows(), 3.0, tested=-1),))
    assert "does not number 9 items" in str(caught.value.got)


def test_rows_with_an_item_twice_are_summed_before_they_are_squared(tmp_path):
    x = made.rows()
    twice = sparse.csr_matrix(x.shape)
    twice.data, twice.indices = np.repeat(x.data / 2, 2), np.repeat(x.indices, 2)
    twice.indptr = x.indptr * 2
    found = reader("cornac").read((made.cornac_model(tmp_path / "m.pkl", x, 3.0, U=twice),))
    assert np.array_equal(found.item_counts, np.diag(made.gram(x)))


# ------------------------------------------------------------------------------------------------------------- recbole


def test_recbole(tmp_path):
    x = made.rows()
    found = reader("recbole").read((made.recbole_checkpoint(tmp_path / "EASE-1.pth", x, 250.0),))
    assert found.weights.shape == (10, 10)
    assert type(found.weights) is np.ndarray  # it is an np.matrix there
    padded = sparse.hstack([sparse.csr_matrix((40, 1)), x]).tocsr()
    assert np.abs(found.weights - made.ease(padded, 250.0)).max() < 1e-6
    assert np.array_equal(found.item_counts, [0, *np.diag(made.gram(x))])
    assert found.regularisation == 250.0
    assert found.items is None
    assert found.residues == ("other_parameter/interaction_matrix",)


def test_recbole_of_another_model(tmp_path):
    path = made.recbole_checkpoint(tmp_path / "BPR.pth", made.rows(), 250.0, other_parameter={})
    with pytest.raises(DataError, match="not a checkpoint of RecBole's EASE"):
        reader("recbole").read((path,))


# ------------------------------------------------------------------------------------------------- implicit and arrays


def test_implicit_factors(tmp_path):
    found = reader("implicit").read((made.implicit_factors(tmp_path / "als.npz"),))
    assert isinstance(found, ForeignFactors)
    assert (found.user_factors.shape, found.item_factors.shape) == ((7, 3), (5, 3))
    assert found.settings["random_state"] == 3
    assert found.settings["dtype"] == "float32"
    assert (found.source, found.residues, found.notes) == (
        "implicit AlternatingLeastSquares npz",
        ("user_factors",),
        (),
    )


def test_implicit_without_a_seed_says_that_it_cannot_be_retrained(tmp_path):
    bpr = made.implicit_factors(tmp_path / "b.npz", random_state=None, use_cg=None, verify_negative_samples=True)
    found = reader("implicit").read((bpr,))
    assert found.source == "implicit BayesianPersonalizedRanking npz"
    assert "no random_state" in found.notes[0]


def test_implicit_neighbours(tmp_path):
    similarity = np.array([[1.0, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]])
    found = reader("implicit").read((made.implicit_neighbours(tmp_path / "ii.npz", similarity),))
    assert isinstance(found, ForeignNeighbours)
    assert np.array_equal(found.similarity.toarray(), similarity)
    assert (found.kept, found.residues) == (2, ())


def named(path):
    """Dtype and number of dimensions of every array of an npz."""
    with np.load(path) as held:
        return {name: (held[name].dtype.str, held[name].ndim) for name in held.files}


def test_what_implicit_itself_writes_is_read_and_looks_like_its_lookalike(tmp_path):
    als = pytest.importorskip("implicit.cpu.als")
    neighbours = pytest.importorskip("implicit.nearest_neighbours")
    x = made.rows()
    trained = als.AlternatingLeastSquares(factors=3, iterations=1, num_threads=1, random_state=3)
    trained.fit(x, show_progress=False)
    trained.save(tmp_path / "als.npz")
    found = reader("implicit").read((tmp_path / "als.npz",))
    assert np.array_equal(found.user_factors, trained.user_factors)
    assert np.array_equal(found.item_factors, trained.item_factors)
    assert found.settings["random_state"] == 3
    assert named(tmp_path / "als.npz") == named(made.implicit_factors(tmp_path / "like.npz"))
    cut = neighbours.ItemItemRecommender(K=2, num_threads=1)
    cut.fit(x, show_progress=False)
    cut.save(tmp_path / "knn.npz")
    lists = reader("implicit").read((tmp_path / "knn.npz",))
    assert (lists.similarity != cut.similarity).nnz == 0
    assert lists.kept == 2
    assert named(tmp_path / "knn.npz") == named(made.implicit_neighbours(tmp_path / "cut.npz", cut.similarity))


@pytest.mark.parametrize(
    "change",
    [
        {"user_factors": np.full((2, 3), np.nan, np.float32)},
        {"item_factors": np.zeros((5, 2), np.float32)},
        {"item_factors": np.zeros(5, np.float32)},
        {"item_factors": np.zeros((5, 3), np.int64)},
        {"item_factors": None},
    ],
)
def test_implicit_factors_that_do_not_fit(tmp_path, change):
    with pytest.raises(InputProblems):
        reader("implicit").read((made.implicit_factors(tmp_path / "als.npz", **change),))


@pytest.mark.parametrize(
    "change",
    [
        {"indices": np.array([0, 1, 99], np.int32)},
        {"indices": np.array([0, 1, -1], np.int32)},
        {"indptr": np.array([0, 3, 2, 3], np.int32)},
        {"indptr": np.array([0, 1], np.int32)},
        {"shape": np.array([3, 2**40])},
        {"shape": np.array([2**40, 2**40])},
        {"K": np.array([1, 2])},
        {"data": np.array([1.0, np.nan, 1.0])},
    ],
)
def test_implicit_neighbours_that_do_not_fit(tmp_path, change):
    held = {"data": np.ones(3), "indices": np.arange(3, dtype=np.int32), "indptr": np.arange(4, dtype=np.int32)}
    np.savez(tmp_path / "ii.npz", **{**held, "shape": np.array([3, 3]), "K": 1, **change})
    with pytest.raises(DataError):
        reader("implicit").read((tmp_path / "ii.npz",))


@pytest.mark.parametrize("items", [ITEMS, list(range(9)), [name.encode() for name in ITEMS]])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_npz(tmp_path, items, save):
    x = made.rows()
    named = {"weights": made.ease(x, 4), "lambda": 4, "item_counts": np.diag(made.gram(x)), "items": np.array(items)}
    save(tmp_path / "e.npz", **named)
    found = reader("arrays").read((tmp_path / "e.npz",))
    assert np.array_equal(found.weights, made.ease(x, 4))
    assert found.regularisation == 4.0
    assert found.items == tuple(name.decode() if isinstance(name, bytes) else str(name) for name in items)
    assert np.array_equal(found.item_counts, np.diag(made.gram(x)))


def test_arrays_of_an_npy_in_either_order(tmp_path):
    weights = made.ease(made.rows(), 4)
    for order in "CF":
        np.save(tmp_path / "e.npy", np.asarray(weights, order=order))
        found = reader("arrays").read((tmp_path / "e.npy",))
        assert np.array_equal(found.weights, weights)
        assert (found.regularisation, found.items, found.item_counts) == (None, None, None)


def test_arrays_of_safetensors(tmp_path):
    x = made.rows()
    weights = made.ease(x, 4, np.float32)
    metadata = {"lambda": "4.0", "items": json.dumps(ITEMS), "made by": "us"}
    save_file({"B": weights, "item_counts": np.diag(made.gram(x)).copy()}, tmp_path / "e.safetensors", metadata)
    found = reader("arrays").read((tmp_path / "e.safetensors",))
    assert np.array_equal(found.weights, weights)
    assert (found.regularisation, found.items) == (4.0, tuple(ITEMS))
    assert np.array_equal(found.item_counts, np.diag(made.gram(x)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"B": np.zeros((9, 8))}, "square weights"),
        ({"B": np.zeros((0, 0))}, "square weights"),
        ({"B": np.eye(9)}, "zero diagonal"),
        ({"B": np.full((9, 9), np.inf)}, "NaN or infinity"),
        ({"B": np.zeros((9, 9), np.float16)}, "float32 or float64"),
        ({"B": np.zeros((9, 9), int)}, "float32 or float64"),
        ({"weights": np.zeros((9, 9))}, "weights and B are given"),
        ({"items": np.array(ITEMS[:8])}, "8 item ids for 9 items"),
        ({"items": np.array(ITEMS[:8] + ITEMS[:1])}, "item ids come twice"),
        ({"items": np.zeros(9)}, "one string or whole number"),
        ({"item_counts": np.ones(8)}, "8 item counts for 9"),
        ({"item_counts": np.full(9, -1)}, "0 or more"),
        ({"item_counts": np.full(9, 0.5)}, "whole numbers"),
        ({"item_counts": np.full(9, np.nan)}, "whole numbers"),
        ({"lambda": 0}, "above 0"),
        ({"lambda": np.nan}, "above 0"),
        ({"lambda": np.ones(2)}, "one number"),
        ({"lambda": "many"}, "one number"),
    ],
)
def test_arrays_that_are_no_model(tmp_path, change, said):
    held = {"B": made.ease(made.rows(), 4), "lambda": 4, "items": np.array(ITEMS), **change}
    np.savez(tmp_path / "e.npz", **held)
    with pytest.raises(InputProblems, match=said):
        reader("arrays").read((tmp_path / "e.npz",))


def test_arrays_under_other_names(tmp_path):
    np.savez(tmp_path / "e.npz", W=np.zeros((3, 3)))
    assert not reader("arrays").recognises((tmp_path / "e.npz",))
    with pytest.raises(InputProblems, match="one of weights, B, item_similarity expected"):
        reader("arrays").read((tmp_path / "e.npz",))
