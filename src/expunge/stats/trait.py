"""A trait: one number a model, from what a probe measured on it, and what is planted as its control.

`Looked` is `Measured` after its checks. The judgement over traits is in `stats.behaviour`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.errors import CheckBroken
from expunge.core.protocols import Measured
from expunge.stats.arrays import Floats, finite
from expunge.stats.block import BlockScores

Model = Mapping[str, Floats]
Value = Callable[[Model], float]
OfPair = Callable[[Model, Model], float]


class Role(Enum):
    """What a trait may do to the verdict, declared before anything is measured."""

    DECIDES = "must pass for the check to pass"
    CAN_FAIL = "can only fail the check"
    REPORTED = "is shown and decides nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One number a model, oriented so that the control lies above OUT.

    `value` maps what a probe measured on one model to that number. `base` and `control` give O and C of a pair from
    its OUT and IN model; None = the value of the OUT and of the IN model. `more` and `less` are the words for a file
    or a method found on the control's side and on the other side. `harmless_below`: being below O is no fault, so only
    the side of the control is tested.
    """

    name: str
    value: Value
    base: OfPair | None = None
    control: OfPair | None = None
    role: Role = Role.DECIDES
    more: str = "residue"
    less: str = "over-unlearned"
    harmless_below: bool = False

    @property
    def ranks(self) -> bool:
        """Whether a served file may be ranked by it: its O must be a model's own number, as that of an anchor is."""
        return self.base is None and self.role is not Role.REPORTED

    @property
    def rises_with_the_block(self) -> bool:
        """Whether the control is the IN model itself, so that putting the block back must raise the number."""
        return self.base is None and self.control is None and self.role is Role.DECIDES

    def scores(self, looked: Looked) -> BlockScores:
        """O, C and X of every pair, (n,) each."""
        base = self.base or (lambda out, _: self.value(out))
        control = self.control or (lambda _, into: self.value(into))
        pairs = list(zip(looked.out, looked.into, strict=True))
        return BlockScores(
            out=_column(f"{self.name} of OUT", [base(o, i) for o, i in pairs]),
            into=_column(f"{self.name} of the control", [control(o, i) for o, i in pairs]),
            unlearned=None if looked.unlearned is None else self.of(looked.unlearned),
            spiked=tuple(self.of(models) for models in looked.spiked) if self.rises_with_the_block else (),
        )

    def of(self, models: Sequence[Model]) -> Floats:
        """The number of each model, (M,)."""
        return _column(self.name, [self.value(model) for model in models])


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A check's name, its question and its traits."""

    check: str
    question: str
    traits: tuple[Trait, ...]

    @property
    def alarms(self) -> int:
        """Traits that may fail the check."""
        return sum(trait.role is not Role.REPORTED for trait in self.traits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """`Measured`, checked: every model has the same arrays, finite and of the same shapes.

    `spiked` are X models that got the block back, n a dose, `doses` how often.
    """

    out: tuple[Model, ...]
    into: tuple[Model, ...]
    unlearned: tuple[Model, ...] | None
    candidate: Model | None
    original: Model | None
    anchors: tuple[Model, ...]
    spiked: tuple[tuple[Model, ...], ...] = ()
    doses: tuple[int, ...] = ()

    @classmethod
    def of(cls, measured: Measured, spikes: Sequence[tuple[int, Sequence[Mapping[str, ArrayLike]]]] = ()) -> Looked:
        """Raises CheckBroken on NaN, missing or misshapen arrays, unpaired arms and a model that is there twice."""
        everyone = [*measured.out, *measured.into, *measured.out_anchors, *measured.in_anchors]
        first = next(iter(everyone), measured.candidate)
        shapes = {} if first is None else {name: np.shape(values) for name, values in first.items()}
        n = len(measured.out)
        paired = [("into", measured.into), ("unlearned", measured.unlearned)]
        for arm, models in [*paired, *((f"spike {dose}", models) for dose, models in spikes)]:
            if models is not None and len(models) != n:
                raise CheckBroken(f"{arm} is not paired with out", expected=f"{n} models", got=str(len(models)))

        def checked(arm: str, models: Sequence[Mapping[str, ArrayLike]]) -> tuple[Model, ...]:
            return tuple(_model(f"{arm} {k}", model, shapes) for k, model in enumerate(models))

        def single(name: str, model: Mapping[str, ArrayLike] | None) -> Model | None:
            return None if model is None else _model(name, model, shapes)

        out, into = checked("out", measured.out), checked("into", measured.into)
        anchors = checked("out_anchors", measured.out_anchors)
        checked("in_anchors", measured.in_anchors)
        _no_copies("the bank", out + into)
        _no_copies("the anchors", anchors)
        return cls(
            out=out,
            into=into,
            unlearned=None if measured.unlearned is None else checked("unlearned", measured.unlearned),
            candidate=single("candidate", measured.candidate),
            original=single("original", measured.original),
            anchors=anchors,
            spiked=tuple(checked(f"spike {dose}", models) for dose, models in spikes),
            doses=tuple(dose for dose, _ in spikes),
        )


def label_margins(log_p: ArrayLike, labels: ArrayLike) -> Floats:
    """Logit of each record's label minus the largest other logit, (N,), from log-probabilities (N, K >= 2).

    The softmax's normaliser cancels, so this is the margin of the logits. Raises CheckBroken on bad shapes or labels.
    """
    table = finite("log-probabilities", log_p, (None, None))
    column = np.asarray(labels, dtype=np.int64)
    rows, classes = np.arange(len(table)), table.shape[1]
    if (
        classes < 2
        or column.shape != (len(table),)
        or (column.size and not 0 <= column.min() <= column.max() < classes)
    ):
        raise CheckBroken("one label in 0..K-1 a row is expected", got=f"{column.shape} labels, {table.shape} outputs")
    own = table[rows, column]
    others = table.copy()
    others[rows, column] = -np.inf
    return np.asarray(own - others.max(axis=1), dtype=np.float64)


def mean_of(name: str) -> Value:
    """The mean over the records of one measured array."""
    return lambda model: float(model[name].mean())


def _model(name: str, model: Mapping[str, ArrayLike], shapes: Mapping[str, tuple[int, ...]]) -> Model:
    if set(model) != set(shapes) or not shapes:
        raise CheckBroken(f"{name} was measured otherwise", expected=", ".join(sorted(shapes)), got=", ".join(model))
    return {key: finite(f"{key} of {name}", values, shapes[key]) for key, values in model.items()}


def _column(name: str, values: Sequence[float]) -> Floats:
    return finite(name, values, (len(values),))


def _no_copies(what: str, models: Sequence[Model]) -> None:
    """A model that counts twice is no evidence; when all agree, the quantity is constant and that is said elsewhere."""
    prints = {b"".join(model[name].tobytes() for name in sorted(model)) for model in models}
    if 1 < len(prints) < len(models):
        raise CheckBroken(f"{what} holds the same model twice", got=f"{len(prints)} different of {len(models)}")
