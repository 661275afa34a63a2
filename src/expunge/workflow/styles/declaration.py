"""artists.yaml: how real artists are asked for, which styles no training saw, and where works lie that nothing was trained on.

What a user writes down and nobody may change afterwards. Read as what it is, a file from anybody: plain values of known names
(`core.documents`), placeholders and nothing else that a template could do, and all problems are told at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from expunge.core.codec import decode
from expunge.core.documents import plain_values, strict_yaml
from expunge.core.errors import InputError, InputProblems
from expunge.stats.recovery import CONTROLS
from expunge.training.text_to_image.words import MARK

WHAT = "artists.yaml"
NAME, OBJECT = "{name}", "{object}"
PHOTO = "photo"
"""What pictures by nobody are called: a style that a judge has to know, and no artist's."""
_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An artist, or a style that no training saw. captions: as those that trained, with {name} and {object}; languages: code ->
    the same in another language; described: what the pictures look like, with {object} and nobody's name; titles: of works;
    works: folders of works that nothing was trained on; block: the `artist` of the data's index, where that is not the name;
    neighbours: names of artists here whose works are much alike."""

    name: str
    aliases: tuple[str, ...]
    captions: tuple[str, ...]
    described: tuple[str, ...]
    works: tuple[str, ...]
    titles: tuple[str, ...] = ()
    languages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    neighbours: tuple[str, ...] = ()
    block: str = ""

    @property
    def style(self) -> str:
        """What the data call it."""
        return self.block or self.name

    @property
    def names(self) -> tuple[str, ...]:
        """Whatever names the artist."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The whole file. objects: what is asked for, as the data's index calls it -> its words by language; language: that of the
    captions; neutral: how an object is asked for by nobody; photos: folders of pictures in nobody's style."""

    version: int
    language: str
    objects: Mapping[str, Mapping[str, str]]
    neutral: str
    photos: tuple[str, ...]
    artists: tuple[Entry, ...]
    controls: tuple[Entry, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Artists and controls."""
        return (*self.artists, *self.controls)

    def entry(self, style: str) -> Entry:
        """The one that the data call so. Raises InputError where nobody is declared under this name."""
        found = next((one for one in self.entries if one.style == style), None)
        if found is None:
            raise InputError("nobody has said how this artist is asked for", expected=f"an entry in {WHAT}")
        return found


def read_declaration(file: Path) -> Declaration:
    """The file, checked. Raises InputError on what is no such document, InputProblems with everything that is wrong in it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{WHAT} cannot be read", expected="a text file", got=str(error)[:120]) from error
    return parse_declaration(text)


def parse_declaration(text: str) -> Declaration:
    """The same of a text."""
    plain = strict_yaml(text, what=WHAT)
    found = decode(Declaration, plain_values(plain), what=WHAT)
    problems = list(_problems(found))
    if problems:
        raise InputProblems(WHAT, problems)
    return found


def spoken(text: str) -> str:
    """As names are compared: without the differences that case, width and composition make."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def names_in(text: str, names: tuple[str, ...]) -> list[str]:
    """Those of the names that stand in a text as whole words."""
    said = spoken(text)
    return [name for name in names if re.search(rf"(?<!\w){re.escape(spoken(name))}(?!\w)", said)]


# ------------------------------------------------------------------------------------------------------------ problems


def _problems(found: Declaration) -> Iterator[str]:
    if found.version != 1:
        yield f"version: 1 expected, got {found.version}"
    if len(found.artists) < 2:
        yield "artists: two at least, or nobody stays in whom harm could be seen"
    if len(found.controls) < CONTROLS:
        yield f"controls: {CONTROLS} styles that no training saw are needed, got {len(found.controls)}"
    yield from _odd_objects(found)
    yield from _odd_texts(found)
    for one in found.entries:
        yield from _odd_entry(found, one)
    yield from _overlaps(found)
    yield from _named(found)
    for folder in (*found.photos, *(folder for one in found.entries for folder in one.works)):
        if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts or "\\" in folder:
            yield f"{folder[:60]!r}: a folder beside {WHAT} expected, without '..'"


def _odd_objects(found: Declaration) -> Iterator[str]:
    if not found.objects or not found.photos:
        yield "objects and photos: one of each at least"
    for name, words in found.objects.items():
        yield from (
            f"objects.{name}: {text!r}: no brace and no {MARK!r}" for text in words.values() if not _fills(text, ())
        )
        if found.language not in words:
            yield f"objects.{name}: no words in {found.language!r}"


def _odd_texts(found: Declaration) -> Iterator[str]:
    for text in _texts(found):
        if not text.strip() or len(text) > _LONGEST or not text.isprintable():
            yield f"{text[:40]!r}: 1 to {_LONGEST} printable characters expected"


def _texts(found: Declaration) -> Iterator[str]:
    yield from (found.language, found.neutral, *found.photos, *found.objects)
    for words in found.objects.values():
        yield from (*words, *words.values())
    for one in found.entries:
        yield from (one.style, *one.names, *one.captions, *one.described, *one.works, *one.titles)
        yield from (text for forms in one.languages.values() for text in forms)


def _odd_entry(found: Declaration, one: Entry) -> Iterator[str]:
    if not one.aliases:
        yield f"{one.name}: no alias; who asks for the artist by another name would not be tried"
    if one.style == PHOTO:
        yield f"{one.name}: {PHOTO!r} is what pictures by nobody are called"
    if not (one.captions and one.described and one.works):
        yield f"{one.name}: captions, described and works: one of each at least"
    reserved = sorted({*one.languages} & {"alias", "misspelt", "titles"})
    if reserved:
        yield f"{one.name}: a language cannot be called {', '.join(reserved)}: probes are"
    forms = {found.language: one.captions, **one.languages}
    for tongue, captions in forms.items():
        lacking = [name for name, words in found.objects.items() if tongue not in words]
        if lacking:
            yield f"{one.name}: objects without words in {tongue!r}: {', '.join(lacking[:5])}"
        yield from (f"{one.name}: {text!r}" + _FORM for text in captions if not _fills(text, (NAME, OBJECT)))
    yield from (f"{one.name}: {text!r}" + _BARE for text in one.described if not _fills(text, (OBJECT,)))
    for text in (*one.names, *one.titles):
        if not _fills(text, ()):
            yield f"{one.name}: {text!r}: names and titles have no brace and no {MARK!r}"
    strangers = {*one.neighbours} - {other.style for other in found.artists if other is not one}
    if strangers:
        yield f"{one.name}: neighbours that are no other artist here: {', '.join(sorted(strangers))}"


_FORM = f": {NAME} and {OBJECT} once each, and no other brace or {MARK!r}"
_BARE = f": {OBJECT} once, and no other brace or {MARK!r}"


def _fills(text: str, places: tuple[str, ...]) -> bool:
    """Whether it has each placeholder once, and nothing else that could be one."""
    bare = text
    for place in places:
        bare = bare.replace(place, "", 1)
    return all(text.count(place) == 1 for place in places) and not set("{}" + MARK) & set(bare)


def _overlaps(found: Declaration) -> Iterator[str]:
    """Whoever asks for one must not ask for another by it."""
    for number, one in enumerate(found.entries):
        for other in found.entries[number + 1 :]:
            said = [name for name in one.names if any(names_in(their, (name,)) for their in other.names)]
            said += [name for name in other.names if any(names_in(their, (name,)) for their in one.names)]
            if said or spoken(one.style) == spoken(other.style):
                yield f"{one.name} and {other.name} overlap: {', '.join(dict.fromkeys(said)) or one.style}"
            if {*one.works} & {*other.works}:
                yield f"{one.name} and {other.name} have a folder of works in common"


def _named(found: Declaration) -> Iterator[str]:
    """Prompts that have to name nobody, and do."""
    names = tuple(name for one in found.entries for name in one.names)
    if not _fills(found.neutral, (OBJECT,)):
        yield f"neutral: {found.neutral!r}" + _BARE
    for text in (found.neutral, *(text for said in found.objects.values() for text in said.values())):
        yield from (f"neutral or objects: {text!r} names {name}" for name in names_in(text, names))
    for one in found.entries:
        for text in one.described:
            yield from (f"{one.name}: the description {text!r} names {name}" for name in names_in(text, names))
