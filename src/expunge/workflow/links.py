"""Who else is the person of a request: links between records, and the search for one user under two ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.codec import decimal
from expunge.core.protocols import Linkage
from expunge.data._interactions import TELLING, Histories
from expunge.evidence.commitment import keyed

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

ALIKE = 0.6  # items that two histories share, of all items in either (Jaccard)
TWINS, KEPT = 60, 0.85  # planted second accounts, and the share of the first one's items that they have
SAMPLE = 100  # users whose links to others measure how often two people are alike by chance


@dataclass(frozen=True, kw_only=True)
class Links:
    """Found for one request, as slots and rows: other records of it, retained records outside it, and test records."""

    inside: tuple[int, ...]
    outside: tuple[int, ...]
    test: tuple[int, ...]
    recall: tuple[int, int]
    thresholds: Mapping[str, str]

    @property
    def counted(self) -> Linkage:
        """What may be published."""
        return Linkage(
            inside=len(self.inside),
            outside=len(self.outside),
            test=len(self.test),
            recall=self.recall,
            thresholds=self.thresholds,
        )


def search_users(workspace: Workspace, resolution: Resolution) -> Links | None:
    """Users whose histories are much the same as those of the request. None where none of these is long enough to tell.

    Two users are linked when they share at least `TELLING` items and `ALIKE` of the items of either. The recall is
    measured on planted second accounts, with `KEPT` of the items and as many of other people's as went.
    """
    train, test = workspace.data.train, workspace.data.test
    slots = [slot for slot in resolution.slots if len(train.row(slot)[0]) >= TELLING]
    if not slots:
        return None
    mine, split = set(resolution.slots), len(train)
    everybody = sparse.vstack([train.matrix(), test.matrix()]).tocsr()
    others = {int(row) for slot in slots for row in _alike(everybody, everybody[[slot]]) if row != slot}
    seed = keyed(workspace.secret("linkage"), resolution.commitment.encode())
    generator = np.random.Generator(np.random.Philox(int.from_bytes(seed[:8], "big")))
    return Links(
        inside=tuple(sorted(others & mine)),
        outside=tuple(sorted(row for row in others - mine if row < split)),
        test=tuple(sorted(row - split for row in others if row >= split)),
        recall=_recall(everybody, slots, generator),
        thresholds=_thresholds(train, everybody, mine, generator),
    )


def _alike(rows: Any, one: Any) -> NDArray[np.int64]:
    """Numbers of the rows that are much the same as `one` (1, I)."""
    shared = np.asarray((rows @ one.T).todense()).ravel()
    either = np.diff(rows.indptr) + one.nnz - shared
    return np.flatnonzero((shared >= TELLING) & (shared >= ALIKE * either))


def _recall(rows: Any, slots: list[int], generator: np.random.Generator) -> tuple[int, int]:
    """(found, planted) second accounts of users of the request."""
    found = 0
    for k in range(TWINS):
        one = rows[[slots[k % len(slots)]]]
        kept = generator.choice(one.indices, round(KEPT * one.nnz), replace=False)
        other = generator.choice(rows.shape[1], one.nnz - len(kept), replace=False)
        columns = np.union1d(kept, other)
        twin = sparse.csr_matrix((np.ones(len(columns), np.int64), columns, [0, len(columns)]), shape=one.shape)
        found += len(_alike(twin, one))
    return found, TWINS


def _thresholds(train: Histories, rows: Any, mine: set[int], generator: np.random.Generator) -> dict[str, str]:
    """What was asked for, and the share of a sample of other users that is linked with anybody."""
    long = [slot for slot in np.flatnonzero(np.diff(train.indptr) >= TELLING).tolist() if slot not in mine]
    drawn: list[int] = generator.permutation(long)[:SAMPLE].tolist()
    linked = sum(len(_alike(rows, rows[[slot]])) > 1 for slot in drawn)
    rate = linked / len(drawn) if drawn else 0.0
    numbers = {"shared_items": float(TELLING), "jaccard": ALIKE, "false_links": rate}
    return {name: decimal(float(f"{value:.4g}")) for name, value in numbers.items()}
