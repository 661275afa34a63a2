"""One self-contained HTML report: no script, no external reference, the same bytes for the same case."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.apps.reports._figures import quality_figure, residual_figure, roc_figure, score_figure
from expunge.apps.reports._others import others
from expunge.apps.reports._recommender import climbed, places, quality
from expunge.apps.reports._words import DEMANDS, RUNGS, entry_words

_COUNT = re.compile(r"(?<![\w.,:/+-])\d{5,}(?= [a-z(])")  # "2250000 sums": what stands alone may be somebody's name
_EXACT = 1e15  # beyond, a float is no count


class HtmlReport:
    """Renders a view of a case (encoded JSON) to `report.html` and `figures/*.svg`."""

    def render(self, view: Mapping[str, Any]) -> dict[str, bytes]:
        """Files by name inside the bundle."""
        from jinja2 import Environment, StrictUndefined, select_autoescape

        environment = Environment(
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"short": _short, "signed": _signed, "four": _four, "counts": _counts, "share": _share}
        template = environment.from_string((Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8"))
        arranged = _arranged(view)
        figures = self._figures(view, arranged)
        pictures = {
            name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode() for name, svg in figures.items()
        }
        html = template.render(view=view, pictures=pictures, **arranged).encode()
        return {"report.html": html, **{f"figures/{name}.svg": svg for name, svg in figures.items()}}

    def _figures(self, view: Mapping[str, Any], arranged: Mapping[str, Any]) -> dict[str, bytes]:
        found: dict[str, bytes | None] = {"residual": residual_figure(view["findings"])}
        found["quality"] = quality_figure(arranged["quality"])
        for name, data in view["figures"].items():
            found[f"roc-{name}"] = roc_figure(name, data)
            found[f"scores-{name}"] = score_figure(name, data)
        return {name: svg for name, svg in found.items() if svg is not None}


def _arranged(view: Mapping[str, Any]) -> dict[str, Any]:
    """The view as the template wants it; a classifier has no ladder."""
    ladder, sheet = view["kind"] == "recommender", view.get("sheet")
    findings = view["findings"]
    return {
        "ladder": ladder,
        "findings": climbed(findings) if ladder else findings,
        "rungs": RUNGS if ladder else {},
        "demands": {check: DEMANDS[demand] for check, demand in view["demands"].items()} if ladder else {},
        "quality": quality(findings) if ladder else None,
        "places": places(findings) if ladder else None,
        "works": view["kind"] == "generator",
        "others": others(findings),
        "sheet": sheet,
        "log": [{**entry, "words": entry_words(entry["kind"], entry["own"])} for entry in view["log"]],
    }


def _short(value: Any) -> str:
    """A decimal string to four digits, a count in full; a dash for what is missing."""
    if value is None:
        return "–"
    number = float(value)
    return f"{number:,.0f}" if number.is_integer() and 1e3 <= abs(number) < _EXACT else f"{number:.4g}"


def _share(value: Any) -> str:
    """A share as a percentage."""
    return f"{float(value):.1%}".replace("%", " %")


def _four(value: Any) -> str:
    """To four places, so that columns can be compared."""
    return "–" if value is None else f"{float(value):.4f}"


def _signed(value: Any) -> str:
    """A difference, to four places."""
    if value is None:
        return "–"
    number = float(value)
    return f"{number:+.4f}".replace("-", "−") if number else "0"


def _counts(text: Any) -> str:
    """Commas in the long whole numbers of a sentence; digests, decimals and names stay as they are."""
    return _COUNT.sub(lambda found: f"{int(found[0]):,}", str(text))
