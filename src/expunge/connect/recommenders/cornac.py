"""Cornac's EASE, from the pickle that `Recommender.save` writes."""

from __future__ import annotations

from pathlib import Path

from expunge.connect.recommenders._builders import BUILDERS, Sparse, array_of, number_of, squares
from expunge.connect.recommenders._files import CODE, only, opened, starts_with
from expunge.connect.recommenders._linear import ForeignLinear, linear
from expunge.connect.recommenders._opcodes import Allowed, Record, read_pickle
from expunge.core.errors import DataError

_EXPORT = (
    "in Cornac's environment: np.savez('ease.npz', weights=m.B, items=np.array(m.item_ids[:len(m.B)]).astype(str), "
    "item_counts=np.asarray(m.U.multiply(m.U).sum(0)).ravel(), **{'lambda': m.lamb}), of half stars "
    "with 4 times the counts and 4 times lamb, and read that with `arrays`"
)
_CUT = "negatives were cut (posB=True, Cornac's default): B is no closed form; refit with posB=False, or from the rows"


class Cornac:
    """A pickle (protocol 4 or 5) of `cornac.models.EASE` (cornac 3.0.1: models/ease/recom_ease.py,
    models/recommender.py `save`). Never unpickled.

    The model keeps all training rows (`U`), which it also hands to nearest-neighbour indices as user vectors, and the
    user ids (`uid_map`); a training set saved beside it is named too. Item counts are the sums of squared values of
    `U`: where the values are halves (stars), λ and counts are given for values twice as large.
    """

    layout: str = "one <timestamp>.pkl of cornac.models.EASE, as save() writes it (cornac 3.0)"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the class named at the start of the pickle."""
        start = starts_with(files[0], 512) if len(files) == 1 else b""
        return start[:1] == b"\x80" and b"cornac.models.ease" in start

    def read(self, files: tuple[Path, ...]) -> ForeignLinear:
        """The model in the file."""
        path = only(files, self.layout)
        with opened(path, "a Cornac pickle") as (stream, size):
            value = read_pickle(stream, size, allowed=Allowed(packages=("cornac",)), builders=BUILDERS, hint=_EXPORT)
            own = _ease(value)
            weights, lam = array_of(own.get("B")), number_of(own.get("lamb"))
            count = 0 if weights is None or not weights.ndim else len(weights)
            items = _items(own.get("iid_map"), count)
            counts, times = squares(own.get("U"), count)
        if lam is not None:
            lam = lam * times * times
        beside = path.with_name(path.name + ".trainset")
        return linear(
            "cornac EASE pickle",
            weights=weights,
            regularisation=lam,
            items=items,
            item_counts=counts,
            residues=(*_residues(own), *([beside.name] if beside.exists() else [])),
            notes=(_CUT,) if own.get("posB") is not False else (),
            values_times=times,
        )


def _ease(value: object) -> dict[object, object]:
    if isinstance(value, Record) and value.made_by.name == "EASE" and value.made_by.module.startswith("cornac."):
        return value.attributes()
    got = str(value.made_by) if isinstance(value, Record) else type(value).__name__
    raise DataError("not a pickle of cornac's EASE", expected="cornac.models.ease", got=got[:100], code=CODE)


def _items(numbers: object, count: int) -> list[str] | None:
    """Item ids in the order of the columns; ids of items only tested on have higher numbers."""
    if not isinstance(numbers, dict):
        return None
    ids = {number: str(name) for name, number in numbers.items() if isinstance(number, int) and 0 <= number < count}
    if sorted(ids) != list(range(count)):
        raise ValueError(f"iid_map does not number {count} items")
    return [ids[number] for number in range(count)]


def _residues(own: dict[object, object]) -> list[str]:
    named = ("U", "uid_map", "_Recommender__user_ids", "train_set", "val_set", "test_set")
    return [name for name in named if isinstance(own.get(name), Sparse | Record) or _filled(own.get(name))]


def _filled(value: object) -> bool:
    return isinstance(value, dict | list | tuple) and len(value) > 0
