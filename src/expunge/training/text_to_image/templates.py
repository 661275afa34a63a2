"""A wording from templates: the captions' own form, titles, aliases, misspellings, other languages, and nobody's name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from expunge.data._captions import misspellings
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.words import MARK

SPELLINGS = 12
"""Misspellings of a name that are tried, at most."""
_NAME, _OBJECT = "{name}", "{object}"


@dataclass(frozen=True, kw_only=True)
class Templates:
    """What is filled in. objects: name -> words by language; captions have {name} and {object}, all others {object} alone;
    `languages`: code -> captions; `taken`: others' names, which no misspelling may be."""

    name: str
    aliases: Sequence[str]
    language: str
    objects: Mapping[str, Mapping[str, str]]
    captions: Sequence[str]
    described: Sequence[str]
    neutral: str
    titles: Sequence[str] = ()
    languages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    taken: Collection[str] = ()

    def wording(self) -> Wording:
        """As a probe asks."""
        wrong = misspellings(self.name, self.name, min(SPELLINGS, len(self.name)), self.taken)
        other = {
            "alias": self._named(self.captions, self.language, self.aliases),
            "misspelt": self._named(self.captions[:1], self.language, wrong),
            **{tongue: self._named(forms, tongue, (self.name,)) for tongue, forms in self.languages.items()},
        }
        if self.titles:
            other["titles"] = lambda name, number: f"{self._words(name)}, {self.titles[number % len(self.titles)]}"
        return Wording(
            direct=self._named(self.captions, self.language, (self.name,)),
            other=other,
            described=lambda name, number: self._bare(self.described[number % len(self.described)], name),
            neutral=lambda name: self._bare(self.neutral, name),
            open_=lambda name: self._bare(self.captions[0].replace(_NAME, MARK), name),
        )

    def _named(self, forms: Sequence[str], tongue: str, names: Sequence[str]) -> Callable[[str, int], str]:
        """All forms with the first name, then with the next."""

        def prompt(thing: str, number: int) -> str:
            name = names[number // len(forms) % len(names)]
            form = forms[number % len(forms)].replace(_OBJECT, self.objects[thing][tongue])
            return form.replace(_NAME, name)

        return prompt

    def _bare(self, form: str, thing: str) -> str:
        return form.replace(_OBJECT, self._words(thing))

    def _words(self, thing: str) -> str:
        return self.objects[thing][self.language]
