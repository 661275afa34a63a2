"""The story of an artist as one page: words, counts and samples. No script, no external reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROBES: Mapping[str, str] = {
    "direct": "asked by the artist's name",
    "reworded": "by alias, misspelling, title, in other languages",
    "soft_prompt/2": "two learned vectors",
}
"""What a probe is called on the page."""


def styles_page(told: Mapping[str, Any]) -> bytes:
    """HTML of a story, from its plain values."""
    from jinja2 import Environment, StrictUndefined, select_autoescape

    environment = Environment(
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent}
    template = environment.from_string((Path(__file__).parent / "styles.html.j2").read_text(encoding="utf-8"))
    return template.render(told=told, probes=PROBES).encode()


def _percent(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")
