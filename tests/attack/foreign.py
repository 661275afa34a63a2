"""Opcodes by hand, and what a reader must make of an enemy's file: a model or one of our errors, in time and memory."""

from __future__ import annotations

import io
import pickle
import signal
import struct
import tracemalloc

import pytest

from expunge.connect.recommenders._builders import BUILDERS, Storage
from expunge.connect.recommenders._opcodes import Allowed, read_pickle
from expunge.connect.recommenders.arrays import Arrays
from expunge.connect.recommenders.cornac import Cornac
from expunge.connect.recommenders.implicit import Implicit
from expunge.connect.recommenders.lenskit import LensKit
from expunge.connect.recommenders.recbole import RecBole
from expunge.core.errors import DataError, ExpungeError

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


def number(value):
    """A whole number, or a tuple of them."""
    return pickle.dumps(value, 2)[2:-1]


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def raw(value):
    return b"B" + struct.pack("<I", len(value)) + value


class Payload:
    """What a pickle of it would do: make a folder."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def peak(call):
    """Megabytes at most. Work that would never end (2^n steps) is cut off after minutes instead of hanging the suite."""

    def stop(*_):
        raise TimeoutError("it did not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(300)
    tracemalloc.start()
    try:
        call()
    finally:
        memory = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return memory


def bounded(call, megabytes=400):
    """It ends, and takes no more memory than that."""
    assert peak(call) < megabytes


def only_error(reader, path, said=""):
    with pytest.raises(ExpungeError) as caught:
        reader.read((path,))
    assert said in " ".join(caught.value.lines())


def stretched(size, stride, offset=0):
    """A tensor over one float32, in data.pkl's opcodes."""
    reference = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01tQ"
    numbers = [number(value) for value in (offset, size, stride)]
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + reference + b"".join(numbers) + b"\x89N" + b"tR."


def one_float(reference):
    return Storage(reference[1], struct.pack("<f", 1.5), reference[4])
