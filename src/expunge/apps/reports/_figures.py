"""SVG figures, the same bytes for the same numbers. Every bin holds at least 20 records."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

INK, MUTED, RED, BLUE, GREEN = "#1c2733", "#8894a0", "#b23a48", "#2b6cb0", "#d9ead3"
LEAST = 20  # users behind a dot


def _draw(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    return figure, axes


def _svg(figure: Any) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "expunge", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :].encode()


def roc_figure(name: str, data: Mapping[str, Any]) -> bytes:
    """ROC of one attack over all records of the bank."""
    figure, axes = _draw(3.4, 2.9)
    fpr, tpr = [float(x) for x in data["fpr"]], [float(x) for x in data["tpr"]]
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    axes.plot(fpr, tpr, color=BLUE, linewidth=1.6)
    axes.set_xlabel("false-positive rate", fontsize=8)
    axes.set_ylabel("true-positive rate", fontsize=8)
    axes.set_title(f"{name}: AUC {float(data['auc']):.3f}", fontsize=9, loc="left", color=INK)
    return _svg(figure)


def score_figure(name: str, data: Mapping[str, Any]) -> bytes | None:
    """Scores of members and nonmembers, as densities of merged bins."""
    if not data["members"] or not data["nonmembers"]:
        return None
    figure, axes = _draw(3.4, 2.9)
    for key, colour, label in (("members", RED, "trained on"), ("nonmembers", BLUE, "not trained on")):
        edges = [float(x) for x in data[key]["edges"]]
        counts, total = data[key]["counts"], data[key]["n"]
        density = [c / total / (b - a) for c, a, b in zip(counts, edges, edges[1:], strict=False)]
        axes.stairs(density, edges, color=colour, linewidth=1.4, label=label, fill=False)
    axes.set_xlabel(f"{name} score (higher = more likely a member)", fontsize=8)
    axes.set_ylabel("density", fontsize=8)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"{name}: scores on the bank", fontsize=9, loc="left", color=INK)
    return _svg(figure)


def residual_figure(findings: list[Mapping[str, Any]]) -> bytes | None:
    """Residual influence of the membership finding with its interval, between 0 (never seen) and 1 (untouched)."""
    found = [f for f in findings if f["check"] == "membership" and f["estimate"] is not None and f["interval"]]
    if not found:
        return None
    finding = found[0]
    estimate, limit = float(finding["estimate"]), float(finding["limit"])
    low, high = float(finding["interval"]["low"]), float(finding["interval"]["high"])
    figure, axes = _draw(6.8, 1.3)
    axes.axvspan(-limit, limit, color=GREEN, linewidth=0)
    axes.plot([low, high], [0, 0], color=INK, linewidth=2)
    axes.plot([estimate], [0], "o", color=RED if abs(estimate) > limit else INK)
    for place, label in ((0, "never seen"), (1, "untouched")):
        axes.axvline(place, color=MUTED, linewidth=0.8, linestyle="--")
        axes.annotate(label, (place, 0.6), fontsize=8, color=MUTED, ha="center")
    axes.set_ylim(-1, 1)
    axes.set_xlim(min(-0.5, low - 0.1), max(1.3, high + 0.1))
    axes.set_yticks([])
    axes.set_xlabel("residual influence r (green: the margin)", fontsize=8)
    return _svg(figure)


def quality_figure(quality: Mapping[str, Any] | None) -> bytes | None:
    """What the first metric gained or lost: after the deletion, in a retraining, and by segment; 0 is before."""
    rows = _dots(quality)
    if quality is None or not rows:
        return None
    figure, axes = _draw(6.8, 0.75 + 0.27 * len(rows))
    margin = float(quality["limit"])
    width = 1.15 * max([margin, *(abs(x) for _, dot, interval, _ in rows for x in (dot, *interval))], default=1) or 1
    axes.axvspan(-margin, width, color=GREEN, alpha=0.55, linewidth=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle="--")
    for place, (_, dot, interval, colour) in enumerate(rows):
        axes.plot(interval, [place] * len(interval), color=colour, linewidth=2)
        axes.plot([dot], [place], "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-width, width)
    name = quality["metrics"][0]["name"]
    axes.set_xlabel(f"{name}, difference to before (green: no more is lost than the margin of {margin:g})", fontsize=8)
    return _svg(figure)


def _dots(quality: Mapping[str, Any] | None) -> list[tuple[str, float, tuple[float, ...], str]]:
    """Label, dot, ends of its interval (none where the finding has none), colour."""
    if quality is None or not quality["metrics"] or quality["limit"] is None:
        return []
    change = quality["metrics"][0]["changes"].get("before", {})
    if change.get("estimate") is None:
        return []
    interval = tuple(float(end) for end in change["interval"] or ())
    rows = [("after the deletion", float(change["estimate"]), interval, BLUE)]
    if quality["gained"] is not None:
        rows.append(("a retraining", float(quality["gained"]), (), INK))
    for row in quality["others"]:
        if row["users"] is not None and row["change"] is not None and float(row["users"]) >= LEAST:
            rows.append((f"{row['name']}, {float(row['users']):.0f} users", float(row["change"]), (), MUTED))
    return rows
