"""Pickled models made by an enemy: refused without running or importing anything, and without hanging or filling memory."""

from __future__ import annotations

import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attack.foreign import (
    ITEMS,
    LAM,
    READERS,
    Payload,
    bounded,
    machine,
    name,
    one_float,
    only_error,
    raw,
    refused,
    stretched,
    text,
)
from connect import lookalikes as made
from expunge.connect import recommenders
from expunge.connect.recommenders import _opcodes
from expunge.connect.recommenders._builders import TORCH_BUILDERS, Storage
from expunge.connect.recommenders.cornac import Cornac
from expunge.connect.recommenders.lenskit import LensKit
from expunge.core.errors import DataError

# -------------------------------------------------------------------------------------------- code hidden in a pickle


def test_the_control_is_read_and_its_payload_would_run(tmp_path):
    data = pickle.dumps({"a": [1, 2.5, "x", b"y", None, True, (3,)], "b": np.arange(6.0).reshape(2, 3)})
    found = machine(data)
    assert found["a"] == [1, 2.5, "x", b"y", None, True, (3,)]
    assert np.array_equal(found["b"].value, np.arange(6.0).reshape(2, 3))
    pickle.loads(pickle.dumps(Payload(os.mkdir, str(tmp_path / "owned"))))
    assert (tmp_path / "owned").is_dir()


@pytest.mark.parametrize("protocol", range(6))
def test_the_control_is_read_of_every_protocol(protocol):
    kind, instance = made.instance(x=1)
    rows = made.rows()
    with made.faked(lenskit__a__B=kind):
        value = {"array": np.arange(3.0), "rows": rows, "set": {1}, "half": np.float32(0.5), "instance": instance}
        data = pickle.dumps(value, protocol)
    found = machine(data)
    assert np.array_equal(found["array"].value, np.arange(3.0))
    assert np.array_equal(found["rows"].indices, rows.indices)
    assert (list(found["set"]), found["half"]) == ([1], 0.5)
    assert isinstance(found["instance"], _opcodes.Record)
    assert (str(found["instance"].made_by), found["instance"].attributes()) == ("lenskit.a.B", {"x": 1})


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


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_memo_bomb(kind):
    """Ten references to ten references, sixty times over: 10^60 leaves when anybody walks them as a tree."""
    make = {
        "list": lambda k: b"](" + b"".join(b"h" + bytes([k]) for _ in range(10)) + b"e",
        "tuple": lambda k: b"(" + b"".join(b"h" + bytes([k]) for _ in range(10)) + b"t",
        "dict": lambda k: b"}(" + b"".join(text(str(n)) + b"h" + bytes([k]) for n in range(10)) + b"u",
    }[kind]
    code = text("lol") + b"q\x000" + b"".join(make(k) + b"q" + bytes([k + 1]) + b"0" for k in range(60))
    bounded(lambda: machine(code + b"h\x3c."))


def test_memo_bomb_within_a_model(tmp_path):
    bomb = ["lol"]
    for _ in range(60):
        bomb = [bomb] * 10
    path = made.cornac_model(tmp_path / "m.pkl", made.rows(), LAM, seed=bomb, train_set=bomb)
    bounded(lambda: Cornac().read((path,)))
    path = made.lenskit_scorer(tmp_path / "s.pkl", made.ease(made.rows(), LAM, np.float32), bomb, ITEMS)
    bounded(lambda: LensKit().read((path,)))


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
        name("lenskit.a", "b") + b"q\x000N" + b"q\x010h\x00h\x01\x85\x81" * 50_000 + b".",  # arguments of arguments
        name("lenskit.a", "b") + b"q\x000N" + b"q\x010h\x00)\x81h\x01b" * 50_000 + b".",  # states of states
    ],
)
def test_deep_nesting(code):
    bounded(lambda: refused(code, "nested more than"))


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
def test_a_length_that_the_file_does_not_have(code, tmp_path):
    bounded(lambda: refused(code), megabytes=5)
    (tmp_path / "m.pkl").write_bytes(b"\x80\x05" + code)  # a file takes the memory before it reads
    bounded(lambda: only_error(LensKit(), tmp_path / "m.pkl"), megabytes=5)


@pytest.mark.parametrize("digits", [b"9" * 4_000_000, b"9" * 4000])
def test_a_number_of_a_million_digits(digits):
    for code in (b"I" + digits + b"\n.", b"L" + digits + b"L\n."):
        bounded(lambda code=code: refused(code))
    bounded(lambda: refused(b"\x8b" + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000 + b"."))


@pytest.mark.parametrize("one", [b"\x8f", b"]", b"}", b"]\x85", name("lenskit.a", "b") + b")\x81"])
def test_quadratic_memory_of_a_million_empty_containers(one):
    """One byte of the file, two hundred of memory."""
    count = 3_000_000 if len(one) < 3 else 150_000
    bounded(lambda: refused(b"(" + one * count + b"t.", "bytes of memory"), megabytes=200)


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
    bounded(lambda: refused(shared + dtype + b"(" + one * 1000 + b"t.", "bytes of memory"), megabytes=200)


def test_quadratic_memory_of_strings_that_become_bytes():
    shared = name("_codecs", "encode") + b"q\x000" + text("a" * 2**20) + b"q\x010" + text("latin1") + b"q\x020"
    assert machine(shared + b"h\x00h\x01h\x02\x86R.") == b"a" * 2**20
    bounded(lambda: refused(shared + b"(" + b"h\x00h\x01h\x02\x86R" * 1000 + b"t.", "bytes of memory"), megabytes=200)


def test_quadratic_time_of_a_long_key_that_many_dicts_share():
    code = text("k" * 2**22) + b"q\x000" + b"(" + b"}h\x00]s" * 50_000 + b"t."
    value = machine(code)
    bounded(lambda: list(_opcodes.walk(value)))


def test_more_opcodes_than_a_model_has(monkeypatch):
    monkeypatch.setattr(_opcodes, "MAX_OPCODES", 1000)
    refused(b"N0" * 1000 + b"N.", "more than 1000 opcodes")


@pytest.mark.parametrize("size", [10**12, -1])
def test_bytearray_of_a_length(size):
    refused(name("builtins", "bytearray") + pickle.dumps(size, 2)[2:-1] + b"\x85R.", "unknown form")


def four_floats(reference):
    return Storage(reference[1], struct.pack("<4f", 0, 1, 2, 3), 4)


@pytest.mark.parametrize("stride", [(1, 1), (0, 1), (2, 0), (-2, 1), (2, 1, 1), (2.0, 1.0), None])
def test_a_tensor_whose_strides_repeat_values(stride):
    assert machine(stretched((2, 2), (2, 1)), builders=TORCH_BUILDERS, persistent=four_floats).value[1, 0] == 2
    assert machine(stretched((2, 2), (1, 2)), builders=TORCH_BUILDERS, persistent=four_floats).value[1, 0] == 1
    refused(stretched((2, 2), stride), "strides", builders=TORCH_BUILDERS, persistent=four_floats)


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
