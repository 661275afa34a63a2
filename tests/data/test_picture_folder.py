"""Captioned pictures in a folder: what is read, and that a hostile folder reads nothing that is not its own."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from expunge.core.errors import DataError, InputError
from expunge.data.picture_folder import MOST_LINE, PictureFolder
from picture_files import ARTISTS, write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "works", works=3)


def lines(folder, *rows):
    (folder / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def line(name="000.png", **more):
    return {"file_name": name, "text": "a car", **more}


def test_an_artists_works_are_one_block_and_a_work_without_one_is_its_own(folder):
    (folder / "train" / "metadata.jsonl").write_text(
        json.dumps(line("000.png", artist="Ada Amber", object="car")) + "\n\n"
    )
    with (folder / "train" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps(line("001.png")) + "\n")
    found = PictureFolder(path=str(folder), size=16).open()
    assert found.train.ids == ("train/000.png", "train/001.png")
    assert found.train.blocks == ("Ada Amber", "train/001.png")
    assert found.train.objects == ("car", "")
    assert found.train.images.shape == (2, 16, 16, 3)


def test_pictures_are_cut_to_their_middle_and_scaled(tmp_path):
    folder = write_folder(tmp_path / "works", works=1)
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (200, 10, 10)
    Image.fromarray(wide).save(folder / "train" / "000.png")
    found = PictureFolder(path=str(folder), size=16).open().train.images[0]
    assert np.abs(found.astype(int) - (200, 10, 10)).max() <= 1


def test_all_works_of_all_artists_and_the_test_works_are_there(folder):
    found = PictureFolder(path=str(folder)).open()
    assert found.styles == ARTISTS
    assert (len(found.train), len(found.test)) == (9, 6)
    assert "9 captioned pictures at 32x32" in found.note


def test_a_folder_without_test_works_has_none(folder):
    (folder / "test" / "metadata.jsonl").unlink()
    assert len(PictureFolder(path=str(folder)).open().test) == 0


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "a/../../x.png"])
def test_a_name_that_climbs_out_of_the_folder_is_refused(folder, name):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder.parent / "secret.png")
    lines(folder, line(name))
    with pytest.raises(DataError, match="leaves its folder"):
        PictureFolder(path=str(folder)).open()


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_out_of_the_folder_is_refused(folder, linked):
    outside = folder.parent / "outside"
    outside.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(outside / "x.png")
    if linked == "file":
        (folder / "train" / "x.png").symlink_to(outside / "x.png")
    else:
        (folder / "train" / "in").symlink_to(outside)
    lines(folder, line("x.png" if linked == "file" else "in/x.png"))
    with pytest.raises(DataError, match="leaves its folder"):
        PictureFolder(path=str(folder)).open()


def bomb(width, height):
    """A PNG whose header promises width x height pixels, of a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(8000, 8000), (30000, 30000)])
def test_a_picture_that_unpacks_to_gigabytes_is_refused_before_it_does(folder, size):
    (folder / "train" / "000.png").write_bytes(bomb(*size))
    with pytest.raises(DataError, match="too many pixels"):
        PictureFolder(path=str(folder)).open()


@pytest.mark.parametrize("raw", [b"", b"\x80\x04K\x01.", b"<svg/>", b"GIF89a" + b"\0" * 20, b"%PDF-1.7"])
def test_what_is_no_picture_is_refused_by_name(folder, raw):
    (folder / "train" / "000.png").write_bytes(raw)
    with pytest.raises(DataError, match=r"000.png is no picture"):
        PictureFolder(path=str(folder)).open()


@pytest.mark.parametrize(
    "row",
    [
        "[]",
        "{}",
        '{"file_name": "000.png"}',
        '{"file_name": "000.png", "text": ""}',
        '{"file_name": "000.png", "text": 3}',
        '{"file_name": "000.png", "text": "a", "artist": ["x"]}',
        "not json",
        "[" * 50_000,
        '{"file_name": "000.png", "text": "' + "a" * MOST_LINE + '"}',
    ],
)
def test_a_line_that_is_not_as_described_is_refused_by_number(folder, row):
    good = (folder / "train" / "metadata.jsonl").read_text().splitlines()[0]
    (folder / "train" / "metadata.jsonl").write_text(good + "\n" + row + "\n")
    with pytest.raises(DataError, match="line 2"):
        PictureFolder(path=str(folder)).open()


def test_a_missing_folder_and_a_missing_picture_are_said(tmp_path, folder):
    with pytest.raises(DataError, match=r"no metadata.jsonl"):
        PictureFolder(path=str(tmp_path / "nowhere")).open()
    (folder / "train" / "001.png").unlink()
    with pytest.raises(DataError, match=r"001.png cannot be read"):
        PictureFolder(path=str(folder)).open()


def test_one_work_twice_is_refused(folder):
    lines(folder, line(), line())
    with pytest.raises(DataError, match="1 duplicate ids"):
        PictureFolder(path=str(folder)).open()


@pytest.mark.parametrize("size", [0, 7, 31, 2048])
def test_sizes_that_cannot_be_folded_are_refused(folder, size):
    with pytest.raises(InputError, match="size out of range"):
        PictureFolder(path=str(folder), size=size)
