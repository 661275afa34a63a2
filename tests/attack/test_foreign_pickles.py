"""Model files made by an enemy: pickles, torch zips and npz must be refused without running, importing, hanging or
filling memory. A reader returns a model or raises one of our errors, whatever the bytes are."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connect import lookalikes as made
from expunge.connect import recommenders
from expunge.connect.recommenders import _opcodes
from expunge.connect.recommenders._builders import BUILDERS, TORCH_BUILDERS, Array, Storage
from expunge.connect.recommenders._opcodes import Allowed, read_pickle
from expunge.connect.recommenders.arrays import Arrays
from expunge.connect.recommenders.cornac import Cornac
from expunge.connect.recommenders.implicit import Implicit
from expunge.connect.recommenders.lenskit import LensKit
from expunge.connect.recommenders.recbole import RecBole
from expunge.core.errors import DataError, ExpungeError, InputError

READERS = (LensKit(), Cornac(), RecBole(), Implicit(), Arrays())
ALLOWED = Allowed(packages=("lenskit",))
LAM = 5.0
ITEMS = [f"m{n}" for n in range(9)]


def machine(data, *, builders=BUILDERS, persistent=None):
    return read_pickle(io.BytesIO(data), len(data), allowed=ALLOWED, builders=builders, persistent=persistent)


def refused(data, *words, **more):
    """Refused by the machine, with these words in what is said."""
    with pytest.raises(DataError) as caught:
        machine(data, **more)
    assert caught.value.code == "unsafe-artefact"
    said = " ".join(caught.value.lines())
    for word in words:
        assert word in said, said
    return said


def name(module, attribute):
    """STACK_GLOBAL."""
    return text(module) + text(attribute) + b"\x93"


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def raw(value):
    return b"B" + struct.pack("<I", len(value)) + value


def scorer(tmp_path):
    weights = made.ease(made.rows(), LAM, np.float32)
    return made.lenskit_scorer(tmp_path / "scorer.pkl", weights, LAM, ITEMS)


class Payload:
    """What a pickle of it would do: make a folder."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


# -------------------------------------------------------------------------------------------- code hidden in a pickle


def test_the_control_is_read_and_its_payload_would_run(tmp_path):
    data = pickle.dumps({"a": [1, 2.5, "x", b"y", None, True, (3,)], "b": np.arange(6.0).reshape(2, 3)})
    found = machine(data)
    assert found["a"] == [1, 2.5, "x", b"y", None, True, (3,)]
    assert np.array_equal(found["b"].value, np.arange(6.0).reshape(2, 3))
    pickle.loads(pickle.dumps(Payload(os.mkdir, str(tmp_path / "owned"))))
    assert (tmp_path / "owned").is_dir()


@pytest.mark.parametrize("protocol", range(6))
def test_os_system_via_reduce(protocol, tmp_path):
    data = pickle.dumps({"B": Payload(os.mkdir, str(tmp_path / "owned"))}, protocol)
    refused(data, "posix.mkdir", "byte ")
    assert not (tmp_path / "owned").exists()


def test_os_system_where_the_weights_are_in_a_model_of_every_library(tmp_path):
    payload = Payload(os.mkdir, str(tmp_path / "owned"))
    x = made.rows()
    paths = {
        READERS[0]: made.lenskit_scorer(tmp_path / "a.pkl", payload, LAM, ITEMS),
        READERS[1]: made.cornac_model(tmp_path / "b.pkl", x, LAM, seed=payload),
        READERS[2]: made.recbole_checkpoint(tmp_path / "c.pth", x, LAM, optimizer=payload),
    }
    for reader, path in paths.items():
        assert reader.recognises((path,))
        with pytest.raises(DataError, match=r"posix\.mkdir"):
            reader.read((path,))
    assert not (tmp_path / "owned").exists()


def test_os_system_via_build(tmp_path):
    """__setstate__ is put into the state of an allowed record, then called by a second BUILD."""
    evil = name("lenskit.knn.ease", "EASEScorer") + b")\x81" + b"}" + text("__setstate__") + name("posix", "system")
    refused(evil + b"sb" + text("true") + b"b.", "posix.system")
    twice = name("lenskit.knn.ease", "EASEScorer") + b")\x81" + b"}b" + text("true") + b"b."
    refused(twice, "sets the state of Record")
    refused(text("x") + b"}b.", "sets the state of str")


