"""The auditors' result as the Markdown of docs/auditors.md and as the rows of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expunge.apps.bench.auditors import verdict_of

START, END = "<!-- auditors: start -->", "<!-- auditors: end -->"


def grid(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Library, bound, one cell a size, verdict; a library that was not measured gives its reason."""
    sizes = [int(m) for m in result["settings"]["sizes"]]
    cells = sum(len(library["rows"]) for library in result["libraries"])
    for library in result["libraries"]:
        label = f"{library['name']} {library['version']}".strip()
        if not library["rows"]:
            yield (label, library["why"] or "no rows", *("" for _ in sizes), "")
        for method in dict.fromkeys(row["method"] for row in library["rows"]):
            rows = {row["m"]: row for row in library["rows"] if row["method"] == method}
            yield (label, method, *(_cell(rows.get(m)) for m in sizes), verdict_of(list(rows.values()), cells))


def records(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Rule, anchors, realised share at each nominal alpha."""
    rows = result["per_record"]
    for anchors in dict.fromkeys(row["anchors"] for row in rows):
        for method in dict.fromkeys(row["method"] for row in rows):
            found = [row for row in rows if row["anchors"] == anchors and row["method"] == method]
            yield (method, str(anchors), *(_cell(row) for row in found))


def markdown(result: Mapping[str, Any]) -> str:
    """Both tables, ready for the page."""
    sizes = [f"m = {m}" for m in result["settings"]["sizes"]]
    alphas = [f"nominal {100 * a:g} %" for a in dict.fromkeys(row["alpha"] for row in result["per_record"])]
    first = _markdown(("library", "claim at nominal 5 %", *sizes, "verdict"), list(grid(result)))
    second = _markdown(("per-record p-value", "anchors", *alphas), list(records(result)))
    return f"{first}\n\n{second}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if not row["runs"]:
        return f"not run: {row['why']}"
    limits = f"{100 * row['low']:.1f}–{100 * row['high']:.1f}"
    return f"{100 * row['share']:.1f} % [{limits}], n = {row['runs']:,}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
