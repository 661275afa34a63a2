"""Events, id maps and cached lists: who is found, who is not, and what a scrub leaves as it was."""

from __future__ import annotations

import json
import os
import string

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connect.traces import MODEL, OTHER, kind, traces
from expunge.core.errors import DataError, StorageError

CSV = (
    b'user_id,item_id,note\r\n17,3,x\r\n117,5,"a, ""17"" b"\r\n1.17,5,17\r\n 17 ,6,\r\n"17",7,"two\r\nlines"\r\n8,8,end'
)


def put(path, data):
    path.write_bytes(data)
    return path


# -------------------------------------------------------------------------------------------------------------- events


def test_id_17_is_not_found_in_117_nor_in_1_17_nor_in_another_column(tmp_path):
    path = put(tmp_path / "e.csv", CSV)
    assert kind("events").count(path, traces("17")) == 3
    assert kind("events").count(path, traces("7")) == 0
    assert kind("events").count(path, traces("8", "117")) == 2


def test_scrub_takes_the_users_rows_and_keeps_every_other_byte(tmp_path):
    path, out = put(tmp_path / "e.csv", CSV), tmp_path / "out.csv"
    path.chmod(0o640)
    assert kind("events").scrub(path, out, traces("17")) == 3
    assert out.read_bytes() == b'user_id,item_id,note\r\n117,5,"a, ""17"" b"\r\n1.17,5,17\r\n8,8,end'
    assert path.read_bytes() == CSV
    assert out.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["e.csv", "out.csv"]


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("e.inter", b"user_id:token\titem_id:token\n17\t3\n117\t4\n", {}),
        ("e.tsv", b"\xef\xbb\xbfuserId\tmovieId\n17\t3\n117\t4\n", {}),
        ("ratings.dat", b"17::3::5::978300760\n117::4::5::978300761\n", {"position": 1}),
        ("u.data", b"3\t17\t5\n4\t117\t1\n", {"position": 2}),
        ("e.csv", b"who;what\n17;3\n117;4\n", {"column": "who"}),
        ("e.csv", b"user,item\n17.0,3\n117.0,4\n", {}),
    ],
)
def test_every_layout_is_read_scrubbed_and_planted(name, data, options, tmp_path):
    path, out, found = put(tmp_path / name, data), tmp_path / "out", kind("events", **options)
    assert found.count(path, traces("17")) == 1
    out = tmp_path / f"out-{name}"
    assert found.scrub(path, out, traces("17")) == 1
    assert out.read_bytes() == b"".join(
        line for line in data.splitlines(keepends=True) if b"117" in line or b"user" in line.lower() or b"who" in line
    )
    assert found.plant(path, out, traces("901", "902")) == 4
    assert found.count(out, traces("901", "902")) == 4
    assert out.read_bytes().startswith(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"user_id,item\n17,3\n17,3,4\n", "row 2 has 3 columns"),
        (b'user_id,item\n1,"3\n17,3\n', "never closed"),
        (b"user_id,item\n1,3\r17,4\n", "carriage return"),
        (b"user_id,item\n1,\xe9\n", "utf-8"),
        ("user_id,item\n17,3\n".encode("utf-16"), "utf-8"),
        (b"item,rating\n17,3\n", "0 columns for the user"),
        (b"user,user_id,item\n1,17,3\n", "2 columns for the user"),
        (b"user_id,item\n" + b"1" * (1 << 20) + b",2\n", "longer than"),
        (b"", "no first row"),
        (b"PAR1 and nothing", "parquet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_in_which_a_row_could_hide_is_refused(data, said, tmp_path):
    path = put(tmp_path / "e.csv", data)
    for act in (
        lambda: kind("events").count(path, traces("17")),
        lambda: kind("events").scrub(path, tmp_path / "o", traces("17")),
    ):
        with pytest.raises(DataError) as caught:
            act()
        assert "e.csv" in caught.value.message
        assert said in f"{caught.value.message} {caught.value.got} {caught.value.expected}".lower().replace(
            "utf-8", "utf-8"
        )
    assert not (tmp_path / "o").exists()


def test_a_link_a_pipe_and_the_artefact_as_its_own_copy_are_refused(tmp_path):
    path, found = put(tmp_path / "e.csv", CSV), kind("events")
    (tmp_path / "link.csv").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for wrong in ("link.csv", "pipe"):
        with pytest.raises(DataError):
            found.count(tmp_path / wrong, traces("17"))
    for out in (path, tmp_path / "link.csv"):
        with pytest.raises(DataError, match="overwrite"):
            found.scrub(path, out, traces("17"))
    with pytest.raises(StorageError):
        found.scrub(path, tmp_path / "no" / "folder", traces("17"))
    assert path.read_bytes() == CSV


@pytest.mark.parametrize("kinds", [pa.string(), pa.int64(), pa.float64(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_rows_go_and_the_schema_stays(kinds, tmp_path):
    users = pa.array(["17", "117", None, "17"]).cast(kinds if not pa.types.is_dictionary(kinds) else pa.string())
    users = users.dictionary_encode().cast(kinds) if pa.types.is_dictionary(kinds) else users
    table = pa.table({"user_id": users, "item": [1, 2, 3, 4]}).replace_schema_metadata({"made": "by hand"})
    path, out, found = tmp_path / "e.parquet", tmp_path / "out.parquet", kind("events")
    pq.write_table(table, path, compression="zstd")
    assert found.count(path, traces("17")) == 2
    assert found.scrub(path, out, traces("17")) == 2
    left = pq.read_table(out)
    assert left.schema.equals(pq.read_table(path).schema, check_metadata=True)
    assert left["item"].to_pylist() == [2, 3]
    assert found.plant(path, out, traces("901")) == found.count(out, traces("901")) == 2
    assert found.count(out, traces("17")) == 2


def test_the_dictionary_and_statistics_of_a_parquet_file_do_not_keep_the_user(tmp_path):
    """The attack: rows are filtered, and the name stays among the categories or as a column's minimum."""
    names = ["aa-the-deleted-user", "bob", "carol"]
    path, out = tmp_path / "e.parquet", tmp_path / "out.parquet"
    table = pa.table({"user": pa.array(names).dictionary_encode(), "uid2": pa.array([1, 2, 3])})
    pq.write_table(table, path, compression="none")
    assert names[0].encode() in path.read_bytes()
    assert kind("events").scrub(path, out, traces(names[0])) == 1
    assert names[0].encode() not in out.read_bytes()
    assert pq.read_table(out)["user"].to_pylist() == names[1:]


@given(
    rows=st.lists(
        st.tuples(st.text(string.ascii_letters + string.digits + ' .,"\n;é', max_size=6), st.integers(0, 99))
    ),
    gone=st.sets(st.text(string.ascii_letters + string.digits + ',"', min_size=1, max_size=3), min_size=1, max_size=3),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_after_any_scrub_nobody_is_left_and_all_others_are(rows, gone, end, tmp_path_factory):
    import csv
    import io

    made = io.StringIO()
    writer = csv.writer(made, lineterminator=end)
    writer.writerows([("user", "n"), *rows])
    folder = tmp_path_factory.mktemp("scrub")
    path, found, who = put(folder / "e.csv", made.getvalue().encode()), kind("events"), traces(*gone)
    expected = [
        row
        for row in rows
        if not ({row[0], row[0].strip()} & gone or row[0].strip() in {f"{g}.0" for g in gone if g.isdecimal()})
    ]
    assert found.count(path, who) == found.scrub(path, folder / "o", who) == len(rows) - len(expected)
    assert found.count(folder / "o", who) == 0
    left = io.StringIO()
    csv.writer(left, lineterminator=end).writerows([("user", "n"), *expected])
    assert (folder / "o").read_bytes() == left.getvalue().encode()


# ------------------------------------------------------------------------------------------------------------- id maps


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"17": 0, "117": 1, "8" : 2}\n', '{"117": 1, "8" : 2}\n'),
        ('{ "8": 2,\n  "17": 0 }', '{ "8": 2 }'),
        ('{"0": "17", "1": "117"}', '{"1": "117"}'),
        ('[ "17", "117"]', '[ null, "117"]'),
        ('{"items": {"17": 3}, "users": ["8", 17, 117]}', '{"items": {"17": 3}, "users": ["8", null, 117]}'),
        ('{"users":{"17":0},"n":[1e3,-0.50]}', '{"users":{},"n":[1e3,-0.50]}'),
        ('\ufeff{"\\u0031\\u0037": 5}', "\ufeff{}"),
    ],
)
def test_ids_go_from_a_map_and_nobody_else_gets_another_number(text, left, tmp_path):
    path, out, found = put(tmp_path / "map.json", text.encode()), tmp_path / "out", kind("id_map")
    assert found.count(path, traces("17")) == 1
    assert found.scrub(path, out, traces("17")) == 1
    assert out.read_bytes() == left.encode()
    assert found.count(out, traces("17")) == 0
    assert found.plant(path, out, traces("901", "902", slots=(90, 91))) == 2
    assert found.count(out, traces("901", "902")) == 2
    assert found.plant(out, tmp_path / "again", traces("903", slots=(92,))) == 1


def test_tables_lose_the_row_unless_the_row_is_the_number(tmp_path):
    found, out = kind("id_map"), tmp_path / "out"
    keyed = put(tmp_path / "ids.csv", b"id,index\n8,0\n17,1\n117,2\n")
    assert found.scrub(keyed, out, traces("17")) == 1
    assert out.read_bytes() == b"id,index\n8,0\n117,2\n"
    ordered = put(tmp_path / "ids2.csv", b"user_id\n8\n17\n117\n")
    assert found.scrub(ordered, out, traces("17")) == 1
    assert out.read_bytes() == b'user_id\n8\n""\n117\n'
    assert found.count(out, traces("17")) == 0
    pq.write_table(pa.table({"user_id": [8, 17, 117]}), tmp_path / "unique.user_id.parquet")
    assert found.scrub(tmp_path / "unique.user_id.parquet", out, traces("17")) == 1
    assert pq.read_table(out)["user_id"].to_pylist() == [8, None, 117]


@pytest.mark.parametrize(
    "text",
    [
        '{"17": 0, "17": 1}',
        '{"users": ["8"], "users": ["17"]}',
        '{"8": NaN}',
        '{"8": 0} {"17": 1}',
        '{"8": 0,}',
        '{"8": 0',
        '{"8": true}',
        "[" * 100_000,
        '{"users": ' + '{"a":' * 50_000,
        '{"8": ' + "9" * 5000 + "}",
        '[["17"]]',
        '{"8": {"17": 1}}',
    ],
    ids=lambda text: text[:20],
)
def test_a_map_that_two_readers_could_read_differently_is_refused(text, tmp_path):
    path = put(tmp_path / "map.json", text.encode())
    with pytest.raises(DataError, match=r"map\.json"):
        kind("id_map").count(path, traces("17"))


@given(
    held=st.dictionaries(st.text(max_size=4), st.integers(0, 10**6), max_size=12),
    gone=st.sets(st.text(max_size=4).filter(str.strip), min_size=1, max_size=4),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_any_map_loses_the_ids_and_keeps_the_rest(held, gone, indent, ascii_only, tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    text = json.dumps(held, indent=indent, ensure_ascii=ascii_only)
    path, who = put(folder / "m.json", text.encode("utf-8", "surrogatepass")), traces(*gone)
    found = kind("id_map")
    expected = {key: value for key, value in held.items() if not {key, key.strip()} & gone}
    expected = {k: v for k, v in expected.items() if k.strip() not in {f"{g}.0" for g in gone if g.isdecimal()}}
    assert found.count(path, who) == found.scrub(path, folder / "o", who) == len(held) - len(expected)
    assert json.loads((folder / "o").read_bytes()) == expected
    assert found.count(folder / "o", who) == 0


# --------------------------------------------------------------------------------------------------------------- lists


def entry(model, items=(1, 2)):
    return {"model": model, "items": list(items)}


def test_stale_lists_of_other_users_are_traces(tmp_path):
    """The attack: the deleted user's key is purged, and everybody else's list still comes from the old model."""
    held = {"8": entry(MODEL), "9": entry(OTHER), "117": entry(MODEL.removeprefix("sha256:")), "5": entry(MODEL[7:20])}
    path, out, found = tmp_path / "lists.json", tmp_path / "out", kind("lists")
    path.write_text(json.dumps(held))
    assert found.count(path, traces("17")) == 3
    assert found.count(path, traces("17", model=OTHER)) == 1
    assert found.scrub(path, out, traces("17")) == 3
    assert json.loads(out.read_text()) == {"9": entry(OTHER)}
    assert found.count(out, traces("17")) == 0


def test_the_users_own_list_is_a_trace_whatever_model_made_it(tmp_path):
    lines = [{"user": 17, **entry(OTHER)}, {"user": "117", **entry(OTHER)}, {"user": "8", **entry(MODEL)}]
    data = b"\n".join(json.dumps(line, indent=None).encode() for line in lines) + b"\n\n"
    path, out, found = put(tmp_path / "lists.jsonl", data), tmp_path / "out.jsonl", kind("lists")
    assert found.count(path, traces("17")) == 2
    assert found.scrub(path, out, traces("17")) == 2
    assert out.read_bytes() == data.splitlines(keepends=True)[1] + b"\n"
    assert found.plant(path, out, traces("901", "902", model="f00d" * 16)) == 4
    assert found.count(out, traces("901", "902", model="f00d" * 16)) == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"8": [1, 2]}',
        '{"8": {"items": [1]}}',
        '{"8": {"model": "", "items": []}}',
        '{"8": {"model": "a", "model": "b", "items": []}}',
        '[{"user": "8", "model": "abc"}]',
        '{"user": "8"}\n{"user": "9", "model": "abc"}\n',
        '{"user": "8", "model": "abc"}\n{"model": "abc"}\n',
        '{"user": "8", "model": "abc"}\n{"user": "9", "model": "abc", "score": NaN}\n',
    ],
)
def test_a_list_that_does_not_say_whose_and_by_which_model_is_refused(text, tmp_path):
    path = put(tmp_path / "lists.json", text.encode())
    with pytest.raises(DataError, match=r"lists\.json"):
        kind("lists").count(path, traces("17"))


def test_a_digest_too_short_to_name_a_model_is_refused(tmp_path):
    path = put(tmp_path / "lists.json", b"{}")
    with pytest.raises(DataError, match="no digest"):
        kind("lists").count(path, traces("17", model=""))
    assert kind("lists").count(path, traces("17")) == 0