@pytest.mark.parametrize(
    "code",
    [
        b"(S'true'\niposix\nsystem\n.",  # INST
        b"(" + name("posix", "system") + text("true") + b"o.",  # OBJ
        b"(" + name("lenskit.knn.ease", "EASEScorer") + text("true") + b"o.",
        b"(ilenskit.knn.ease\nEASEScorer\n.",
    ],
)
def test_os_system_via_inst_and_obj(code):
    refused(code)


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "compile"),
        ("builtins", "open"),
        ("__builtin__", "eval"),
        ("os", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("copyreg", "add_extension"),
        ("numpy", "load"),
        ("numpy", "memmap"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.f2py.crackfortran", "getlincoef"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.serialization", "load"),
        ("pickle", "loads"),
        ("joblib", "load"),
        ("lenskit", "os.system"),
        ("lenskit.knn", "ease.np.load"),
        ("lenskitten", "eval"),
        ("os.lenskit", "system"),
        ("lenskit..os", "system"),
        ("lenskit os", "system"),
        (".lenskit", "x"),
        ("", "eval"),
        ("lenskit", ""),
        ("ｏｓ", "system"),
        ("posix", "ｓystem"),
    ],
)
def test_stack_global_to(module, attribute):
    data = name(module, attribute) + b"."
    assert f"{module.replace('__builtin__', 'builtins')}.{attribute}" in refused(data)
    if module and attribute and module.isascii() and attribute.isascii():
        refused(f"c{module}\n{attribute}\n.".encode())  # GLOBAL


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (b"\x82\x01.", "extension registry"),
        (b"\x83\x01\x00.", "extension registry"),
        (b"\x84\x01\x00\x00\x00.", "extension registry"),
        (b"P0\n.", "outside the file"),
        (text("a") + b"Q.", "outside the file"),
        (b"\x97.", "outside the file"),
        (text("a") + b"\x98.", "outside the file"),
        (text("a") + text("b") + b"\x93.", "global"),
        (b"N" + text("b") + b"\x93.", "other than a string"),
        (text("posix") + b")R.", "instead of a global"),
        (name("lenskit.a", "b") + b")R" + b")R.", "instead of a global"),
        (name("lenskit.a", "b") + b"]R.", "not a tuple"),
        (name("lenskit.a", "b") + b"N\x81.", "not a tuple"),
        (name("lenskit.a", "b") + b"))\x92.", "keywords"),
        (name("builtins", "bytearray") + b")}\x92.", "keywords"),
        (b"N]a.", "appends to NoneType"),
        (b"NNNs.", "sets items of NoneType"),
        (b"N(N\x90.", "adds to NoneType"),
        (b"}(Nu.", "has no value"),
        (b"0.", "mark that is not there"),
        (b"\x85.", "empty stack"),
        (b"2.", "empty stack"),
        (b"h\x05.", "memo"),
        (b"NN.", "one value"),
        (b"(N.", "one value"),
        (b".", "one value"),
    ],
)
def test_opcodes_that_no_array_needs(code, said):
    refused(code, said)


def test_a_second_pickle_behind_the_first():
    refused(b"N." + pickle.dumps(Payload(os.system, "true")), "bytes follow its end")


def test_the_sources_neither_unpickle_nor_allow_it():
    for file in Path(recommenders.__path__[0]).glob("*.py"):
        code = "".join(line.split("#")[0] for line in file.read_text().splitlines(True))
        for word in (
            r"\bpickle\.",
            "import pickle$",
            "Unpickler",
            "allow_pickle",
            r"torch\.load\(",
            r"\beval\(",
            "exec",
        ):
            found = [line for line in code.splitlines() if re.search(word, line) and "literal_eval" not in line]
            assert all("data.pkl" in line or '"""' in line or "executes" in line for line in found), (file.name, found)


