"""expunge request: log a deletion request and give the requester a receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit

if TYPE_CHECKING:
    from expunge.core.request import EventSelector

USER = (
    "A recommender's user, named as in the source (7, not user/7). Alone: the whole user. With --item or --since/--until: "
    "only these events, the user remains."
)
ITEM = (
    "An item, named as in the source. With --user: that user's interaction with it. Alone: the item, out of every history. "
    "May be repeated."
)
FROM = "A text file with one record id a line, for a batch of many."
SINCE = "Start of a time window of --user, included: seconds since 1970, or an ISO date (UTC where it does not say)."
UNTIL = "End of the time window, not included."
STYLE = (
    "An artist, named as in the source, whose style a text-to-image model is not to draw; not for the works themselves, "
    "which are asked for with --block or --id and deleted whatever the model draws."
)


def command(
    ids: Annotated[list[str] | None, typer.Option("--id", help="Record id; may be repeated.")] = None,
    ids_from: Annotated[Path | None, typer.Option("--ids-from", help=FROM)] = None,
    user: Annotated[list[str] | None, typer.Option("--user", help=USER)] = None,
    item: Annotated[list[str] | None, typer.Option("--item", help=ITEM)] = None,
    since: Annotated[str | None, typer.Option("--since", help=SINCE)] = None,
    until: Annotated[str | None, typer.Option("--until", help=UNTIL)] = None,
    block: Annotated[
        list[str] | None, typer.Option("--block", help="All records of a block (a user, a cluster); may be repeated.")
    ] = None,
    style: Annotated[str | None, typer.Option("--style", help=STYLE)] = None,
    subject: Annotated[str, typer.Option("--subject", help="Who asks; kept in the case's private folder only.")] = "",
    basis: Annotated[str, typer.Option("--basis", help="Legal basis.")] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Check a request completely, log its commitment, and write the requester's receipt. A bad request logs nothing.

    Whole records: --id, --ids-from, --block, or --user alone. Of a recommender also events: --user U --item I (an interaction),
    --user U --since T --until T (a time window), --item I (an item, whoever had it). Of a text-to-image model: --style A.
    """
    from expunge.workflow.lists import read_ids
    from expunge.workflow.workspace import opened

    users = [f"user/{name}" for name in user or ()]
    with opened(workspace) as ws:
        events = _events(ws, users, list(item or ()), since, until)
        listed = () if ids_from is None else read_ids(ids_from)
        named = [*(ids or ()), *listed, *(() if events else users)]
        case = ws.request(ids=named, block=block, style=style, events=events, subject=subject, basis=basis)
        request = case.request()
        result = {
            "case": case.handle,
            "deletes": request.unit,
            "style": request.style is not None,
            "receipt": str(case.receipt),
            "due": request.due,
        }
    emit(
        result,
        as_json,
        lambda console: console.print(
            f"case {case.handle}: {ALONE if request.style else WORDS[request.unit]}\nreceipt for the requester: {case.receipt}\n"
            f"next: expunge plan -w {workspace}"
        ),
    )


ALONE = "a style, of which the model is asked first; where it was learned, the artist's works go"
WORDS = {
    "records": "whole records",
    "interaction": "single interactions; their users remain",
    "window": "a time window; its users remain",
    "item": "an item, out of every history; the users remain",
}


def _events(ws: Any, users: list[str], items: list[str], since: str | None, until: str | None) -> EventSelector | None:
    """What is asked for, where it is less than whole users."""
    from expunge.core.request import EventSelector

    if not items and since is None and until is None:  # an empty text is a mistake and never a whole user
        return None
    prefix = str((ws.vocabulary or ("item/",))[0]).partition("/")[0]
    return EventSelector(
        users=tuple(users),
        items=tuple(f"{prefix}/{name}" for name in items),
        since=None if since is None else seconds(since, "--since"),
        until=None if until is None else seconds(until, "--until"),
    )


def seconds(text: str, option: str) -> int:
    """Seconds since 1970 of a number or an ISO date; UTC where it does not say."""
    from datetime import UTC, datetime

    from expunge.core.errors import InputError

    if text.removeprefix("-").isascii() and text.removeprefix("-").isdigit():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        expected = "whole seconds since 1970, or 2024-05-31, or 2024-05-31T12:00:00+02:00"
        raise InputError(f"{option} is no time", expected=expected, got=text[:40]) from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
