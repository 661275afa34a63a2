"""The block statistic: mean attack score over the R records of a block, never fitted on the model it judges.

`score` is an attack's `score(AttackJob)`; it arrives as a function because attacks live on a higher floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores
from expunge.core.protocols import Arms, AttackJob, CheckJob, Deployed, Measured, Probe, Spike
from expunge.stats.arrays import Bools, Floats, finite

Score = Callable[[AttackJob], MembershipScores]
Rows = NDArray[np.intp] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockScores:
    """One number a complement pair, float (n,); `unlearned` is None when no X arm was run. Higher = member.

    `spiked` are the X models after the block was put back, one array a dose.
    """

    out: Floats
    into: Floats
    unlearned: Floats | None
    spiked: tuple[Floats, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """M models: a signal on the block (M, R) and on Z unseen records (M, Z); natural-log probabilities of the true class
    unless the attack measures its own. The attack checks the range of what it gets; here values must be finite."""

    block: Floats
    population: Floats

    @classmethod
    def of(cls, name: str, block: ArrayLike, population: ArrayLike, like: Models | None = None) -> Models:
        """Checked arrays; `like` fixes R and Z. Raises CheckBroken when shapes differ or a value is not finite."""
        records = None if like is None else like.block.shape[1]
        others = None if like is None else like.population.shape[1]
        first = finite(name, block, (None, records))
        if not first.shape[1]:
            raise CheckBroken(f"{name}: the block holds no record")
        second = finite(f"{name}_population", population, (first.shape[0], others))
        return cls(block=first, population=second)

    def __len__(self) -> int:
        return int(self.block.shape[0])

    def take(self, rows: Rows) -> Models:
        """The models at these rows (index array or mask)."""
        return Models(block=self.block[rows], population=self.population[rows])

    @property
    def first(self) -> Models:
        """The first model alone."""
        return Models(block=self.block[:1], population=self.population[:1])

    @property
    def rest(self) -> Models:
        """All but the first."""
        return Models(block=self.block[1:], population=self.population[1:])

    def __add__(self, other: Models) -> Models:
        return Models(
            block=np.concatenate([self.block, other.block]),
            population=np.concatenate([self.population, other.population]),
        )


def arms_of(arms: Arms) -> tuple[Models, Models, Models | None]:
    """OUT, IN and X models of a bank, checked: n rows each, the same R and Z. Raises CheckBroken."""
    out = Models.of("out", arms.out, arms.out_population)
    into = Models.of("into", arms.into, arms.into_population, like=out)
    unlearned = None
    if arms.unlearned is not None:
        if arms.unlearned_population is None:
            raise CheckBroken("the X arm came without its population scores")
        unlearned = Models.of("unlearned", arms.unlearned, arms.unlearned_population, like=out)
    for name, arm in (("into", into), ("unlearned", unlearned)):
        if arm is not None:
            _paired(name, arm, len(out))
    return out, into, unlearned


def pair_scores(score: Score, arms: Arms, spikes: Sequence[tuple[ArrayLike, ArrayLike]] = ()) -> BlockScores:
    """O_k, I_k and X_k, fitted on both models of all other pairs; 2(n − 1) references each.

    `spikes` are (block, population) of further X models, one a pair, that are scored the same way. An arm whose models
    all answer alike on the block gets one number: what its scores would still vary by is their references, not the
    models, and must not pass for a spread. Raises CheckBroken when a model appears twice in an arm.
    """
    out, into, unlearned = arms_of(arms)
    for name, arm in (("out", out), ("into", into), ("unlearned", unlearned)):
        if arm is not None:
            _distinct(name, arm)
    n = len(out)
    bank, member = out + into, np.repeat([False, True], n)
    groups = [out, into, *([] if unlearned is None else [unlearned])]
    for number, (block, population) in enumerate(spikes):
        groups.append(_paired(f"spike {number}", Models.of(f"spike {number}", block, population, like=out), n))
    judged = sum(groups[1:], groups[0])
    rows = np.empty((n, len(groups)))
    for k in range(n):
        others = np.arange(2 * n) % n != k
        rows[k] = block_means(score, judged.take(np.arange(k, len(judged), n)), bank.take(others), member[others])
    for column, arm in enumerate((out, into, unlearned)):
        if arm is not None and n and not np.ptp(arm.block, axis=0).any():
            rows[:, column] = rows[:, column].mean()
    columns = [np.asarray(column, dtype=np.float64) for column in rows.T]
    first = 2 if unlearned is None else 3
    return BlockScores(
        out=columns[0],
        into=columns[1],
        unlearned=None if unlearned is None else columns[2],
        spiked=tuple(columns[first:]),
    )


def inputs_of(job: CheckJob, name: str, attack: object) -> tuple[Arms | None, Deployed | None]:
    """What a signal looks at: log-probabilities, or for a probe what it measured itself. None where it was not run."""
    if not isinstance(attack, Probe):
        return job.arms, job.deployed
    measured = job.measured.get(f"attacks/{name}")
    return (None, None) if measured is None else (measured_arms(measured), measured_files(measured))


def measured_arms(measured: Measured) -> Arms:
    """What a probe measured on the bank, as arms: its `block` (n, R) and `population` (n, Z)."""
    x = measured.unlearned
    return Arms(
        out=_stacked(measured.out, "block"),
        into=_stacked(measured.into, "block"),
        unlearned=None if x is None else _stacked(x, "block"),
        out_population=_stacked(measured.out, "population"),
        into_population=_stacked(measured.into, "population"),
        unlearned_population=None if x is None else _stacked(x, "population"),
    )


def spiked_arms(spike: Spike, name: str, attack: object) -> tuple[ArrayLike, ArrayLike]:
    """Block (n, R) and population (n, Z) of one dose, for this signal. Raises CheckBroken when it was not measured."""
    if not isinstance(attack, Probe):
        return spike.unlearned, spike.unlearned_population
    models = spike.measured.get(f"attacks/{name}")
    if not models:
        raise CheckBroken(f"the spikes were not measured by {name}")
    return _stacked(models, "block"), _stacked(models, "population")


def measured_files(measured: Measured) -> Deployed | None:
    """The same on the served file, the original and the anchors; None where the file was not measured."""
    if measured.candidate is None or measured.original is None:
        return None
    models = [measured.candidate, measured.original, *measured.out_anchors, *measured.in_anchors]
    block, population = _stacked(models, "block"), _stacked(models, "population")
    end = 2 + len(measured.out_anchors)
    return Deployed(
        candidate=block[:1],
        original=block[1:2],
        out_anchors=block[2:end],
        in_anchors=block[end:],
        candidate_population=population[:1],
        original_population=population[1:2],
        out_population=population[2:end],
        in_population=population[end:],
    )


def _stacked(models: Sequence[Mapping[str, ArrayLike]], key: str) -> Floats:
    try:
        return np.stack([np.asarray(model[key], dtype=np.float64) for model in models])
    except (KeyError, ValueError) as error:
        raise CheckBroken(
            f"a probe's answers do not fit together: {key}", expected="the same names and shapes on every model"
        ) from error


def _paired(name: str, arm: Models, n: int) -> Models:
    if len(arm) != n:
        raise CheckBroken(f"{name} is not paired with out", expected=f"{n} models", got=str(len(arm)))
    return arm


def _distinct(name: str, arm: Models) -> None:
    """No two models give the same answer to every record of block and population: n copies are not n retrainings."""
    answers = np.concatenate([arm.block, arm.population], axis=1)
    says_something = name == "into" or np.ptp(answers, axis=1).any()  # else it is judged, and earns nothing
    if len(np.unique(answers, axis=0)) < len(answers) and says_something:
        raise CheckBroken(f"{name} holds the same model twice", expected=f"{len(answers)} different models")


def among_peers(score: Score, target: Models, peers: Models, others: Models, *, peers_are_members: bool) -> Floats:
    """Block statistics of the target (first) and of its A peers, shape (A + 1,).

    Each of the A + 1 is scored by references that hold all of them but itself (full conformal: target and peers are
    treated alike, so under the hypothesis that the target is one of them its rank is exact), and by the M `others`,
    whose membership is the opposite.
    """
    stack = target + peers
    member = np.repeat([peers_are_members, not peers_are_members], [len(stack) - 1, len(others)])
    values = np.empty(len(stack))
    for k in range(len(stack)):
        rest = stack.take(np.arange(len(stack)) != k)
        values[k] = block_means(score, stack.take(np.array([k])), rest + others, member)[0]
    return values


def block_means(score: Score, target: Models, reference: Models, member: Bools) -> Floats:
    """Mean score over the records of each of the T targets, (T,). `member` (M,) says which references saw the block.

    A score that is a share of the Z unseen records is averaged as its empirical logit (Anscombe 1956): a share ends at
    1, where r would no longer be linear in what a record gives away (in simulation the gap grows by 5 to 15 % too).
    """
    shape = reference.block.shape
    job = AttackJob(
        target=target.block,
        reference=reference.block,
        member=np.broadcast_to(member[:, None], shape),
        target_population=target.population,
        reference_population=reference.population,
    )
    scored = score(job)
    values = finite(f"scores of {scored.attack}", cast(ArrayLike, scored.values), target.block.shape)
    if scored.unit == "probability":
        values = _empirical_logit(values, target.population.shape[1])
    return np.asarray(values.mean(axis=1), dtype=np.float64)


def _empirical_logit(share: Floats, trials: int) -> Floats:
    """log((k + ½)/(Z − k + ½)) of k = share·Z hits. Raises CheckBroken on a share outside [0, 1]."""
    if share.size and not (share.min() >= 0 and share.max() <= 1):
        raise CheckBroken("a probability score lies outside [0, 1]", got=f"{share.min():.4g} to {share.max():.4g}")
    hits = share * trials
    return np.asarray(np.log((hits + 0.5) / (trials - hits + 0.5)), dtype=np.float64)
