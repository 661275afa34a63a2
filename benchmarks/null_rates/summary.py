"""From counts to the table: every rate with its exact 95 % interval, the worst cell of each family by name."""

from __future__ import annotations

from typing import Any

from expunge.stats.intervals import clopper_pearson


def rate(hits: int, runs: int) -> dict[str, Any]:
    """Share, its interval and n, to four digits."""
    bounds = clopper_pearson(hits, runs)
    return {"rate": round(hits / runs, 4), "interval": [round(bounds.low, 4), round(bounds.high, 4)], "n": runs}


def summarised(found: dict[str, Any]) -> dict[str, Any]:
    """All sections of result.json."""
    groups: dict[str, dict[str, Any]] = {}
    for name, cell in found.items():
        kind, _, rest = name.partition("|")
        groups.setdefault(kind, {})[rest] = cell
    return {
        "decisions_compared_with_the_product": sum(cell.get("compared", 0) for cell in found.values()),
        "three_arm_grid_of_correlations": margins(groups["grid"]),
        "three_arm_shapes": {
            shape: margins({k: c for k, c in groups["shape"].items() if k.startswith(f"{shape}|")})
            for shape in dict.fromkeys(name.split("|")[0] for name in groups["shape"])
        },
        "ten_attempts": {
            k: {w: rate(c[w], c["runs"]) for w in ("guarded", "whole")} for k, c in groups["attempts"].items()
        },
        "cheats": {name: cheat(cell) for name, cell in groups["cheat"].items()},
        "deployed_p_values": {name: ranks(cell) for name, cell in groups["deployed"].items()},
        "epsilon_bounds_above_0": {
            k: rate(c["alarms"], c["runs"]) | {"largest": c["largest"]} for k, c in groups["epsilon"].items()
        },
        "e_process": {
            name: {key: rate(cell[key], cell["runs"]) for key in ("crossed", "t_test_that_peeks")}
            for name, cell in groups["e-process"].items()
        },
        "multiplicity": {name: families(cell) for name, cell in groups["multiplicity"].items()},
        "sequential": {name: sequential(cell) for name, cell in groups["sequential"].items()},
    }


def margins(cells: dict[str, Any]) -> dict[str, Any]:
    """Per level and rule: the pooled rate, the worst cell, and how many cells lie above .05 beyond chance."""
    rows: dict[str, Any] = {"cells": len(cells)}
    for label in ("0.0125", "0.025"):
        for rule in ("student", "guarded", "whole"):
            counts = {
                f"{name} {side}": (cell[f"{side} {label}"][rule], cell["runs"])
                for name, cell in cells.items()
                for side in ("+t", "-t")
                if rule in cell[f"{side} {label}"]
            }
            if not counts:
                continue
            worst = max(counts, key=lambda key: counts[key][0] / counts[key][1])
            above = sum((clopper_pearson(*pair).low or 0.0) > 0.05 for pair in counts.values())
            rows[f"alpha {label}, {rule}"] = {
                "pooled": rate(sum(c[0] for c in counts.values()), sum(c[1] for c in counts.values())),
                "worst": {"cell": worst, **rate(*counts[worst])},
                "cells_whose_interval_lies_above_.05": above,
            }
    return rows


def cheat(cell: dict[str, Any]) -> dict[str, Any]:
    rows = {
        f"alpha {label}": {key: rate(cell[label][key], cell["runs"]) for key in ("contrasts", "whole", "per_run")}
        for label in ("0.0125", "0.025")
    }
    return rows | {"four attempts, whole": rate(cell["four attempts"], cell["runs"])}


def ranks(cell: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {f"nominal {a}": rate(count, cell["runs"]) for a, count in cell[name].items()}
        for name in ("deciding", "rank", "prediction")
    }


def families(cell: dict[str, Any]) -> dict[str, Any]:
    return {
        label: {"any_false": rate(cell[label]["any_false"], cell["runs"])}
        | {key: round(cell[label][key], 4) for key in ("false_discovery_rate", "found_of_5")}
        for label in ("all honest", "5 residues")
    }


def sequential(cell: dict[str, Any]) -> dict[str, Any]:
    outcomes = {kind: rate(count, cell["runs"]) for kind, count in cell["outcomes"].items() if count}
    return outcomes | {key: cell[key] for key in ("pairs_mean", "pairs_median", "pairs_at_power_80", "fixed_n")}
