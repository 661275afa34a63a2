"""MovieLens (Harper and Konstan 2015) in the layouts of 100K, 1M, 20M, 25M and latest-small."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from expunge.core.errors import DataError, InputError
from expunge.data._event_columns import IdBook, Table, collect
from expunge.data._event_tables import bare_table, text_table
from expunge.data._events import assemble, choices
from expunge.data._interactions import Interactions

TOP = 10  # half stars
LAYOUTS = ("ratings.csv", "ratings.dat", "u.data")
HINT = "--data FOLDER of an unpacked MovieLens archive from grouplens.org"
_COLUMNS = {"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"}
_ID = re.compile(r"(?:0|[1-9][0-9]{0,9})\Z")


class Movielens:
    """Ratings of films by users, half a star to five. GroupLens' terms: no commercial use without permission.

    Ids are `user/17` and `movie/318`, in the order of the numbers. A value is twice the stars. A rating that is no half
    star, a time that is none, and a pair of user and film that comes twice are refused, with row and column.

    Options: path: folder with `ratings.csv` (20M, 25M, latest), `ratings.dat` (1M) or `u.data` (100K), or that file.
    min_rating: lower ratings are dropped before users, films and test users are looked at (4, or "3.5"). kind: `rating`,
    or `binary` for events without a value. test_users: this many users are set apart to test on (strong generalisation,
    Liang et al. 2018), those whose ids have the smallest hashes. min_item_events: films with fewer training events are
    not in the vocabulary; a user who is left without events keeps an empty row.

    The vocabulary is frozen at ingestion: a later deletion does not shrink it. Whoever opens the source again, when
    users may have left the file, passes the frozen one to `open`.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        test_users: int = 0,
        min_rating: float | str = 0.5,
        min_item_events: int = 1,
        kind: str = "rating",
    ) -> None:
        if path is None:
            raise InputError("movielens needs a path", expected=" or ".join(LAYOUTS), hint=HINT)
        self.path = Path(path)
        self.choices = choices(test_users=test_users, min_rating=min_rating, min_item_events=min_item_events, kind=kind)

    def open(self, items: Sequence[str] | None = None) -> Interactions:
        """The data set, over the vocabulary `items` if given. Raises DataError on anything that is not MovieLens."""
        file = _file(self.path)
        users, films = (IdBook(lambda text: bool(_ID.match(text)), "a number without leading zeros") for _ in range(2))
        events = collect(_table(file), user=users, item=films, top=TOP)
        note = f"MovieLens ({file.parent.name}/{file.name})"
        return assemble(
            events, self.choices, source="movielens", note=note, prefixes=("user/", "movie/"), vocabulary=items
        )


def _file(path: Path) -> Path:
    """The one file of ratings."""
    found = [path] if path.is_file() else [path / name for name in LAYOUTS if (path / name).is_file()]
    if len(found) != 1 or found[0].name not in LAYOUTS:
        got = ", ".join(file.name for file in found) or "none"
        raise DataError(f"not one file of ratings in {path}", expected=" or ".join(LAYOUTS), got=got, hint=HINT)
    return found[0]


def _table(file: Path) -> Table:
    if file.name == "u.data":
        return bare_table(file, delimiter="\t", width=4, roles={"user": 0, "item": 1, "rating": 2, "time": 3})
    if file.name == "ratings.dat":  # 1::1193::5::978300760 is seven columns between colons, of which three are empty
        return bare_table(file, delimiter=":", width=7, roles={"user": 0, "item": 2, "rating": 4, "time": 6})
    return text_table(file, find=_columns)


def _columns(header: Sequence[str], file: str) -> dict[str, int]:
    if sorted(header) != sorted(_COLUMNS.values()):
        got = ascii(", ".join(header))[1:-1][:200]
        raise DataError(f"{file} has other columns", expected=", ".join(_COLUMNS.values()), got=got)
    return {role: header.index(name) for role, name in _COLUMNS.items()}
