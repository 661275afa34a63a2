"""Probes on one model: the same records and the same seed on every arm, so that only the model differs.

Answers about the block are scores of single records: they live as long as the judgement, like the X arm.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core import registry
from expunge.core.errors import CheckBroken
from expunge.core.protocols import FitJob, Measured, Probe, ProbeJob

Answers = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """What every model of a judgement is asked. `probes` are `attacks/NAME` and `checks/NAME`; slots as in ProbeJob."""

    probes: tuple[str, ...]
    block: tuple[int, ...]
    neighbours: tuple[int, ...]
    retained: tuple[int, ...]
    population: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """One model with what a probe may need beside it; `fit` is its training without the block."""

    adapter: Any
    weights: Path
    partner: Path | None
    fit: FitJob


def output_attacks(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the named attacks that need nothing but outputs; all others look into a model or ask it more."""
    return tuple(name for name in names if not isinstance(registry.load("attacks", name)(), Probe))


def probes_among(names: Sequence[str], adapter: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    """Those of `kind/name` that are probes and can run on this family; and the reason for each that cannot."""
    able, unable = [], {}
    for name in names:
        plugin = _plugin(name)
        if not isinstance(plugin, Probe):
            continue
        if isinstance(adapter, plugin.requires):
            able.append(name)
        else:
            unable[name] = f"family {adapter.family} lacks the capability {plugin.requires.__name__}"
    return tuple(able), unable


def run_probes(plan: ProbePlan, probed: Probed) -> Answers:
    """Every probe of the plan on one model, as plain lists; no answers where a probe broke on this model."""
    answers: Answers = {}
    for name in plan.probes:
        job = ProbeJob(
            adapter=probed.adapter,
            model=probed.adapter.load(probed.weights),
            weights=probed.weights,
            partner=probed.partner,
            fit=probed.fit,
            data=probed.fit.data,
            block=plan.block,
            neighbours=plan.neighbours,
            retained=plan.retained,
            population=plan.population,
            seed=plan.seed,
        )
        try:
            answers[name] = {key: _plain(name, key, value) for key, value in _plugin(name).measure(job).items()}
        except CheckBroken:  # this model cannot be asked this; the whole probe then counts as not measured
            answers[name] = {}
        shutil.rmtree(probed.fit.folder, ignore_errors=True)
    return answers


def arrays_of(answers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers as they come back from a published result: float64 arrays by probe and name."""
    return {name: {key: _floats(value) for key, value in found.items()} for name, found in answers.items()}


def gathered(
    probes: Sequence[str], arms: Mapping[str, Sequence[Mapping[str, Any]]], files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Measured]:
    """Per probe, the answers of all arms. `arms` has out, into, out_anchors, in_anchors and, if run, unlearned.

    A probe that broke on any model is left out: its check then says that it was not measured.
    """
    arrays = {arm: [arrays_of(answers) for answers in models] for arm, models in arms.items()}
    single = {name: arrays_of(answers) for name, answers in files.items()}

    def of(probe: str, arm: str) -> list[Mapping[str, Any]]:
        return [model[probe] for model in arrays.get(arm, [])]

    return {
        probe: Measured(
            out=of(probe, "out"),
            into=of(probe, "into"),
            unlearned=of(probe, "unlearned") if "unlearned" in arrays else None,
            candidate=single["candidate"][probe] if "candidate" in single else None,
            original=single["original"][probe] if "original" in single else None,
            out_anchors=of(probe, "out_anchors"),
            in_anchors=of(probe, "in_anchors"),
        )
        for probe in probes
        if all(model[probe] for models in (*arrays.values(), single.values()) for model in models)
    }


def _plugin(name: str) -> Any:
    kind, _, plain = name.partition("/")
    return registry.load(kind, plain)()


def _plain(name: str, key: str, value: Any) -> Any:
    array = np.asarray(value, np.float64)
    if not np.isfinite(array).all():
        raise CheckBroken(f"{name} answered {key} with NaN or infinity", expected="finite floats")
    return array.tolist()


def _floats(value: Any) -> Any:
    return np.array(_numbers(value), np.float64)


def _numbers(value: Any) -> Any:
    return [_numbers(item) for item in value] if isinstance(value, (list, tuple)) else float(value)
