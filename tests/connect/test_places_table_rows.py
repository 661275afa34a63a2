"""Whose row is which: tables in another order than the slots, lists of their rows, and tables that a control has to grow."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy import sparse

from connect.traces import kind, traces
from expunge.core.errors import DataError

ROWS = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
PEOPLE = ["t1", "17", "t2", "117"]  # rows 1 and 3 are slots 0 and 1: t1 and t2 are test users, who have no slot
LISTS = {
    "list.json": json.dumps(PEOPLE),
    "numbers.json": '["t1", 17, "t2", 117.0]',
    "object.json": '{"117": 3, "t1": 0, "t2": 2, "17": 1}',
    "ids.txt": "\ufefft1\r\n17\r\nt2\r\n117\r\n",
    "bare.txt": "t1\n17\nt2\n117",
}
HELD = {"u.npy": ROWS, "u.npz": ROWS, "u.safetensors": ROWS, "csr.npz": sparse.csr_matrix(ROWS)}


def table(path, rows):
    if sparse.issparse(rows):
        sparse.save_npz(path, rows)
    elif path.suffix == ".safetensors":
        save_file({"users": rows}, path)
    else:
        (np.save if path.suffix == ".npy" else lambda to, array: np.savez(to, users=array))(path, rows)
    return path


def held(path):
    if "csr" in path.name:
        return sparse.load_npz(path).toarray()
    found = load_file(path) if path.suffix == ".safetensors" else np.load(path)
    return found if isinstance(found, np.ndarray) else found["users"]


@pytest.mark.parametrize("name", HELD)
def test_a_production_table_in_another_order_is_refused_without_its_rows(name, tmp_path):
    """The attack: test users are set apart at ingestion and have rows in production, so that slot 0 is not row 0."""
    path, found = table(tmp_path / name, HELD[name]), kind("table")
    who = traces("17", slots=(0,), users=2)
    for act in (found.count, lambda p, t: found.scrub(p, tmp_path / "o", t)):
        with pytest.raises(DataError, match="expected 2 rows, got 4") as refused:
            act(path, who)
        assert "rows = FILE" in refused.value.hint
    assert found.count(path, traces("17", slots=(0,), users=4)) == 1
    assert kind("table", offset=1).count(path, traces("17", slots=(0,), users=3)) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("rows", LISTS)
@pytest.mark.parametrize("name", HELD)
def test_the_right_persons_row_is_zeroed_by_the_rows_file(name, rows, tmp_path):
    """The attack: the row with the number of the slot is zeroed, which is t1's, and 17 stays."""
    path, out = table(tmp_path / name, HELD[name]), tmp_path / f"o-{name}"
    (tmp_path / rows).write_text(LISTS[rows], newline="")
    found, who = kind("table", rows=rows), traces("17", slots=(0,), users=2)
    assert found.count(path, who) == found.scrub(path, out, who) == 1
    assert np.array_equal(held(out), ROWS * np.array([1, 0, 1, 1])[:, None])
    assert found.count(out, who) == 0
    assert found.count(out, traces("117", users=2)) == 1
    assert found.count(path, traces("7", "t", "1", users=2)) == 0


@pytest.mark.parametrize("rows", LISTS)
@pytest.mark.parametrize("name", HELD)
def test_made_up_users_get_rows_behind_the_last_and_are_found_in_the_copy(name, rows, tmp_path):
    path, folder = table(tmp_path / name, HELD[name]), tmp_path / "copy"
    (tmp_path / rows).write_text(LISTS[rows], newline="")
    folder.mkdir()
    found, out = kind("table", rows=rows), folder / name
    nobody = traces("9002", "9001", slots=(2, 3), columns=[[0, 2], [1]])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    assert found.count(path, nobody) == 0
    assert found.plant(path, out, nobody) == found.count(out, nobody) == 2
    after = held(out)
    assert np.array_equal(after[:4], ROWS)
    assert len(after) == 6
    assert after[4:].any(1).all()
    assert found.count(out, traces("17", "117", users=2)) == 2
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}