def test_reading_audits_no_call_into_the_system(tmp_path):
    """The interpreter's own audit events of a reading: no process, no code, nothing of the libraries imported."""
    pipe = made.lenskit_scorer(
        tmp_path / "p.pkl", made.ease(made.rows(), LAM, np.float32), LAM, ITEMS, more=([0, 1], [0, 8])
    )
    code = (
        "import sys, pathlib\n"
        "from expunge.connect.recommenders.lenskit import LensKit\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append((event, args[0] if args else None)))\n"
        f"LensKit().read((pathlib.Path({str(pipe)!r}),))\n"
        "bad = [e for e in seen if e[0] in ('exec', 'compile', 'os.system', 'subprocess.Popen', 'pickle.find_class')"
        " or (e[0] == 'import' and str(e[1]).split('.')[0] in ('lenskit', 'pyarrow', 'torch'))]\n"
        "print(len(seen) > 0, bad)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "True []", done.stderr


# ------------------------------------------------------------------------------------------------ bombs: memory and time


def peak(call):
    """Megabytes at most, and seconds."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        call()
    finally:
        memory = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    return memory, time.perf_counter() - start


def quickly(call, megabytes=400, seconds=30):
    memory, taken = peak(call)
    assert memory < megabytes
    assert taken < seconds


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_memo_bomb(kind):
    """Ten references to ten references, sixty times over: 10^60 leaves when anybody walks them as a tree."""
    make = {
        "list": lambda k: b"](" + b"".join(b"h" + bytes([k]) for _ in range(10)) + b"e",
        "tuple": lambda k: b"(" + b"".join(b"h" + bytes([k]) for _ in range(10)) + b"t",
        "dict": lambda k: b"}(" + b"".join(text(str(n)) + b"h" + bytes([k]) for n in range(10)) + b"u",
    }[kind]
    code = text("lol") + b"q\x000" + b"".join(make(k) + b"q" + bytes([k + 1]) + b"0" for k in range(60))
    quickly(lambda: machine(code + b"h\x3c."))


def test_memo_bomb_within_a_model(tmp_path):
    bomb = ["lol"]
    for _ in range(60):
        bomb = [bomb] * 10
    path = made.cornac_model(tmp_path / "m.pkl", made.rows(), LAM, seed=bomb, train_set=bomb)
    quickly(lambda: Cornac().read((path,)))


def test_a_key_that_takes_two_to_the_sixty_steps_to_hash():
    twice = [b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) + b"0" for k in range(60)]
    code = b")q\x000" + b"".join(twice)
    for use in (b"}h\x3cNs.", b"\x8f(h\x3c\x90.", b"(h\x3c\x91.", b"(h\x3cNd.", b"}(h\x3cNu."):
        refused(code + use, "a key of a dict or set is a tuple")


def test_keys_that_all_hash_to_the_same():
    key = pickle.dumps(2**61 * 2**20)[2:-1]
    refused(b"}" + key[key.index(b"\x8a") :] + b"Ns.", "bits")


@pytest.mark.parametrize(
    "code",
    [
        b"N" + b"\x85" * 100_000 + b".",  # ((((None,),),),)
        b"]" * 100_000 + b"a" * 99_999 + b".",
        (b"}" + text("k")) * 100_000 + b"N" + b"s" * 100_000 + b".",
        b"(" * 100_000 + b"t" * 100_000 + b".",
        name("lenskit.a", "b") + b"q\x00" + b"N" + (b"q\x01h\x00h\x01\x85\x81") * 50_000 + b"\x86\x86.",
    ],
)
def test_deep_nesting(code):
    quickly(lambda: refused(code), seconds=60)


def test_nesting_that_is_made_from_the_outside_in():
    grow = [b"j" + struct.pack("<I", k) + b"]r" + struct.pack("<I", k + 1) + b"a0" for k in range(999)]
    refused(b"]r" + bytes(4) + b"0" + b"".join(grow) + b"j" + bytes(4) + b".", "nested more than")


@pytest.mark.parametrize(
    "code",
    [
        b"\x8e" + struct.pack("<Q", 2**62) + b"x.",  # BINBYTES8
        b"\x96" + struct.pack("<Q", 2**62) + b"x.",  # BYTEARRAY8
        b"\x8d" + struct.pack("<Q", 2**62) + b"x.",  # BINUNICODE8
        b"B" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"X" + struct.pack("<I", 2**32 - 1) + b"x.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",  # LONG4
        b"\x8b" + struct.pack("<i", -5) + b"x.",
        b"T" + struct.pack("<i", -1) + b"x.",
    ],
)
def test_a_length_that_the_file_does_not_have(code):
    quickly(lambda: refused(code), megabytes=5)


@pytest.mark.parametrize("digits", [b"9" * 4_000_000, b"9" * 4000])
def test_a_number_of_a_million_digits(digits):
    for code in (b"I" + digits + b"\n.", b"L" + digits + b"L\n."):
        quickly(lambda code=code: refused(code), seconds=5)
    quickly(lambda: refused(b"\x8b" + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000 + b"."), seconds=5)


@pytest.mark.parametrize("one", [b"\x8f", b"]", b"}", b"]\x85", name("lenskit.a", "b") + b")\x81"])
def test_quadratic_memory_of_a_million_empty_containers(one):
    """One byte of the file, two hundred of memory."""
    count = 3_000_000 if len(one) < 3 else 300_000
    quickly(lambda: refused(b"(" + one * count + b"t.", "bytes of memory"), megabytes=200, seconds=60)


def test_quadratic_memory_of_arrays_that_copy_the_same_bytes():
    """A big-endian array is copied; a thousand of them share one megabyte of the file."""
    data = np.arange(2**17, dtype=">f8")
    shared = (
        name("numpy._core.numeric", "_frombuffer") + b"q\x00" + pickle.dumps(data.tobytes())[2:-1].split(b"\x94")[0]
    )
    shared = name("numpy._core.numeric", "_frombuffer") + b"q\x000" + raw(data.tobytes()) + b"q\x010"
    dtype = name("numpy", "dtype") + text("f8") + b"\x89\x88\x87R(K\x03" + text(">") + b"NNNK\x00K\x00K\x00tbq\x020"
    one = b"h\x00(h\x01h\x02" + b"J" + struct.pack("<i", 2**17) + b"\x85" + text("C") + b"tR"
    control = machine(shared + dtype + one + b".")
    assert np.array_equal(control.value, data)
    quickly(lambda: refused(shared + dtype + b"(" + one * 1000 + b"t.", "bytes of memory"), megabytes=200)


def test_quadratic_memory_of_strings_that_become_bytes():
    shared = name("_codecs", "encode") + b"q\x000" + text("a" * 2**20) + b"q\x010" + text("latin1") + b"q\x020"
    assert machine(shared + b"h\x00h\x01h\x02\x86R.") == b"a" * 2**20
    quickly(lambda: refused(shared + b"(" + b"h\x00h\x01h\x02\x86R" * 1000 + b"t.", "bytes of memory"), megabytes=200)


def test_quadratic_time_of_a_long_key_that_many_dicts_share():
    code = text("k" * 2**20) + b"q\x000" + b"(" + b"}h\x00]s" * 50_000 + b"t."
    value = machine(code)
    quickly(lambda: list(_opcodes.walk(value)), seconds=20)


def test_more_opcodes_than_a_model_has(monkeypatch):
    monkeypatch.setattr(_opcodes, "MAX_OPCODES", 1000)
    refused(b"N0" * 1000 + b"N.", "more than 1000 opcodes")


@pytest.mark.parametrize("size", [10**12, -1])
def test_bytearray_of_a_length(size):
    refused(name("builtins", "bytearray") + pickle.dumps(size, 2)[2:-1] + b"\x85R.", "unknown form")


def stretched(size, stride, offset=0):
    """A tensor over one float32, in data.pkl's opcodes."""
    reference = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01tQ"
    numbers = [pickle.dumps(value, 2)[2:-1] for value in (offset, size, stride)]
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + reference + b"".join(numbers) + b"\x89N" + b"tR."


def one_float(reference):
    return Storage(reference[1], struct.pack("<f", 1.5), reference[4])


def test_a_tensor_stretched_over_all_memory():
    found = machine(stretched((1, 1), (1, 1)), builders=TORCH_BUILDERS, persistent=one_float)
    assert found.value.tolist() == [[1.5]]
    for size, stride, offset in [
        ((2**30, 2**30), (0, 0), 0),
        ((2**30,), (0,), 0),
        ((2,), (1,), 0),
        ((1,), (1,), 1),
        ((1,), (1,), -1),
        ((-1, -1), (1, 1), 0),
        ((1,), (), 0),
    ]:
        refused(stretched(size, stride, offset), builders=TORCH_BUILDERS, persistent=one_float)


# ---------------------------------------------------------------------------------------------------------- the arrays


def test_numpy_object_arrays(tmp_path):
    payload = Payload(os.mkdir, str(tmp_path / "owned"))
    for protocol in (2, 4, 5):
        refused(pickle.dumps(np.array([payload, None]), protocol))
        refused(pickle.dumps(np.array([None, 1]), protocol), "objects are not read")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, [("a", "f4"), ("b", "i4")]),
        np.zeros(3, "M8[s]"),
        np.zeros(3, complex),
        np.zeros(3, "V8"),
        np.zeros((1,) * 6),
        np.zeros(3).view(np.recarray),
        np.ma.masked_array([1.0, 2.0], [True, False]),
    ],
)
def test_arrays_of_something_else(array):
    refused(pickle.dumps(array, 4))


