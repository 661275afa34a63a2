"""Batches of users beside the graph of everybody whom the epoch reads: what a graph model is trained on, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from expunge.training.batches import Batch
from expunge.training.user_batches import PairReader, Slots

Graph = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class GraphReader(PairReader):
    """Pairs, and the graph. `slots` (N,) ascending are the job's present users, `introduced` (N,) the epoch in which each
    is first used.

    Nobody is in the graph of an epoch before their own: a checkpoint from then has not read them. From their epoch on
    every step does, whoever is in its batch; the epoch's receipt names them all.
    """

    slots: Slots
    introduced: Slots
    _kept: dict[int, Graph] = field(default_factory=dict, repr=False)

    def batch(self, slots: Slots, epoch: int, moment: float) -> Batch:
        """Inputs: rows (B, I), items had and not had (B, n), and the epoch's graph. Wanted: weight (B, n) of each pair."""
        pairs = super().batch(slots, epoch, moment)
        return Batch(inputs=(*pairs.inputs, *self.graph(epoch)), wanted=pairs.wanted)

    def graph(self, epoch: int) -> Graph:
        """R (U, I), sparse: 1 / sqrt(|N_u| |N_i|) for each event of the users in use; and 1 / sqrt(|N_i|) (I, 1), 0 for
        items that none of them had. Users are checked against their leaves when they enter."""
        users = self.speaking(self.slots[self.introduced <= epoch])
        if len(users) not in self._kept:  # slices only ever add users, so their number says who they are
            self._kept.clear()
            self._kept[len(users)] = self._built(users)
        return self._kept[len(users)]

    def _built(self, users: Slots) -> Graph:
        rows, columns = self.events(users)
        sizes = np.bincount(rows, minlength=len(users)), np.bincount(columns, minlength=len(self.histories.items))
        user, item = (np.where(size > 0, size, np.inf) ** -0.5 for size in sizes)
        weights = torch.from_numpy((user[rows] * item[columns]).astype(np.float32))
        places = torch.from_numpy(np.stack([rows, columns]))
        shape = (len(users), len(item))
        graph = torch.sparse_coo_tensor(places, weights, shape, is_coalesced=True, check_invariants=True)
        return graph, torch.from_numpy(item.astype(np.float32))[:, None]
