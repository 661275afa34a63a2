"""The reverse index: from a record's slot to every artefact that derives from it. Pure, and stored beside the bank.

Each artefact carries the bitmap of the slots it saw, so the index is a matrix of artefacts by slots and a record is one
of its columns. It names slots, never ids, and is private (0600); what leaves the workspace are counts by kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from expunge.core.codec import canonical, digest_of, loads
from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.durable import write_file
from expunge.farm.manifest import Seen

INDEX = "index.json"
DESTROY, BLANK, RETIRE = "destroy", "blank", "retire"
FATES = (DESTROY, BLANK, RETIRE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """Something on disk that derives from records. `path` is relative to the index's root; `files` are in it.

    `fate` when a record it saw is erased: `destroy` it with the case, `blank` what it says about the record, or
    `retire` it with its bank on the day the log names.
    """

    kind: str
    path: str
    fate: str
    seen: Seen
    files: int = 1

    def under(self, folder: str) -> Artefact:
        """The same, seen from the folder above."""
        return Artefact(kind=self.kind, path=f"{folder}/{self.path}", fate=self.fate, seen=self.seen, files=self.files)


class Index:
    """Artefacts by path; a later one replaces an earlier one of the same path."""

    def __init__(self, artefacts: Iterable[Artefact] = ()) -> None:
        self._by_path = {artefact.path: artefact for artefact in artefacts}

    def __iter__(self) -> Iterator[Artefact]:
        return iter(self._by_path.values())

    def __len__(self) -> int:
        return len(self._by_path)

    def __or__(self, other: Index) -> Index:
        return Index([*self, *other])

    def of(self, slots: Collection[int]) -> Index:
        """What derives from any of these slots."""
        return Index(artefact for artefact in self if artefact.seen.among(slots))

    def with_fate(self, fate: str) -> Index:
        """What meets this fate."""
        return Index(artefact for artefact in self if artefact.fate == fate)

    def under(self, folder: str) -> Index:
        """What lies in a folder."""
        return Index(artefact for artefact in self if artefact.path.startswith(f"{folder}/"))

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return dict(Counter(artefact.kind for artefact in self))

    @property
    def files(self) -> int:
        """Files in all artefacts."""
        return sum(artefact.files for artefact in self)

    @property
    def digest(self) -> str:
        """`sha256:` of the whole index."""
        return digest_of(self._plain())

    def _plain(self) -> list[list[str | int]]:
        rows = sorted(self._by_path.items())
        return [[path, a.kind, a.fate, a.files, a.seen.total, a.seen.text()] for path, a in rows]

    def write(self, file: Path) -> None:
        """Atomically, 0600."""
        write_file(file, canonical({"v": 1, "artefacts": self._plain()}), mode=0o600)

    @classmethod
    def read(cls, file: Path) -> Index:
        """What was written. Raises IntegrityError when it is damaged."""
        try:
            plain = loads(file.read_bytes(), what=file.name)
            rows = plain["artefacts"]
            if plain["v"] != 1 or not {row[2] for row in rows} <= set(FATES):
                raise ValueError("another version, or an unknown fate")
            return cls(
                Artefact(kind=kind, path=path, fate=fate, files=files, seen=Seen.parse(text, total))
                for path, kind, fate, files, total, text in rows
            )
        except (InputError, IntegrityError, KeyError, TypeError, ValueError, IndexError) as error:
            raise IntegrityError(
                f"{file.name} is not an index of artefacts", got=str(error)[:200], hint="remove it; it is made again"
            ) from error
