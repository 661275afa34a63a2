"""What a worker does: train one model of a bank, or unlearn one for the X arm, and keep a sketch of its answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from expunge.core import registry
from expunge.core.codec import decode, loads
from expunge.core.protocols import FitJob, Progress, UnlearnJob
from expunge.core.sabotage import serving
from expunge.farm.asked import askable, record_answers, sketch_of
from expunge.farm.asked import true_log_probabilities as true_log_probabilities
from expunge.farm.bank import SKETCH, Bank, BankSpec, write_sketch
from expunge.farm.opened import open_data
from expunge.farm.probing import Probed, ProbePlan, run_probes
from expunge.farm.spikes import spike
from expunge.farm.users import read_users
from expunge.training.classifier import MODEL
from expunge.training.loop import numerics_of
from expunge.training.recipe import parse_any_recipe
from expunge.training.rng import derive_seed


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for training and answers alike: a worker has one core, and an answer's bits then name no executor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _slotted(spec: BankSpec, folder: Path) -> Any:
    """The data set in the slot order that `slots.json` of the bank's folder fixes."""
    file = folder / "slots.json"
    if not file.exists():
        return open_data(spec.data)
    book = loads(file.read_bytes(), what="slots.json")
    users = read_users(folder, book["ids"], book["blocks"])
    return open_data(spec.data).aligned(book["ids"], book["blocks"]) if users is None else users


def adapter_for(recipe: Mapping[str, Any], data: Any) -> Any:
    """The family's adapter for a recipe and a data set."""
    parsed = parse_any_recipe(recipe)
    return registry.load(data.families, parsed.family)(parsed, **data.geometry)


