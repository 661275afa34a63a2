"""Records by id, for every kind of record: which rows they are, and what is said about those that are not there."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from expunge.core.errors import DataError, InputProblems

SHOWN = 5


def known_slots(known: Mapping[str, int], ids: Sequence[str], what: str) -> list[int]:
    """Slots of ids; every unknown id is reported at once. `what` names them: `record` or `user`."""
    unknown = [repr(name) for name in ids if name not in known]
    if unknown:
        hint = f"ids look like {next(iter(known), 'none')!r}; there are {len(known)} {what}s"
        raise InputProblems(f"unknown {what} ids", unknown, hint=hint, code="unknown-id")
    return [known[name] for name in ids]


def rows_in_source(
    known: Mapping[str, int], ids: Sequence[str | None], what: str, empty: Container[str] = ()
) -> list[int | None]:
    """The source's row of every slot; None for a tombstone, and for one of `empty` that the source does not have, because
    nothing of it is left. Raises DataError when any other retained record left the source."""
    missing = [name for name in ids if name is not None and name not in known and name not in empty]
    if missing:
        raise DataError(
            f"{len(missing)} retained {what}s are missing from the data source",
            got=", ".join(missing[:SHOWN]),
            hint="restore the source; only deleted ones may leave it",
        )
    return [None if name is None else known.get(name) for name in ids]