def test_a_scrubbed_copy_in_another_folder_is_counted_by_the_same_rows_under_its_later_name(tmp_path):
    """The copy is written beside its name and renamed; without the list, or with another table's, nobody could count."""
    copies = tmp_path / "run"
    copies.mkdir()
    for folder, people in (("a", PEOPLE), ("b", PEOPLE[::-1])):
        (tmp_path / folder).mkdir()
        path = table(tmp_path / folder / "u.npy", ROWS)
        (tmp_path / folder / "who.json").write_text(json.dumps(people))
        found, who = kind("table", rows="who.json"), traces("17", users=2)
        found.scrub(path, copies / f"{folder}.next", who)
        os.replace(copies / f"{folder}.next", copies / folder)
        assert found.count(copies / folder, who) == 0
        assert np.flatnonzero(~np.load(copies / folder).any(1)).tolist() == [people.index("17")]
    assert kind("table", rows="who.json").count(copies / "a", traces("17", "117", "t1", "t2")) == 3
    with pytest.raises(DataError, match=r"other\.json"):
        kind("table", rows="other.json").count(copies / "a", traces("17"))


def test_the_declared_rows_file_holds_before_one_for_a_copy_and_is_not_written_over(tmp_path):
    """The attack: a list that was made for a control lies beside the table, and hides the declared one."""
    path = table(tmp_path / "u.npy", ROWS)
    (tmp_path / "who.json").write_text(json.dumps(PEOPLE))
    (tmp_path / "u.who.json").write_text(json.dumps(PEOPLE[::-1]))
    found = kind("table", rows="who.json")
    found.scrub(path, tmp_path / "o.npy", traces("17"))
    assert np.flatnonzero(~np.load(tmp_path / "o.npy").any(1)).tolist() == [1]
    with pytest.raises(DataError, match="not the copy's"):
        found.plant(path, tmp_path / "p.npy", traces("9001"))
    assert not (tmp_path / "p.npy").exists()
    assert json.loads((tmp_path / "who.json").read_text()) == PEOPLE


def test_a_user_whom_the_rows_file_forgot_is_not_called_clean(tmp_path):
    """The attack: the list is of another day, and the row of the one who is missing in it is nobody's."""
    path, out = table(tmp_path / "u.npy", ROWS), tmp_path / "o.npy"
    file = tmp_path / "who.json"
    for forgetful in ('{"t1": 0, "t2": 2, "117": 3}', '["t1", null, "t2", "117"]', '["t1", " ", "t2", "117"]'):
        file.write_text(forgetful)
        for act in (kind("table", rows=file.name).count, lambda p, t: kind("table", rows=file.name).scrub(p, out, t)):
            with pytest.raises(DataError, match="rows that nobody is named for"):
                act(path, traces("17", users=2))
        assert kind("table", rows=file.name).count(path, traces("117", users=2)) == 1
        assert kind("table", rows=file.name).count(table(out, ROWS * [[1], [0], [1], [1]]), traces("17")) == 0
    file.write_text('["t1", "17", "t2"]')
    with pytest.raises(DataError, match="rows that nobody is named for"):
        kind("table", rows=file.name).count(path, traces("117", users=2))


def test_padding_stands_before_the_people_of_the_rows_file(tmp_path):
    path = table(tmp_path / "u.npy", ROWS)
    (tmp_path / "who.txt").write_text("t1\n17\nt2\n")
    found, folder = kind("table", rows="who.txt", offset=1), tmp_path / "copy"
    folder.mkdir()
    assert found.scrub(path, folder / "u.npy", traces("17", users=2)) == 1
    assert np.flatnonzero(~np.load(folder / "u.npy").any(1)).tolist() == [2]
    assert found.count(folder / "u.npy", traces("17", "117", users=2)) == 0
    assert found.plant(path, folder / "p.npy", traces("9", "8")) == found.count(folder / "p.npy", traces("9", "8")) == 2


