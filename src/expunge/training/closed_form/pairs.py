"""Recommenders that add up top lists of the items a user had, all from C = X'X: how many users had both."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.training.checkpoint import load_tensors, weights_identity
from expunge.training.closed_form.compared import Compared, differing
from expunge.training.closed_form.counts import CountModel, CountRecommender, Sum, Sums, histories_of, require_binary
from expunge.training.closed_form.gram import Rows, add_rows
from expunge.training.closed_form.recommender import MODEL
from expunge.training.closed_form.toplists import LISTS, Floats, TopLists, read_lists, save_lists


@dataclass(frozen=True, slots=True, kw_only=True)
class PairModel(CountModel):
    """Counts, and top lists that follow them."""

    lists: TopLists


class PairRecommender(CountRecommender):
    """Base: C is the truth, top lists are a cache. A family sets `size` and `support` of the lists and `value`.

    Scores: s_j = sum over the items i of the history whose list holds j of j's value there, i ascending.
    """

    sums: Mapping[str, Sum] = {"pairs": Sum(dtype=np.int32, axes=2)}
    size: int
    support: int = 1

    @abstractmethod
    def value(self, both: Floats, one: Floats, other: Floats) -> Floats:
        """Of j in i's list, from C_ij, C_ii and C_jj: above 0, IEEE operations on whole numbers only."""

    def add(self, sums: Sums, rows: Rows, sign: int) -> None:
        """C and its diagonal, which are the items' own counts."""
        add_rows(sums["pairs"], require_binary(rows), sign)

    def lists(self, sums: Sums) -> TopLists:
        """Lists over the counts, none of them ranked yet."""
        return TopLists(sums["pairs"], self.value, self.size, self.support)

    def derived(self, rows: Rows, sums: Sums) -> TopLists:
        """All lists, ranked."""
        lists = self.lists(sums)
        lists.settle()
        return lists

    def model_of(self, sums: Sums, derived: TopLists) -> PairModel:
        """Counts and lists."""
        return PairModel(sums=sums, lists=derived)

    def compared(self, model: PairModel, rows: Rows, sums: Sums, generator: np.random.Generator) -> Compared:
        """Every count, and every entry of the lists against lists ranked anew."""
        found = super().compared(model, rows, sums, generator)
        anew = self.derived(rows, sums)
        model.lists.settle()
        off = differing(model.lists.columns, anew.columns) + differing(model.lists.values, anew.values)
        return replace(found, derived=float(off))

    def unused(self, folder: Path) -> int:
        """The lists: of this model, and nothing beside them."""
        file = folder / LISTS
        if not file.exists():
            return 0
        tensors, labels = load_tensors(file)
        mine = labels.get("model") == weights_identity(folder / MODEL)
        return int(not mine or set(tensors) != {"columns", "values"} or set(labels) != {"model"})

    def erase(self, model: PairModel, before: Rows, after: Rows) -> None:
        """Replace rows in place (see the base); lists that can have changed are ranked again when they are needed."""
        super().erase(model, before, after)
        model.lists.spoil(np.unique((before != after).indices))

    def settled(self, model: PairModel) -> TopLists:
        """The model's lists, all ranked."""
        model.lists.settle()
        return model.lists

    def save(self, folder: Path, sums: Sums, derived: TopLists) -> str:
        """The counts, then the lists beside them."""
        digest = super().save(folder, sums, derived)
        save_lists(folder, derived, digest)
        return digest

    def load(self, path: Path) -> PairModel:
        """The model in a file; lists come from the cache beside it, or are ranked when they are needed."""
        sums = super().load(path).sums
        return PairModel(sums=sums, lists=read_lists(path.parent, weights_identity(path), self.lists(sums)))

    def outputs(self, model: PairModel, rows: Rows) -> NDArray[np.float64]:
        """Scores (B, I) of every item for each history; what the history holds is not masked."""
        found = np.zeros(rows.shape)
        for number, items in histories_of(rows, self.items):
            for item in items.tolist():
                columns, values = model.lists.row(item)
                found[number, columns] += values
        return found

    def derived_state(self) -> tuple[str, ...]:
        """What else of a run derives from its users."""
        return (f"{LISTS} (the items' top lists, a cache)",)