@one_thread()
def train(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """Train a member and write its sketch."""
    spec = _spec(arguments)
    data = _slotted(spec, home.parent)
    kind, number = str(arguments["kind"]), int(arguments["number"])
    bank = Bank(spec, home.parent, data.train.blocks)
    slots = bank.slots_of(kind, number)
    adapter = adapter_for(spec.recipe, data)
    job = FitJob(
        recipe=spec.recipe,
        seed=derive_seed(spec.seed, kind, number),
        numerics=numerics_of(adapter.recipe, 1),
        data=data,
        folder=home / "run",
        universe=slots,
        keep_checkpoints=False,
        progress=progress,
    )
    result = adapter.fit(job)
    shutil.rmtree(home / "run" / "checkpoints", ignore_errors=True)
    write_sketch(home / SKETCH, sketch_of(adapter, adapter.load(result.model), data))
    return {"digest": result.digest, "seconds": round(result.seconds, 3), "records": len(slots)}


@one_thread()
def measure(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """Probes on one finished member; `partner` is the pair's IN member, or the served model's weights for anchors."""
    member = _Member.of(arguments, home)
    weights = member.bank.home(member.kind, member.number) / "run" / MODEL
    return run_probes(_plan(arguments), member.probed(weights, _partner(member.bank, arguments)))


@one_thread()
def unlearn(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """Run a method on the IN model of a pair, keep the answers, discard the model at once.

    `doses` put the block back, as many times each, into copies of the result: an attack that the method has blinded
    shows no response.
    """
    member, plan = _Member.of(arguments, home), _plan(arguments)
    kind, name = registry.split_name(str(arguments["method"]), "methods")
    source = member.bank.home("bank", member.number) / "run"
    method = registry.load(kind, name)()
    job = UnlearnJob(
        adapter=member.adapter,
        job=member.job(home / "run"),
        source=source,
        target=home / "run",
        forget=frozenset(plan.block),
        seed=derive_seed(str(arguments["seed"]), "x", member.number),
        params=arguments["params"],
    )
    result = method.unlearn(job)
    member = replace(member, adapter=serving(str(arguments["method"]), method, member.adapter, job))
    answers = member.answers(result.model, plan)
    answers["measured"] = run_probes(plan, member.probed(result.model, source / MODEL))
    answers["spikes"] = [_spiked(member, plan, result.model, int(dose)) for dose in arguments["doses"]]
    shutil.rmtree(home / "run", ignore_errors=True)
    return answers


@one_thread()
def peer(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """Train a full-size model from a seed of its own without the slots of `absent`, keep its answers, discard it at once."""
    spec, plan = _spec(arguments), _plan(arguments)
    data = _slotted(spec, home.parent)
    adapter = adapter_for(spec.recipe, data)
    job = FitJob(
        recipe=spec.recipe,
        seed=str(arguments["seed"]),
        numerics=numerics_of(adapter.recipe, 1),
        data=data,
        folder=home / "run",
        absent=frozenset(int(slot) for slot in arguments["absent"]),
        keep_checkpoints=False,
        progress=progress,
    )
    weights = adapter.fit(job).model
    answers = _answers(adapter, data, weights, plan)
    fit = replace(job, folder=home / "scratch")
    answers["measured"] = run_probes(plan, Probed(adapter=adapter, weights=weights, partner=None, fit=fit))
    shutil.rmtree(home / "run", ignore_errors=True)
    return answers


def _answers(adapter: Any, data: Any, weights: Path, plan: ProbePlan) -> dict[str, Any]:
    """What the sketches hold of records, of the block and of the whole test split."""
    model = adapter.load(weights)
    block = record_answers(adapter, model, data.train, plan.block)
    population = record_answers(adapter, model, data.test, askable(data))
    return {"block": block.tolist(), "population": population.tolist()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One bank model or anchor as a worker sees it."""

    bank: Bank
    kind: str
    number: int
    data: Any
    adapter: Any
    home: Path

    @classmethod
    def of(cls, arguments: Mapping[str, Any], home: Path) -> _Member:
        spec = _spec(arguments)
        data = _slotted(spec, home.parent)
        return cls(
            bank=Bank(spec, home.parent, data.train.blocks),
            kind=str(arguments.get("kind", "bank")),
            number=int(arguments["number"]),
            data=data,
            adapter=adapter_for(spec.recipe, data),
            home=home,
        )

    def job(self, folder: Path) -> FitJob:
        """This member's training."""
        return FitJob(
            recipe=self.bank.spec.recipe,
            seed=derive_seed(self.bank.spec.seed, self.kind, self.number),
            numerics=numerics_of(self.adapter.recipe, 1),
            data=self.data,
            folder=folder,
            universe=self.bank.slots_of(self.kind, self.number),
            keep_checkpoints=False,
        )

    def probed(self, weights: Path, partner: Path | None) -> Probed:
        """A model of this member's half for the probes."""
        return Probed(adapter=self.adapter, weights=weights, partner=partner, fit=self.job(self.home / "scratch"))

    def answers(self, weights: Path, plan: ProbePlan) -> dict[str, Any]:
        """As above, of a model of this member's half."""
        return _answers(self.adapter, self.data, weights, plan)


def _spiked(member: _Member, plan: ProbePlan, weights: Path, dose: int) -> dict[str, Any]:
    """The unlearned model after the block was shown `dose` more times, among as many retained records."""
    home = member.home / "spike"
    spiked = spike(member.adapter, member.job(home), weights, plan, dose)
    answers = member.answers(spiked.model, plan)
    attacks = replace(plan, probes=tuple(name for name in plan.probes if name.startswith("attacks/")))
    answers["measured"] = run_probes(attacks, member.probed(spiked.model, None))
    shutil.rmtree(home, ignore_errors=True)
    return {"dose": dose, **answers}


def _partner(bank: Bank, arguments: Mapping[str, Any]) -> Path | None:
    partner = arguments["partner"]
    if isinstance(partner, int):
        return bank.home("bank", partner) / "run" / MODEL
    return None if partner is None else Path(str(partner))


def _plan(arguments: Mapping[str, Any]) -> ProbePlan:
    plan = arguments["plan"]
    return plan if isinstance(plan, ProbePlan) else decode(ProbePlan, plan)


def _spec(arguments: Mapping[str, Any]) -> BankSpec:
    bank = arguments["bank"]
    return bank if isinstance(bank, BankSpec) else decode(BankSpec, bank)