def array_state(shape, data, dtype=text("f8")):
    """An array by _reconstruct and BUILD."""
    start = (
        name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85" + raw(b"b") + b"\x87R"
    )
    kind = name("numpy", "dtype") + dtype + b"\x89\x88\x87R"
    return start + b"(K\x01" + pickle.dumps(shape, 2)[2:-1] + kind + b"\x89" + data + b"tb."


def test_arrays_whose_bytes_are_not_those_of_their_shape():
    assert machine(array_state((1, 2), raw(bytes(16)))).value.shape == (1, 2)
    for shape in ((3,), (2**62,), (2**40 - 1, 2**40 - 1), (-2,), (2.0,), (True,), 2, [2], ("2",), (0, 2**39, 2**39)):
        refused(array_state(shape, raw(bytes(16))))
    refused(array_state((2,), text("x" * 16)))
    refused(array_state((2,), b"](NNe"))
    for dtype in ("O", "U0", "S0", "U999999999", "f16", "i3", "2f8", "(2,)f8", "f8,f8", "float64, O"):
        refused(array_state((2,), raw(bytes(16)), text(dtype)), "dtype")
    refused(array_state((2,), raw(bytes(16)), b"N"), "dtype")


def test_an_array_that_is_filled_twice_or_never():
    twice = array_state((2,), raw(bytes(16)))[:-1]
    refused(twice + b"(K\x01K\x02\x85NN" + raw(b"") + b"tb.", "unknown form")
    empty = (
        name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85" + raw(b"b") + b"\x87R."
    )
    assert isinstance(machine(empty), Array)
    assert machine(empty).value is None


