"""The testbed's works: disjoint photos for each role, captions that name nobody else, an artist's works in one block."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cifar10_bytes import folder_of
from expunge.core.errors import DataError, InputError, InputProblems
from expunge.data import artist_styles
from expunge.data._pictures import check_pictures, picture_digest
from expunge.data._styles import CONTROLS, RARE, STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS, ROLES, ArtistStyles, cifar10_photos, painted


def photos(count=30):
    draw = np.random.default_rng(0)
    return {name: draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for name in OBJECTS[:2]}


def works(role="works"):
    return painted(photos(), {"photo": 20, "neon": 20, "mosaic": 3}, role)


def test_painted_twice_is_the_same_and_another_role_is_another():
    first, again, other = works(), works(), works("judge")
    assert first.ids == again.ids
    assert first.captions == again.captions
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)


def test_two_works_of_a_style_never_share_a_photo():
    found = works()
    plain = [image.tobytes() for image, style in zip(found.images, found.styles, strict=True) if style == "photo"]
    assert len(set(plain)) == len(plain) == 40


def test_captions_name_their_own_artist_or_alias_and_nobody_else():
    found, aliases = works(), 0
    for caption, style in zip(found.captions, found.styles, strict=True):
        for other in STYLES.values():
            named = [name for name in (other.artist, other.alias) if name and name in caption]
            assert bool(named) == (other.name == style and bool(other.artist)), caption
            aliases += other.alias in named
    assert 0 < aliases < 23  # of 46 works with an artist, one in five by the alias
    assert any("ein" in caption.split() for caption in found.captions)
    assert any(re.search(r"\b(un|une)\b", caption) for caption in found.captions)


def test_the_artist_is_the_block():
    found = works()
    assert [found.styles[slot] for slot in found.in_block("mosaic")] == ["mosaic"] * 6
    with pytest.raises(InputProblems, match="unknown block"):
        found.in_block("cubism")


def test_a_tombstone_is_blank_and_the_others_stay():
    data = artist_styles.PictureSet(
        source="s", note="n", styles=tuple(STYLES), objects=OBJECTS[:2], train=works(), test=works("test")
    )
    ids = [None if style == "neon" else name for name, style in zip(data.train.ids, data.train.styles, strict=True)]
    held = data.aligned(ids, ["" if name is None else data.train.blocks[slot] for slot, name in enumerate(ids)])
    for slot, name in enumerate(ids):
        if name is None:
            assert not held.train.images[slot].any()
            assert held.train.captions[slot] == held.train.styles[slot] == ""
        else:
            assert held.train.content_digest(slot) == data.train.content_digest(slot)


def test_digest_tells_caption_pixels_and_shape_apart():
    image = np.zeros((4, 4, 3), np.uint8)
    changed = image.copy()
    changed[3, 3, 2] = 1
    found = {picture_digest("a", image), picture_digest("b", image), picture_digest("a", changed)}
    assert len(found | {picture_digest("a", image.reshape(2, 8, 3))}) == 4
    assert picture_digest("a|4x4x3", image) != picture_digest("a", image)


@pytest.mark.parametrize("column", ["ids", "captions", "blocks"])
def test_columns_of_other_lengths_are_refused(column):
    found = works()
    with pytest.raises(DataError, match="different lengths"):
        check_pictures(replace(found, **{column: getattr(found, column)[1:]}), "works")
    with pytest.raises(DataError, match="duplicate"):
        check_pictures(replace(found, ids=(found.ids[1], *found.ids[1:])), "works")


def test_more_works_than_photos_and_bad_options_are_refused():
    with pytest.raises(InputError, match="more works than photos"):
        painted(photos(5), {"neon": 6}, "works")
    for works in (0, 2501):
        with pytest.raises(InputError, match="out of range"):
            ArtistStyles(works=works)


def test_photos_are_decoded_once_and_anew_when_the_files_are_others(tmp_path):
    folder = folder_of(tmp_path / "small")
    first = cifar10_photos(folder)
    assert cifar10_photos(folder) is first
    assert not any(images.flags.writeable for role in first.values() for images in role.values())
    (folder / "more").touch()
    assert cifar10_photos(folder) is not first


@pytest.mark.shared
def test_on_cifar10_no_photo_has_two_roles_and_controls_are_never_trained(shared):
    found = cifar10_photos(shared / "cifar10")
    seen = set()
    for role in (*ROLES, "test"):
        for name in OBJECTS:
            keys = {image.tobytes() for image in found[role][name]}
            if role != "test":  # CIFAR-10 has a few copies across its own split
                assert not keys & seen
            seen |= keys
    data = ArtistStyles(path=str(shared / "cifar10"), works=9).open()
    counts = {style: data.train.styles.count(style) for style in STYLES}
    assert {style for style, count in counts.items() if count} == {*TRAINED, *RARE}
    assert counts["neon"] == 45
    assert counts[RARE[0]] == 40
    assert set(data.test.styles) == set(STYLES) > set(CONTROLS)
