"""One self-contained HTML report: no script, no external reference, the same bytes for the same case."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.apps.reports._figures import residual_figure, roc_figure, score_figure


class HtmlReport:
    """Renders a view of a case (encoded JSON) to `report.html` and `figures/*.svg`."""

    def render(self, view: Mapping[str, Any]) -> dict[str, bytes]:
        """Files by name inside the bundle."""
        from jinja2 import Environment, StrictUndefined, select_autoescape

        figures = self._figures(view)
        environment = Environment(
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["short"] = _short
        template = environment.from_string((Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8"))
        pictures = {
            name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode() for name, svg in figures.items()
        }
        html = template.render(view=view, pictures=pictures).encode()
        return {"report.html": html, **{f"figures/{name}.svg": svg for name, svg in figures.items()}}

    def _figures(self, view: Mapping[str, Any]) -> dict[str, bytes]:
        found: dict[str, bytes | None] = {"residual": residual_figure(view["findings"])}
        for name, data in view["figures"].items():
            found[f"roc-{name}"] = roc_figure(name, data)
            found[f"scores-{name}"] = score_figure(name, data)
        return {name: svg for name, svg in found.items() if svg is not None}


def _short(value: Any) -> str:
    """A decimal string to four digits; a dash for what is missing."""
    return "–" if value is None else f"{float(value):.4g}"