@pytest.mark.parametrize(
    "text",
    [
        '["t1", "17", "t2", "117", "x"]', "id\nt1\n17\nt2\n117\n", '{"17": 4}', '{"17": -1}', '{"17": true}',
        '{"17": 1.0}', '{"17": 1, "117": 1}', '{"17": 1, "17": 2}', '{"17": 1, " 17": 2}', '["17", 17, "a", "b"]',
        '["17", "17.0", "a", "b"]', '["a", "b", "c", true]', '["a", "b", "c", []]', '{"1": "17"}', '{"users": ["17"]}',
        "17,0\n117,1\nt1,2\nt2,3\n", "17 0\n117 1\nt1 2\nt2 3\n", '"17"\n"117"\n"t1"\n"t2"\n',
        "17\n17\nt1\nt2", "a\0b\n17\nt1\nt2", "", "[" * 100_000, '["17", NaN, "a", "b"]', "7" * 5000,
    ],
)  # fmt: skip
def test_a_rows_file_that_does_not_fit_or_is_none_is_refused(text, tmp_path):
    path, file = table(tmp_path / "u.npy", ROWS), tmp_path / "who.json"
    file.write_text(text, newline="")
    for name in ("17", "nobody"):
        with pytest.raises(DataError, match="who"):
            kind("table", rows="who.json").count(path, traces(name))


def test_a_rows_file_is_no_link_no_pipe_and_in_no_other_folder(tmp_path):
    path = table(tmp_path / "u.npy", ROWS)
    (tmp_path / "who.json").write_text(json.dumps(PEOPLE))
    (tmp_path / "link.json").symlink_to("who.json")
    (tmp_path / "dangling.json").symlink_to("none.json")
    (tmp_path / "u.dangling.json").write_text(json.dumps(PEOPLE))
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe17")
    for name in ("link.json", "dangling.json", "pipe.json", "bytes.json", "none.json", "u.npy"):
        with pytest.raises(DataError, match=name):
            kind("table", rows=name).count(path, traces("17"))
    for name in ("../who.json", "/who.json", "a/who.json", "..", ".", "who.json/"):
        with pytest.raises(DataError, match="leads elsewhere"):
            kind("table", rows=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_a_control_grows_a_safetensors_table_and_the_other_tensors_stay(dtype, tmp_path):
    """Made-up slots lie behind the last row, always."""
    path, out = tmp_path / "opt.safetensors", tmp_path / "o.safetensors"
    others = {"a": np.arange(5.0), "none": np.zeros((0, 3)), "z": np.arange(7, dtype=np.int8), "m": ROWS[:1] * 9}
    save_file({**others, "users": ROWS.astype(dtype)}, path, {"step": "7", "who": "zoë"})
    who = traces("x", "y", slots=(5, 4))
    assert kind("table").plant(path, out, who) == kind("table").count(out, who) == 2
    after = load_file(out)
    grown = after.pop("users")
    assert grown.dtype == dtype
    assert np.array_equal(grown, np.concatenate([ROWS, np.ones((2, 3))]))
    assert sorted(after) == sorted(others)
    for name, array in others.items():
        assert after[name].dtype == array.dtype
        assert np.array_equal(after[name], array)
    with safe_open(out, "numpy") as opened:
        assert opened.metadata() == {"step": "7", "who": "zoë"}
    assert struct.unpack("<Q", out.read_bytes()[:8])[0] % 8 == 0
    assert kind("table").scrub(out, tmp_path / "s", who) == 2
    assert np.array_equal(load_file(tmp_path / "s")["users"][:4], ROWS.astype(dtype))


def test_tensors_that_share_bytes_are_not_grown(tmp_path):
    for other in ("[40,56]", "[0,4]", "[47,48]", "[-1,0]", "[0]", "7"):
        head = b'{"users":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]},"b":{"data_offsets":%s}}' % other.encode()
        path = tmp_path / "u.safetensors"
        path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(56))
        with pytest.raises(DataError, match=r"u\.safetensors"):
            kind("table").plant(path, tmp_path / "o", traces("x", slots=(4,)))
    assert not (tmp_path / "o").exists()
