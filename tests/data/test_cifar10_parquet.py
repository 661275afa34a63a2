"""The Hugging Face parquet layout, from tiny files that are written here; and the real set where it is."""

import io
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expunge.core.errors import DataError, InputError
from expunge.data.cifar10 import CLASSES, Cifar10, _decode_image

PIXELS = np.random.Generator(np.random.Philox(3)).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def rows(count=30, kind="PNG"):
    return [
        {"img": {"bytes": encoded(PIXELS[n], kind), "path": f"{CLASSES[n % 10]}/{n:04d}.png"}, "label": n % 10}
        for n in range(count)
    ]


def write(folder, train, test=None, **named):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(train, **named), folder / "cifar10-train.parquet")
    pq.write_table(pa.Table.from_pylist(rows(10) if test is None else test), folder / "cifar10-test.parquet")
    return folder


def opened(folder, **options):
    return Cifar10(path=str(folder), **options).open()


def test_good_files_give_the_pixels_labels_and_ids_that_were_written(tmp_path):
    data = opened(write(tmp_path, rows()))
    assert np.array_equal(data.train.images, PIXELS)
    assert data.train.labels.tolist() == [n % 10 for n in range(30)]
    assert data.train.ids[11] == "train/automobile/0011"
    assert data.test.ids[1] == "test/automobile/0001"
    assert data.train.blocks == data.train.ids
    assert data.classes == CLASSES
    assert "JPEG" not in data.note


def test_jpeg_is_said_in_the_note(tmp_path):
    assert "JPEG re-encoding" in opened(write(tmp_path, rows(kind="JPEG"))).note


def test_several_shards_are_read_in_the_order_of_their_names(tmp_path):
    write(tmp_path, rows(10))
    (tmp_path / "cifar10-train.parquet").unlink()
    pq.write_table(pa.Table.from_pylist(rows()[10:]), tmp_path / "train-00001.parquet")
    pq.write_table(pa.Table.from_pylist(rows()[:10]), tmp_path / "train-00000.parquet")
    assert np.array_equal(opened(tmp_path).train.images, PIXELS)


def test_rows_without_a_path_are_named_by_class_and_row(tmp_path):
    plain = [{"img": {"bytes": row["img"]["bytes"], "path": None}, "label": row["label"]} for row in rows()]
    assert opened(write(tmp_path, plain)).train.ids[12] == "train/bird/00012"


def test_grey_image_is_read_as_colour(tmp_path):
    bad = rows()
    bad[3]["img"]["bytes"] = encoded(PIXELS[3, :, :, 0])
    found = opened(write(tmp_path, bad)).train.images[3]
    assert (found == PIXELS[3, :, :, :1]).all()


def refused(folder, said, **options):
    with pytest.raises(DataError) as caught:
        opened(folder, **options)
    text = "\n".join(caught.value.lines())
    assert said in text, text


def spoilt(row, **changes):
    def spoil(plain):
        plain[row] = {**plain[row], **changes}
        return plain

    return spoil


def image(raw, path="a/b.png"):
    return {"bytes": raw, "path": path}


