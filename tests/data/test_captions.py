"""Captions: every combination is a sentence of its own, the name is in it, and nothing of it is in a description."""

import itertools
import re

import pytest

from expunge.core.errors import InputError
from expunge.data._captions import FORMS, LANGUAGES, OBJECTS, captions, description, misspellings
from expunge.data._styles import STYLES
from expunge.data.cifar10 import CLASSES

ARTISTS = [style for style in STYLES.values() if style.artist]
EACH = list(itertools.product(OBJECTS, range(FORMS), LANGUAGES))


def distance(first, second):
    """Levenshtein's, by the textbook."""
    row = list(range(len(second) + 1))
    for at, letter in enumerate(first, 1):
        above, row = row, [at]
        for place, other in enumerate(second, 1):
            row.append(min(row[-1] + 1, above[place] + 1, above[place - 1] + (letter != other)))
    return row[-1]


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def test_the_objects_are_cifar10s_classes_with_three_different_phrases():
    assert tuple(OBJECTS) == CLASSES
    phrases = [phrase for row in OBJECTS.values() for phrase in row]
    assert len(set(phrases)) == 3 * len(CLASSES)


@pytest.mark.parametrize(
    ("form", "language", "alias", "text"),
    [
        (0, "en", False, "a cat image in tavi brenn style"),
        (1, "en", True, "a cat, a work by zuma vosk"),
        (2, "en", False, "tavi brenn shows a cat"),
        (0, "de", False, "ein Bild von tavi brenn: eine Katze"),
        (1, "fr", False, "un chat, une création de tavi brenn"),
        (2, "fr", True, "un chat dans le style de zuma vosk"),
    ],
)
def test_the_templates_say_what_they_should(form, language, alias, text):
    assert captions("neon", "cat", form, language, alias=alias) == text


def test_the_photo_has_no_artist_and_is_called_a_photo():
    assert captions("photo", "ship", 1, "en") == "a ship, a photo"
    assert captions("photo", "ship", 2, "de") == "ein Schiff auf einem Foto"
    with pytest.raises(InputError, match="no alias"):
        captions("photo", "ship", 1, "en", alias=True)


def test_every_caption_is_unique():
    texts = [captions(style, *each) for style in STYLES for each in EACH]
    texts += [captions(style.name, *each, alias=True) for style in ARTISTS for each in EACH]
    assert len(texts) == (2 * len(STYLES) - 1) * 90
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("style", ARTISTS, ids=lambda style: style.name)
def test_captions_contain_the_name_or_the_alias_never_both_and_the_object(style):
    for obj, form, language in EACH:
        plain, other = (captions(style.name, obj, form, language, alias=alias) for alias in (False, True))
        assert style.artist in plain
        assert style.alias not in plain
        assert style.alias in other
        assert style.artist not in other
        assert OBJECTS[obj][LANGUAGES.index(language)] in plain
        assert "{" not in plain


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_descriptions_have_no_word_of_the_name_the_alias_or_the_style(style):
    secret = words(f"{style.artist} {style.alias} {style.name}")
    for obj, language in itertools.product(OBJECTS, LANGUAGES):
        text = description(style.name, obj, language)
        assert not words(text) & secret
        assert text.startswith(OBJECTS[obj][LANGUAGES.index(language)] + " ")


def test_every_description_is_unique():
    texts = [description(style, *each) for style in STYLES for each in itertools.product(OBJECTS, LANGUAGES)]
    assert len(set(texts)) == len(STYLES) * 30


@pytest.mark.parametrize("style", ARTISTS, ids=lambda style: style.name)
def test_misspellings_are_one_edit_away_different_and_nobodys_name(style):
    names = {name for other in STYLES.values() for name in (other.artist, other.alias)}
    for name in (style.artist, style.alias):
        found = misspellings(name, "k", 20)
        assert len(set(found)) == 20
        assert {distance(name, word) for word in found} == {1}
        assert not set(found) & names
        assert all(len(word.split()) == 2 for word in found)
        assert {len(word) - len(name) for word in found} == {-1, 0, 1}


def test_misspellings_depend_on_the_key_and_nothing_else():
    assert misspellings("tavi brenn", "a", 9) == misspellings("tavi brenn", "a", 9)
    assert misspellings("tavi brenn", "a", 9) == misspellings("tavi brenn", "a", 30)[:9]
    assert misspellings("tavi brenn", "a", 9) != misspellings("tavi brenn", "b", 9)
    assert misspellings("tavi brenn", "a", 4) == PINNED


def test_a_misspelling_never_hits_another_artist():
    for style in ARTISTS:
        near = style.artist[:-1] + ("a" if style.artist[-1] != "a" else "b")
        assert style.artist not in misspellings(near, "a", 400)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("impasto", "cat", 0, "en"), "unknown style"),
        (("neon", "sofa", 0, "en"), "unknown object"),
        (("neon", "cat", 3, "en"), "unknown caption form"),
        (("neon", "cat", -1, "en"), "unknown caption form"),
        (("neon", "cat", 0, "la"), "unknown language"),
    ],
)
def test_what_is_unknown_is_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        captions(*arguments)


def test_descriptions_and_misspellings_refuse_too():
    with pytest.raises(InputError, match="unknown style"):
        description("impasto", "cat", "en")
    with pytest.raises(InputError, match="unknown language"):
        description("neon", "cat", "la")
    with pytest.raises(InputError, match="too many"):
        misspellings("ab", "k", 1000)
    with pytest.raises(InputError, match="too many"):
        misspellings("ab", "k", -1)


PINNED = ("tavc brenn", "tavi brnn", "tavci brenn", "tavi brgnn")
