"""Events of users and items from CSV, TSV, parquet, RecBole's .inter, or a scipy CSR matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from expunge.core.errors import DataError, InputError
from expunge.data._event_columns import Table, collect, plain_ids
from expunge.data._event_csr import csr_events
from expunge.data._event_tables import by_typed_alias, parquet_table, text_table
from expunge.data._events import TOP_STARS, Events, assemble, choices
from expunge.data._interactions import Interactions

HINT = (
    "values that are no stars, such as counts of plays: kind=binary takes each row as one event and does not read them"
)
_TABLES: Mapping[str, Callable[..., Table]] = {
    ".csv": partial(text_table, delimiters=",;\t"),
    ".tsv": partial(text_table, delimiters="\t"),
    ".inter": partial(text_table, delimiters="\t", find=by_typed_alias),
    ".parquet": parquet_table,
    ".pq": parquet_table,
}
_MATRIX = ".npz"


class InteractionsFile:
    """A file with an event a row, or a matrix with an event a stored value. It may be larger than memory.

    Columns by name: the user is one of user_id, userId, userID, user, uid; the item one of item_id, movieId, itemId,
    iid, item; the rating, if any, one of rating, weight, score, and a multiple of .5 from .5 to 127, of which twice is
    kept; the time, if any, one of timestamp, unixReviewTime, datetime, ts, in seconds since 1970 or as ISO dates (UTC
    where they do not say). Without ratings an event has the value 1. Ids become `user/<id>` and `item/<id>`, in the
    order of their text, or of their numbers if all are numbers; they are printable and at most 200 characters long.
    Whatever is not so is refused, with row and column. Text is UTF-8; a cell has no line break.

    Options: path: .csv (comma, semicolon or tab), .tsv, .inter (`user_id:token`), .parquet, or .npz as scipy's save_npz
    writes a CSR matrix (ratings, or 1 everywhere for events). ids: for .npz, a JSON file of {"users": [...], "items":
    [...]} by number, beside it or absolute; without, rows and columns are called by their numbers. duplicates: `refuse`
    a pair of user and item that comes twice, or keep the `last` (by time, then row; before min_rating, so that somebody
    who changed their mind is taken at their last word). min_rating: lower ratings are dropped before users, items and
    test users are looked at. kind: `rating`, or `binary` for events without a value. test_users: this many users are
    set apart to test on (strong generalisation, Liang et al. 2018), those whose ids have the smallest hashes.
    min_item_events: items with fewer training events are not in the vocabulary (0 keeps all, also those of nobody); a
    user who is left without events keeps an empty row.

    The vocabulary is frozen at ingestion: a later deletion does not shrink it. Whoever opens the source again, when
    users may have left the file, passes the frozen one to `open`.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        ids: str | None = None,
        test_users: int = 0,
        min_rating: float | str = 0.5,
        min_item_events: int = 1,
        kind: str = "rating",
        duplicates: str = "refuse",
    ) -> None:
        if path is None:
            raise InputError("interactions need a path", expected="a file", hint="--data FILE")
        self.path = Path(path)
        self.ids = None if ids is None else self.path.parent / ids
        if self.ids is not None and self.path.suffix.lower() != _MATRIX:
            raise InputError("ids are for matrices", expected=f"a path that ends in {_MATRIX}", got=self.path.name)
        self.choices = choices(
            test_users=test_users, min_rating=min_rating, min_item_events=min_item_events, kind=kind,
            duplicates=duplicates,
        )  # fmt: skip

    def open(self, items: Sequence[str] | None = None) -> Interactions:
        """The data set, over the vocabulary `items` if given. Raises DataError on a file that is not as described."""
        return assemble(
            self._events(), self.choices, source="interactions", note=self.path.name, prefixes=("user/", "item/"),
            vocabulary=items,
        )  # fmt: skip

    def _events(self) -> Events:
        suffix = self.path.suffix.lower()
        if not self.path.is_file() or suffix not in (*_TABLES, _MATRIX):
            expected = f"a file that ends in {', '.join(_TABLES)} or {_MATRIX}"
            raise DataError(f"{self.path} is no file of interactions", expected=expected, hint="check --data")
        rated = self.choices.kind == "rating" or self.choices.least > 1
        if suffix == _MATRIX:
            return csr_events(self.path, ids=self.ids, rated=rated, hint=HINT)
        table = _TABLES[suffix](self.path, skip=() if rated else ("rating",))
        return collect(table, user=plain_ids(), item=plain_ids(), top=TOP_STARS, hint=HINT)
