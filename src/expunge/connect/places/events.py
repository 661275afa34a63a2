"""Rows of events: the log itself, its copies, samples and exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.connect._place_parquet import count_parquet, plant_parquet, scrub_parquet
from expunge.connect._place_tables import USER, Columns, count_rows, is_parquet, plant_rows, scrub_rows
from expunge.core.places import Traces


class Events:
    """CSV, TSV, RecBole's .inter, MovieLens' `::`, and parquet. A trace is a row whose user is one of the users; where
    single events go, a row of such a user and item, and the users' other rows stay.

    A cell is compared as a whole, blanks around it aside: `17` is `17`, ` 17` and `17.0` (a column that became floats
    somewhere), never `117` or `1.17`. Other rows keep their bytes, header, line ends and order included; of parquet,
    their values. Rows are read one by one, at most 1 MiB each; a row of another width, a quote that is never closed, a
    carriage return inside a row and text that is not UTF-8 end the reading with the row's number.
    Control: one row for each event of the made-up user, otherwise like the last row. Not seen: users inside free text
    of other columns, for which the kind `text` is there.
    """

    scrubs: bool = True
    shortens: bool = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`column`: the users' column by name; empty = one of user_id, userId, userID, user, uid. `position`: its number
        from 1 in a text file without a header; 0 = there is a header. `delimiter`: empty = the one of comma, tab,
        semicolon, | and :: that makes most columns of the first row. `item`, `item_position`: the same of the items'
        column, needed for single events; empty = one of item_id, itemId, movieId, iid, item."""

        column: str = ""
        position: int = 0
        delimiter: str = ""
        item: str = ""
        item_position: int = 0

    def __init__(self, config: Config) -> None:
        self._columns = Columns(
            name=config.column, aliases=USER, position=config.position, delimiter=config.delimiter,
            item=config.item, item_position=config.item_position,
        )  # fmt: skip

    def count(self, path: Path, traces: Traces) -> int:
        """Rows of the users."""
        found = count_parquet if is_parquet(path) else count_rows
        return found(path, self._columns, traces)

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Rows of the made-up users at the end."""
        made = plant_parquet if is_parquet(path) else plant_rows
        return made(path, out, self._columns, traces, _rows_each(traces))

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """Without the users' rows."""
        if is_parquet(path):
            return scrub_parquet(path, out, self._columns, traces)
        return scrub_rows(path, out, self._columns, traces, lambda _: False)


def _rows_each(traces: Traces) -> Sequence[int]:
    """As many rows as the made-up user has items; one where single events are looked for."""
    return [1 if traces.events else max(1, len(columns)) for columns in traces.columns]
