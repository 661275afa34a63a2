"""Row tables, indices, text and foreign model files: known answers, controls, and files that hide something."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy import sparse

from connect import lookalikes as made
from connect.traces import kind, traces
from expunge.core.errors import DataError

ROWS = np.arange(1, 13, dtype=np.float32).reshape(4, 3)


def put(path, data):
    path.write_bytes(data)
    return path


# --------------------------------------------------------------------------------------------------------------- table


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
def test_a_row_of_a_matrix_is_found_and_zeroed_and_no_other_byte_changes(order, dtype, tmp_path):
    path, out, found = tmp_path / "u.npy", tmp_path / "o.npy", kind("table")
    np.save(path, np.asarray(ROWS, dtype, order=order))
    who = traces("a", "b", "c", slots=(1, 3, 9))
    assert found.count(path, who) == 2
    assert found.scrub(path, out, who) == 2
    after = np.load(out)
    assert np.array_equal(after, ROWS * np.array([1, 0, 1, 0])[:, None])
    assert after.dtype == dtype
    assert after.flags.f_contiguous == (order == "F")
    assert out.read_bytes()[:64] == path.read_bytes()[:64]
    assert found.count(out, who) == 0
    assert found.plant(path, out, who) == found.count(out, who) == 3
    assert np.array_equal(np.load(out)[[0, 2]], ROWS[[0, 2]].astype(dtype))


def test_a_nan_row_is_no_empty_row_and_padding_is_an_offset(tmp_path):
    path = tmp_path / "u.npy"
    np.save(path, np.array([[0.0, 0], [np.nan, 0], [0, 0]]))
    assert kind("table").count(path, traces("a", slots=(1,))) == 1
    assert kind("table", offset=1).count(path, traces("a", slots=(1,))) == 0
    assert kind("table", offset=1).count(path, traces("a", slots=(0,))) == 1


def test_adam_moments_and_averages_in_safetensors_are_rows_too(tmp_path):
    path, out = tmp_path / "opt.safetensors", tmp_path / "o.safetensors"
    save_file({"exp_avg": ROWS, "exp_avg_sq": ROWS.astype(np.float16), "bias": np.ones(3)}, path, {"step": "7"})
    with pytest.raises(DataError, match=r"opt\.safetensors"):
        kind("table").count(path, traces("a"))
    for name in ("exp_avg", "exp_avg_sq"):
        found = kind("table", array=name)
        assert found.scrub(path, out, traces("a", slots=(2,))) == 1
        after = load_file(out)
        assert not after.pop(name)[2].any()
        assert all(np.array_equal(array, load_file(path)[other]) for other, array in after.items())
        assert found.count(out, traces("a", slots=(2,))) == 0
        assert found.plant(out, tmp_path / "p", traces("a", slots=(2,))) == 1


def test_implicit_user_factors_are_found_by_their_name_and_the_other_arrays_stay(tmp_path):
    path, out, found = made.implicit_factors(tmp_path / "als.npz"), tmp_path / "o.npz", kind("table")
    assert found.scrub(path, out, traces("a", slots=(6,))) == 1
    before, after = np.load(path), np.load(out)
    assert before.files == after.files
    assert all(np.array_equal(before[name], after[name]) for name in before.files if name != "user_factors")
    assert np.flatnonzero(~after["user_factors"].any(1)).tolist() == [6]


def test_stored_histories_in_csr_are_emptied_and_the_others_keep_theirs(tmp_path):
    x, path, out = made.rows(), tmp_path / "user_items.npz", tmp_path / "o.npz"
    sparse.save_npz(path, x)
    who = traces("a", "b", slots=(0, 39), columns=[[0, 8], [1]], items=9)
    found = kind("table")
    assert found.scrub(path, out, who) == 2
    expected = x.toarray()
    expected[[0, 39]] = 0
    assert np.array_equal(sparse.load_npz(out).toarray(), expected)
    assert found.count(out, who) == 0
    beyond = traces("a", slots=(44,), columns=[[0, 8]], items=9)
    assert found.plant(path, out, beyond) == found.count(out, beyond) == 1
    assert sparse.load_npz(out).shape == (45, 9)
    assert np.flatnonzero(sparse.load_npz(out).toarray()[44]).tolist() == [0, 8]


def test_explicit_zeros_in_csr_are_a_history(tmp_path):
    """The attack: values are set to 0, and the columns still say what the user had."""
    x, path = made.rows(), tmp_path / "user_items.npz"
    x.data[x.indptr[3] : x.indptr[4]] = 0
    sparse.save_npz(path, x)
    assert kind("table").count(path, traces("a", slots=(3,))) == 1


def test_hostile_tables_are_refused(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    np.savez_compressed(tmp_path / "bomb.npz", users=np.zeros((1 << 14, 1 << 8)))
    head = b'{"t":{"dtype":"F32","shape":[4,3],"data_offsets":[0,%d]}}'
    for name, data in {
        "short.safetensors": struct.pack("<Q", len(head) - 1) + head % 48,
        "long.safetensors": struct.pack("<Q", 2**60) + b"{}",
        "twice.safetensors": struct.pack("<Q", 21) + b'{"a":{},"a":{},"b":1}',
        "deep.safetensors": struct.pack("<Q", 100_000) + b"[" * 100_000,
        "cut.npy": b"\x93NUMPY\x01\x00",
        "empty.npy": b"",
    }.items():
        put(tmp_path / name, data)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match=path.name):
            kind("table").count(path, traces("a"))


@given(data=st.data(), width=st.integers(1, 4), fortran=st.booleans())
def test_after_any_scrub_the_rows_are_zero_and_the_others_as_before(data, width, fortran, tmp_path_factory):
    cells = st.lists(st.floats(width=32), min_size=width, max_size=width)
    rows = np.array(data.draw(st.lists(cells, min_size=1, max_size=8)), np.float32, order="F" if fortran else "C")
    slots = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True))
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "u.npy", rows)
    who, found = traces(*map(str, slots), slots=slots), kind("table")
    had = sum(slot < len(rows) and bool((rows[slot] != 0).any()) for slot in slots)
    assert found.count(folder / "u.npy", who) == found.scrub(folder / "u.npy", folder / "o.npy", who) == had
    after = np.load(folder / "o.npy")
    kept = [row for row in range(len(rows)) if row not in slots]
    assert after[kept].tobytes() == rows[kept].tobytes()
    assert not after[[slot for slot in slots if slot < len(rows)]].any()


# --------------------------------------------------------------------------------------------------------------- index


def vectors(users=40, width=16):
    return np.random.default_rng(0).standard_normal((users, width)).astype(np.float32)


def index_of(path, rows, *, noise=b"some header"):
    return put(path, noise + rows.tobytes() + b"links")


@pytest.mark.parametrize("form", ["raw", "double", "cosine"])
def test_ann_index_not_rebuilt_is_found_by_bytes(form, tmp_path):
    """The attack: `mark_deleted` sets a flag, and the vector stays in the file."""
    rows = vectors()
    np.save(tmp_path / "v.npy", rows)
    unit = (rows * (np.float32(1) / np.sqrt((rows * rows).sum(1, dtype=np.float32)))[:, None]).astype(np.float32)
    kept = {"raw": rows, "double": rows.astype(np.float64), "cosine": unit}[form]
    found, who = kind("index", vectors="v.npy"), traces("a", "b", slots=(7, 30))
    old = index_of(tmp_path / "old.bin", kept)
    new = index_of(tmp_path / "new.bin", np.delete(kept, [7, 30], 0))
    assert found.count(old, who) == 2
    assert found.count(new, who) == 0
    nobody = traces("made up 1", "made up 2", slots=(100, 101))
    assert found.plant(new, tmp_path / "p.bin", nobody) == found.count(tmp_path / "p.bin", nobody) == 2
    assert (tmp_path / "p.bin").stat().st_size == new.stat().st_size
    assert found.count(tmp_path / "p.bin", who) == 0


def test_an_index_of_codes_cannot_be_scanned_and_is_not_called_clean(tmp_path):
    """PQ, SQ and LSH keep codes: no vector is found, of anybody."""
    rows = vectors()
    np.save(tmp_path / "v.npy", rows)
    codes = index_of(tmp_path / "pq.bin", rows.astype(np.float16))
    for act in (
        kind("index", vectors="v.npy").count,
        lambda p, t: kind("index", vectors="v.npy").plant(p, tmp_path / "o", t),
    ):
        with pytest.raises(DataError, match="cannot be scanned"):
            act(codes, traces("a", slots=(7,)))
    for start in (b"IxPq", b"IwSq", b"IxPT", b"\0\0\0\0"):
        path = index_of(tmp_path / "codes.bin", rows, noise=start + bytes(60))
        with pytest.raises(DataError, match="cannot be scanned"):
            kind("index").count(path, traces("a"))


def test_witnesses_of_the_new_model_stand_for_an_index_built_from_it(tmp_path):
    old, new = vectors(), vectors() + np.float32(0.25)
    np.save(tmp_path / "old.npy", old)
    np.save(tmp_path / "new.npy", np.delete(new, 7, 0))
    path = index_of(tmp_path / "i.bin", np.delete(new, 7, 0))
    with pytest.raises(DataError, match="cannot be scanned"):
        kind("index", vectors="old.npy").count(path, traces("a", slots=(7,)))
    found = kind("index", vectors="old.npy", witnesses="new.npy")
    assert found.count(path, traces("a", slots=(7,))) == 0
    half = np.concatenate([np.delete(new, 7, 0), old[7:8]])
    assert found.count(index_of(tmp_path / "half.bin", half), traces("a", slots=(7,))) == 1


def test_a_user_who_has_no_row_in_the_vectors_is_not_called_gone(tmp_path):
    rows = vectors()
    np.save(tmp_path / "v.npy", rows)
    path = index_of(tmp_path / "i.bin", rows)
    with pytest.raises(DataError, match="no row 40"):
        kind("index", vectors="v.npy").count(path, traces("a", slots=(40,)))


@pytest.mark.parametrize("start", [b"IxF2\x08", b"IHNf\x08", b"IxMp\x08" + bytes(32) + b"IxFI"])
def test_histories_in_a_flat_faiss_index_are_found_as_ones_and_as_stars(start, tmp_path):
    stars = np.zeros(8, np.float32)
    stars[[0, 3]] = [5, 4]
    who = traces("a", slots=(0,), columns=[[0, 3]], values=[np.array([5, 4])])
    for row in (stars, (stars > 0).astype(np.float32)):
        path = put(tmp_path / "i.index", start + bytes(29) + row.tobytes())
        assert kind("index").count(path, who) == 1
    assert kind("index").count(put(tmp_path / "i.index", start + bytes(200)), who) == 0


def test_an_index_of_factors_is_not_searched_for_histories(tmp_path):
    """The attack: `vectors` is left out, histories are not in an index of factors, and 0 are found."""
    path = put(tmp_path / "i.index", b"IxF2\x10" + bytes(60) + vectors().tobytes())
    with pytest.raises(DataError, match="cannot be scanned"):
        kind("index").count(path, traces("a"))


def test_ids_count_after_their_length_and_long_ones_as_words(tmp_path):
    start = b"IxF2\x08" + bytes(60)
    cases = {
        b"\x02\0\0\0" + b"17": ("17", 1),
        b"\0\0\0\0\0\0\0\x02" + b"17": ("17", 1),
        b" 17 ": ("17", 0),
        b"\x03\0\0\0" + b"117": ("17", 0),
        b"\0alice-1\0": ("alice-1", 1),
        b"\0alice-17\0": ("alice-1", 0),
        b"\x07alice-17": ("alice-1", 1),
    }
    for data, (name, count) in cases.items():
        path = put(tmp_path / "i.index", start + data)
        assert kind("index").count(path, traces(name)) == count, data


# ---------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("user 17 came", 1),
        ("117 170 1.17 17.5 x17 17x _17 17_ é17 v1.17.2", 0),
        ("17", 1),
        ("user 17.\n(17) [17] 17,5 5,17 'id':17, \u201c17\u201d 17-2", 8),
        ("17.17", 0),
        ("\ufeff17\r\n17\t17", 3),
    ],
)
def test_id_17_is_found_as_a_whole_word_only(text, count, tmp_path):
    assert kind("text").count(put(tmp_path / "app.log", text.encode()), traces("17")) == count


def test_ids_as_json_and_urls_write_them_are_found(tmp_path):
    name = 'zoë/"1"@x.org'
    text = (
        f"{name}\n{json.dumps(name)}\n{json.dumps(name, ensure_ascii=False)}\nGET /u/zo%C3%AB%2F%221%22%40x.org HTTP\n"
    )
    assert kind("text").count(put(tmp_path / "app.log", text.encode()), traces(name)) == 4
    path = put(tmp_path / "clean.log", b"nothing")
    found = kind("text")
    assert found.plant(path, tmp_path / "o", traces(name)) == found.count(tmp_path / "o", traces(name)) == 4


def test_a_pattern_narrows_the_search_to_where_users_are_named(tmp_path):
    path = put(tmp_path / "app.log", b"2026-10-17 user=17 took 17 ms user=117 user=170 superuser=17")
    assert kind("text").count(path, traces("17")) == 4
    assert kind("text", pattern="user={id}").count(path, traces("17")) == 1
    for wrong in ("user=", "{id}{id}"):
        with pytest.raises(DataError):
            kind("text", pattern=wrong)


@pytest.mark.parametrize("shift", range(-12, 4))
def test_an_id_across_two_blocks_is_found_once(shift, tmp_path):
    block = 1 << 20
    text = b"a " * (block // 2 + 10)
    at = block + shift
    path = put(tmp_path / "long.log", text[:at] + b" alice-17 " + text + b"alice-17")
    assert kind("text").count(path, traces("alice-17")) == 2
    joined = put(tmp_path / "joined.log", text[:at] + b"alice-171" + text)
    assert kind("text").count(joined, traces("alice-17")) == 0


@pytest.mark.parametrize(
    "data", [b"\x1f\x8b17", b"PK\x03\x0417", b"\x28\xb5\x2f\xfd17", "17".encode("utf-16"), b"PAR1 17", b"\x80\x0417"]
)
def test_text_that_would_only_look_clean_is_refused(data, tmp_path):
    with pytest.raises(DataError, match=r"app\.log"):
        kind("text").count(put(tmp_path / "app.log", data), traces("17"))


def test_bytes_that_are_no_utf8_hide_nothing(tmp_path):
    assert kind("text").count(put(tmp_path / "app.log", b"\xff17\xe9 \xe917\xff"), traces("17")) == 2


# --------------------------------------------------------------------------------------------------------------- model


def row(x, user):
    return x.indices[x.indptr[user] : x.indptr[user + 1]]


def user_of(x, number):
    return traces(f"user {number}", slots=(number,), columns=[row(x, number)], items=x.shape[1])


def alone(x):
    """Users whose items nobody else has."""
    rows = [tuple(row(x, user)) for user in range(x.shape[0])]
    return [user for user, own in enumerate(rows) if rows.count(own) == 1 and own]


NOBODY = traces("nobody 1", "nobody 2", columns=[[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 8]], items=9)


def test_recbole_interaction_matrix_left_in_the_artefact_is_found(tmp_path):
    x, found = made.rows(), kind("model")
    path = made.recbole_checkpoint(tmp_path / "EASE.pth", x, 5.0)
    user = alone(x)[0]
    assert found.count(path, user_of(x, user)) == 1
    retrained = made.recbole_checkpoint(tmp_path / "new.pth", sparse.csr_matrix(np.delete(x.toarray(), user, 0)), 5.0)
    assert found.count(retrained, user_of(x, user)) == 0


def test_cornac_keeps_rows_and_ids_and_both_are_found(tmp_path):
    x, found = made.rows(), kind("model")
    path = made.cornac_model(tmp_path / "model.pkl", x, 5.0)
    user = alone(x)[1]
    assert found.count(path, user_of(x, user)) == 2
    assert found.count(path, traces("user", columns=[[]], items=9)) == 0
    bare = made.cornac_model(tmp_path / "bare.pkl", x, 5.0, U=None, uid_map={}, num_users=0)
    assert found.count(bare, user_of(x, user)) == 0


def test_a_lenskit_pipeline_keeps_histories_and_a_vocabulary_of_users(tmp_path):
    x = made.rows()
    coo = x.tocoo()
    more = (coo.row.tolist(), coo.col.tolist())
    items = [f"m{n}" for n in range(9)]
    path = made.lenskit_scorer(tmp_path / "p.pkl", made.ease(x, 5.0, np.float32), 5.0, items, more=more)
    user = alone(x)[2]
    who = traces(f"u{user}", slots=(user,), columns=[row(x, user)], items=9)
    assert kind("model").count(path, who) == 2
    scorer = made.lenskit_scorer(tmp_path / "s.pkl", made.ease(x, 5.0, np.float32), 5.0, items)
    assert kind("model").count(scorer, who) == 0


@pytest.mark.parametrize("library", ["recbole", "cornac"])
def test_the_control_goes_through_the_librarys_own_file(library, tmp_path):
    x, found, out = made.rows(), kind("model"), tmp_path / "out"
    path = {
        "recbole": lambda: made.recbole_checkpoint(tmp_path / "EASE.pth", x, 5.0),
        "cornac": lambda: made.cornac_model(tmp_path / "model.pkl", x, 5.0),
    }[library]()
    before = found.count(path, NOBODY)
    assert found.plant(path, out, NOBODY) == 2
    assert found.count(out, NOBODY) - before >= 2
    assert (b"recbole" in out.read_bytes()) == (library == "recbole")
    assert (b"cornac" in out.read_bytes()) == (library == "cornac")


def test_without_a_matrix_the_control_is_an_npz(tmp_path):
    x, found, out = made.rows(), kind("model"), tmp_path / "out"
    path = made.cornac_model(tmp_path / "bare.pkl", x, 5.0, U=None)
    assert found.plant(path, out, NOBODY) == found.count(out, NOBODY) == 2
    factors = made.implicit_factors(tmp_path / "als.npz", items=9)
    assert found.count(factors, NOBODY) == 0


def test_a_matrix_over_other_items_is_not_called_clean(tmp_path):
    x = made.rows()
    path = made.cornac_model(tmp_path / "model.pkl", x, 5.0)
    with pytest.raises(DataError, match="9 items"):
        kind("model").count(path, traces("a", columns=[[0]], items=12))
    with pytest.raises(DataError, match="9 items"):
        kind("model").count(path, traces("a", columns=[[0]], items=7))
    assert kind("model", extra=2).count(path, traces("a", columns=[[0]], items=7)) >= 0


def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    path = put(tmp_path / "evil.pkl", pickle.dumps({"U": Evil()}))
    with pytest.raises(DataError):
        kind("model").count(path, traces("a"))
    assert not (tmp_path / "ran").exists()


def test_hostile_model_files_are_refused(tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("indptr.npy", bytes(1 << 24))
    for name, data in {
        "bomb.npz": bomb.getvalue(),
        "cut.pth": b"PK\x03\x04",
        "deep.pkl": b"\x80\x04" + b"(" * 10_000,
        "text.pkl": b"hello",
        "empty.pkl": b"",
    }.items():
        with pytest.raises(DataError):
            kind("model").count(put(tmp_path / name, data), traces("a"))


@pytest.mark.parametrize("name", ["index", "text", "model"])
def test_what_its_owner_has_to_rebuild_is_not_scrubbed(name, tmp_path):
    found = kind(name)
    assert not found.scrubs
    with pytest.raises(DataError, match="not scrubbed"):
        found.scrub(put(tmp_path / "x", b"x"), tmp_path / "o", traces("a"))