SPOILT = {
    "label too large": (spoilt(4, label=10), "row 4"),
    "label negative": (spoilt(4, label=-1), "got:      -1"),
    "label null": (spoilt(4, label=None), "got:      None"),
    "label absurd": (spoilt(4, label=2**62), "label out of range"),
    "image is text": (spoilt(4, img=image(b"not an image")), "row 4 of train is not an image"),
    "image is empty": (spoilt(4, img=image(b"")), "row 4 of train is not an image"),
    "image is null": (spoilt(4, img=image(None)), "row 4 of train holds no image bytes"),
    "cell is null": (spoilt(4, img=None), "row 4 of train holds no image bytes"),
    "image too small": (spoilt(4, img=image(encoded(PIXELS[4][:16]))), "wrong size"),
    "image truncated": (spoilt(4, img=image(encoded(PIXELS[4])[:200])), "row 4 of train"),
    "two rows of one name": (spoilt(4, img=image(encoded(PIXELS[4]), "cat/0003.png")), "duplicate"),
    "name climbs": (spoilt(4, img=image(encoded(PIXELS[4]), "../x.png")), "unusable file name"),
    "name is a dot": (spoilt(4, img=image(encoded(PIXELS[4]), ".")), "unusable file name"),
    "name paints the terminal": (spoilt(4, img=image(encoded(PIXELS[4]), "a\x1b[31m.png")), "unusable file name"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_row_is_refused(tmp_path, case):
    spoil, said = SPOILT[case]
    plain = spoil(rows())
    if case == "two rows of one name":
        plain[3]["img"]["path"] = "cat/0003.png"
    refused(write(tmp_path, plain), said)


def test_spoilt_test_split_is_refused_too(tmp_path):
    refused(write(tmp_path, rows(), spoilt(4, label=11)(rows(10))), "row 4 of test")


def test_empty_file_is_refused(tmp_path):
    kind = pa.schema([("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    refused(write(tmp_path, [], schema=kind), "no records")


@pytest.mark.parametrize("column", ["img", "label"])
def test_missing_column_is_refused(tmp_path, column):
    plain = [{key: value for key, value in row.items() if key != column} for row in rows()]
    refused(write(tmp_path, plain), "lacks columns")


@pytest.mark.parametrize("value", ["cat", 1.5, b"1", True])
def test_labels_that_are_not_integers_are_refused(tmp_path, value):
    """1.5 used to become class 1 without a word, and text an untyped error."""
    refused(write(tmp_path, [{**row, "label": value} for row in rows()]), "labels that are not integers")


@pytest.mark.parametrize("img", [b"raw bytes", "text", 7, {"data": b"x"}])
def test_image_column_of_another_kind_is_refused(tmp_path, img):
    refused(write(tmp_path, [{**row, "img": img} for row in rows()]), "holds no image bytes")


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.999])
def test_truncated_parquet_is_refused(tmp_path, keep):
    file = write(tmp_path, rows()) / "cifar10-train.parquet"
    raw = file.read_bytes()
    file.write_bytes(raw[: int(keep * len(raw)) if keep < 1 else keep])
    refused(tmp_path, "cannot be read as parquet")


def test_file_that_is_no_parquet_is_refused(tmp_path):
    (write(tmp_path, rows()) / "cifar10-test.parquet").write_text("label,img\n")
    refused(tmp_path, "cannot be read as parquet")


def test_shards_of_different_layout_are_refused(tmp_path):
    write(tmp_path, rows(10))
    pq.write_table(pa.Table.from_pylist([{"x": 1}]), tmp_path / "more-train.parquet")
    refused(tmp_path, "cannot be read as parquet")


def test_folder_without_data_is_refused(tmp_path):
    refused(tmp_path, "no train parquet")
    refused(tmp_path / "nowhere", "no train parquet")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_image_bytes_never_end_in_an_untyped_error(kind):
    """Bit flips and cuts: either DataError, or 32x32x3 pixels."""
    rng = random.Random(5)
    raw = encoded(PIXELS[0], kind)
    refusals = 0
    for _ in range(400):
        spoiled = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            spoiled[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del spoiled[rng.randrange(len(raw)) :]
        try:
            assert _decode_image(bytes(spoiled), 0, "train").shape == (32, 32, 3)
        except DataError:
            refusals += 1
    assert 0 < refusals < 400


@pytest.mark.parametrize("options", [{"split": "both"}, {"limit": 99}, {"limit": 50_001}])
def test_bad_options_are_refused_before_anything_is_read(options):
    with pytest.raises(InputError):
        Cifar10(path="/nowhere", **options)


# --------------------------------------------------------------------------------------------------------- the real set


@pytest.mark.shared
def test_the_real_test_split_is_cifar10(shared):
    from expunge.data.cifar10 import _read_parquet

    test, jpeg = _read_parquet(shared / "cifar10", "test")
    assert len(test) == 10_000
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert jpeg
    assert len(set(test.ids)) == 10_000
    assert all(name.startswith("test/") for name in test.ids)
    by_class = {name.split("/")[1] for name in test.ids}
    assert by_class == set(CLASSES)
    assert all(CLASSES[label] == name.split("/")[1] for label, name in zip(test.labels[:200], test.ids, strict=False))
    mean = test.images.mean((0, 1, 2)) / 255
    assert mean == pytest.approx([0.494, 0.485, 0.450], abs=0.01)


@pytest.mark.shared
def test_limit_and_tuning_split_are_keyed_balanced_and_disjoint(shared):
    """On the labels and ids of the real set, with blank pixels: decoding 50,000 images shows nothing more here."""
    from expunge.data._records import ImageRecords
    from expunge.data.cifar10 import _balanced, _tuning_split

    table = pq.ParquetFile(shared / "cifar10" / "cifar10-train.parquet").read(columns=["label", "img.path"])
    names = [cell["path"] for cell in table.column("img").to_pylist()]
    labels = np.array(table.column("label").to_pylist(), np.int64)
    ids = tuple(f"train/{name}" for name in names)
    assert len(set(ids)) == 50_000
    whole = ImageRecords(ids=ids, images=np.zeros((50_000, 1, 1, 1), np.uint8), labels=labels, blocks=ids)
    small, large = _balanced(whole, 1000), _balanced(whole, 2000)
    assert np.bincount(labels[small]).tolist() == [100] * 10
    assert set(small) < set(large)
    train, held = _tuning_split(whole)
    assert (len(train), len(held)) == (45_000, 5_000)
    assert not set(train.ids) & set(held.ids)
    assert np.bincount(held.labels).tolist() == [500] * 10