def test_an_array_that_is_never_filled_is_no_weights(tmp_path):
    path = made.lenskit_scorer(tmp_path / "s.pkl", made.ease(made.rows(), LAM, np.float32), LAM, ITEMS, protocol=2)
    data = path.read_bytes()
    start = data.index(b"cnumpy._core.multiarray\n_reconstruct")
    fill = data.index(b"(K\x01K\tK\t", start)
    state = data[fill : data.index(b"tq", fill)]
    end = data.index(b"b", data.index(b"tq", fill) + 2)
    path.write_bytes(data[:fill] + data[end + 1 :])
    assert state
    with pytest.raises(InputError):
        LensKit().read((path,))


@pytest.mark.parametrize(
    "change",
    [
        {"indptr": [0, 5, 3]},
        {"indptr": [0, 1, 2, 3]},
        {"indptr": [1, 2, 3]},
        {"indices": [0, 1, 2]},
        {"indices": [0, 1, -1]},
        {"_shape": (2, 2**40)},
        {"_shape": (2,)},
        {"_shape": None},
        {"data": None},
        {"data": "x"},
    ],
)
def test_a_sparse_matrix_that_points_outside_itself(change):
    held = {"data": [1.0, 1, 1], "indices": [0, 1, 1], "indptr": [0, 2, 3], "_shape": (2, 2), **change}
    state = {key: np.array(value) if isinstance(value, list) else value for key, value in held.items()}
    made_of = name("scipy.sparse._csr", "csr_matrix") + b")\x81"
    refused(made_of + pickle.dumps(state, 2)[2:-1] + b"b.", "")


def test_rows_over_2_to_the_39_items_take_no_memory(tmp_path):
    x = made.rows()
    wide = x.copy()
    wide._shape = (40, 2**39)
    path = made.cornac_model(tmp_path / "m.pkl", x, LAM, U=wide)
    quickly(lambda: only_error(Cornac(), path, "beside weights of 9"), megabytes=50)


# ----------------------------------------------------------------------------------------------------- zips and files


def repacked(path, change, compression=zipfile.ZIP_STORED):
    """The checkpoint with its members changed: a dict of name to bytes, by a function."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members = change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, data in members.items():
            archive.writestr(entry, data)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    return made.recbole_checkpoint(tmp_path / "EASE-1.pth", made.rows(), LAM)


def only_error(reader, path, said=""):
    with pytest.raises(ExpungeError) as caught:
        reader.read((path,))
    assert said in " ".join(caught.value.lines())


def test_the_control_checkpoint_repacked_is_read(checkpoint):
    assert RecBole().read((repacked(checkpoint, dict),)).weights.shape == (10, 10)


@pytest.mark.parametrize("entry", ["../evil", "/etc/passwd", "EASE-1/../../evil", "a\\b", "C:evil", "EASE-1/.."])
def test_zip_with_path_traversal_names(checkpoint, entry):
    only_error(RecBole(), repacked(checkpoint, lambda held: {**held, entry: b"x"}), "leaves the archive")
    npz = checkpoint.with_suffix(".npz")
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr(entry, b"x")
        archive.writestr("B.npy", b"x")
    only_error(Arrays(), npz, "leaves the archive")


@pytest.mark.parametrize("key", ["../data.pkl", "99", "", "/etc/passwd", "0\x00"])
def test_a_storage_outside_the_zip(tmp_path, key):
    held = {"config": None, "other_parameter": {"item_similarity": None}}
    path = made.recbole_checkpoint(tmp_path / "c.pth", made.rows(), LAM, **held)
    data = stretched((1,), (1,)).replace(text("0"), text(key))
    path = repacked(path, lambda members: {**members, next(k for k in members if k.endswith("data.pkl")): data})
    only_error(RecBole(), path, "that is not there")


def test_zip_bomb(checkpoint):
    bomb = repacked(checkpoint, lambda held: {**held, "EASE-1/data/9": bytes(2**26)}, zipfile.ZIP_DEFLATED)
    quickly(lambda: only_error(RecBole(), bomb, "times the file"), megabytes=10)
    packed = repacked(made.recbole_checkpoint(checkpoint, made.rows(), LAM), dict, zipfile.ZIP_DEFLATED)
    only_error(RecBole(), packed)
    npz = checkpoint.with_suffix(".npz")
    np.savez_compressed(npz, B=np.zeros((4096, 4096)))
    quickly(lambda: only_error(Arrays(), npz, "times the file"), megabytes=10)


def test_zip_whose_members_overlap(checkpoint):
    """Many entries of the directory point at the same bytes: more content than file."""
    data = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as archive:
        entries = archive.infolist()
        start = archive.start_dir
    directory = bytes(data[start : data.rindex(b"PK\x05\x06")])
    end = bytearray(data[data.rindex(b"PK\x05\x06") :])
    first = directory[: 46 + sum(struct.unpack("<HHH", directory[28:34]))]
    size = len(entries[0].filename)
    copies = b"".join(first[:46] + f"{k:0{size}d}".encode() + first[46 + size :] for k in range(5000))
    struct.pack_into("<HHII", end, 8, 5000, 5000, len(copies), start)
    checkpoint.write_bytes(bytes(data[:start]) + copies + bytes(end))
    quickly(lambda: only_error(RecBole(), checkpoint), megabytes=50)


def test_zip_with_two_pickles_or_none_and_names_that_come_twice(checkpoint):
    both = lambda held: {**held, "evil/data.pkl": b"N."}  # noqa: E731
    only_error(RecBole(), repacked(checkpoint, both), "2 pickles")
    only_error(
        RecBole(), repacked(checkpoint, lambda held: {k: v for k, v in held.items() if "pkl" not in k}), "0 pickles"
    )
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data.pkl", b"N.")
    only_error(RecBole(), checkpoint, "comes twice")


def test_zip_that_says_it_is_encrypted_or_big_endian(checkpoint):
    big = repacked(checkpoint, lambda held: {k: b"big" if k.endswith("byteorder") else v for k, v in held.items()})
    only_error(RecBole(), big, "big-endian")
    data = bytearray(repacked(made.recbole_checkpoint(checkpoint, made.rows(), LAM), dict).read_bytes())
    for at in [match.start() for match in re.finditer(b"PK\x01\x02", bytes(data))]:
        data[at + 8] |= 1
    checkpoint.write_bytes(bytes(data))
    only_error(RecBole(), checkpoint)


def test_allow_pickle_npz(tmp_path):
    payload = Payload(os.mkdir, str(tmp_path / "owned"))
    evil = np.array([payload], dtype=object)
    np.savez(tmp_path / "a.npz", B=np.zeros((1, 1)), items=evil)
    np.savez(tmp_path / "b.npz", user_factors=evil, item_factors=evil, iterations=1)
    np.save(tmp_path / "c.npy", evil)
    only_error(Arrays(), tmp_path / "a.npz", "objects are not unpickled")
    only_error(Implicit(), tmp_path / "b.npz", "objects are not unpickled")
    only_error(Arrays(), tmp_path / "c.npy", "objects are not unpickled")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999999)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'V99999999999', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}",
        "__import__('os').system('true')",
        "[" * 5000,
        "{}",
    ],
)
def test_npy_headers(tmp_path, header):
    body = header.encode().ljust(64) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body + bytes(8)
    (tmp_path / "e.npy").write_bytes(data)
    only_error(Arrays(), tmp_path / "e.npy")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"[" * 5000,
        b'{"B": 1}',
        b'{"B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 99]}}',
        b'{"B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [8, 0]}}',
        b'{"B": {"dtype": "F64", "shape": [1099511627775, 1099511627775], "data_offsets": [0, 8]}}',
        b'{"B": {"dtype": "F64", "shape": [1e3], "data_offsets": [0, 8]}}',
        b'{"B": {"dtype": "O", "shape": [1, 1], "data_offsets": [0, 8]}}',
        b'{"B": {"dtype": ["F64"], "shape": [1, 1], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"items": 1}, "B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"items": "[[["}, "B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 8]}}',
    ],
)
def test_safetensors_headers(tmp_path, header):
    (tmp_path / "e.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    only_error(Arrays(), tmp_path / "e.safetensors")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").touch()
    for reader in READERS:
        for name in ("pipe", "zero", "loop", "empty", "."):
            assert not reader.recognises((tmp_path / name,))
            only_error(reader, tmp_path / name)


# ----------------------------------------------------------------------------------------------------------- all bytes


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """One valid file a reader."""
    folder = tmp_path_factory.mktemp("originals")
    x, weights = made.rows(), made.ease(made.rows(), LAM, np.float32)
    user, item = x.nonzero()
    np.savez(folder / "e.npz", B=weights, items=np.array(ITEMS))
    return {
        "scorer": (READERS[0], made.lenskit_scorer(folder / "s.pkl", weights, LAM, ITEMS, protocol=2).read_bytes()),
        "pipe": (
            READERS[0],
            made.lenskit_scorer(
                folder / "p.pkl", weights, LAM, ITEMS, more=(user.tolist(), item.tolist())
            ).read_bytes(),
        ),
        "cornac": (READERS[1], made.cornac_model(folder / "c.pkl", x, LAM).read_bytes()),
        "recbole": (READERS[2], made.recbole_checkpoint(folder / "r.pth", x, LAM).read_bytes()),
        "implicit": (READERS[3], made.implicit_factors(folder / "i.npz").read_bytes()),
        "arrays": (READERS[4], (folder / "e.npz").read_bytes()),
        "tensors": (READERS[4], tensors(weights)),
    }


def tensors(weights):
    """A safetensors file."""
    entry = {"B": {"dtype": "F32", "shape": list(weights.shape), "data_offsets": [0, weights.nbytes]}}
    header = json.dumps({"__metadata__": {"lambda": "5", "items": json.dumps(ITEMS)}, **entry}).encode()
    return struct.pack("<Q", len(header)) + header + weights.tobytes()


KINDS = ("scorer", "pipe", "cornac", "recbole", "implicit", "arrays", "tensors")


def reads_or_refuses(reader, path):
    reader.recognises((path,))
    with contextlib.suppress(InputError):
        reader.read((path,))


@pytest.mark.parametrize("kind", KINDS)
def test_truncated(kind, originals, tmp_path):
    reader, data = originals[kind]
    path = tmp_path / "cut"
    for end in sorted({*range(0, len(data), max(1, len(data) // 150)), *range(len(data) - 30, len(data))}):
        path.write_bytes(data[:end])
        only_error(reader, path)
    path.write_bytes(data)
    reader.read((path,))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_flipped_bytes(data, kind, originals, tmp_path):
    reader, original = originals[kind]
    changed = bytearray(original)
    spots = st.integers(0, len(changed) - 1) | st.integers(0, min(2000, len(changed) - 1))
    for at, byte in data.draw(st.lists(st.tuples(spots, st.integers(0, 255)), min_size=1, max_size=8)):
        changed[at] = byte
    (tmp_path / "f").write_bytes(bytes(changed))
    reads_or_refuses(reader, tmp_path / "f")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_parts_moved_and_repeated(data, kind, originals, tmp_path):
    reader, original = originals[kind]
    start, end, to = (data.draw(st.integers(0, len(original))) for _ in range(3))
    part = original[min(start, end) : max(start, end)]
    (tmp_path / "f").write_bytes(original[:to] + part + original[to:])
    reads_or_refuses(reader, tmp_path / "f")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
@example(b"\x80\x04N.")
@example(b"\x80\x02clenskit.knn.ease\nEASEScorer\n)\x81}b.")
@example(b"\x93NUMPY\x01\x00\x06\x00{}    ")
@example(b"PK\x05\x06" + bytes(18))
def test_random_bytes(tmp_path, content):
    path = tmp_path / "f"
    path.write_bytes(content or b"\x00")
    for reader in READERS:
        reads_or_refuses(reader, path)


PIECES = st.sampled_from(
    [
        bytes([code])
        for code in b"().0122NFIJKLMSTUVXabcdeghijlopqrstu}]\x80\x81\x82\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x94\x95"
    ]
    + [name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), name("numpy", "dtype")]
    + [name("numpy._core.numeric", "_frombuffer"), name("numpy._core.multiarray", "scalar"), name("_codecs", "encode")]
    + [name("scipy.sparse._csr", "csr_matrix"), name("collections", "OrderedDict"), name("builtins", "bytearray")]
    + [name("torch._utils", "_rebuild_tensor_v2"), name("torch", "FloatStorage"), name("copyreg", "_reconstructor")]
    + [
        name("builtins", "set"),
        name("builtins", "object"),
        name("lenskit.a", "B"),
        text("f8"),
        text("C"),
        text("latin1"),
    ]
    + [
        b"K\x01",
        b"K\x02",
        b"q\x00",
        b"q\x01",
        b"h\x00",
        b"h\x01",
        raw(b"b"),
        raw(bytes(8)),
        raw(bytes(16)),
        text("_shape"),
    ]
    + [text("data"), text("indices"), text("indptr"), text("storage"), text("0"), b"Q", text("<"), b"G" + bytes(8)]
)


@settings(max_examples=2000, deadline=None)
@given(st.lists(PIECES, max_size=40))
def test_random_programs(pieces):
    """Opcodes that fit together more often than bytes do."""
    try:
        value = machine(b"".join(pieces) + b".", builders=TORCH_BUILDERS, persistent=one_storage)
    except DataError:
        return
    for _, part in _opcodes.walk(value):
        kinds = (dict, list, tuple, set, frozenset, _opcodes.Record, _opcodes.Buildable, Storage)
        assert isinstance(part, (*kinds, str, bytes, bytearray, int, float, type(None), _opcodes.Global))


def one_storage(reference):
    if not isinstance(reference, tuple) or len(reference) != 5:
        raise ValueError("no storage")
    return Storage(reference[1], bytes(8), 2)


def test_every_public_module_of_the_package_was_attacked():
    names = {type(reader).__module__.rpartition(".")[2] for reader in READERS}
    found = {path.stem for path in Path(recommenders.__path__[0]).glob("[a-z]*.py")}
    assert names == found
    assert importlib.import_module("expunge.connect.recommenders") is recommenders
