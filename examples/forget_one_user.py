"""A recommender forgets one user, exactly: delete, and show that nothing of the user's history is left in the model.

    python examples/forget_one_user.py                                  # synthetic users
    python examples/forget_one_user.py --data ml-latest-small --user user/42

This is the algebra without the case around it: no log, no certificate. Every line of the table is a check with its
control, the same question asked of the model that was left as it is.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse

from expunge.core import registry
from expunge.stats.ranking import ItemLists, overlap
from expunge.stats.ranking_quality import RankingTally
from expunge.stats.ranking_splits import fold_in
from expunge.training.closed_form.erase import erase_rows
from expunge.training.closed_form.gram import gram_of, same_gram
from expunge.training.closed_form.inverse import dual_inverse
from expunge.training.closed_form.model import LinearModel, left_out_residuals
from expunge.training.closed_form.readout import refutes

LAM = 200.0


def opened(path: str | None):
    """150 test users apart; films that fewer than ten training users rated are left out."""
    if path is None:
        return registry.load("data", "powerlaw")(users=600, items=800, test_users=150).open()
    return registry.load("data", "movielens")(path=path, test_users=150, min_item_events=10).open()


def trained(rows) -> LinearModel:
    return LinearModel(gram=gram_of(rows), inverse=dual_inverse(rows, LAM), lam=LAM)


def judged(model: LinearModel, test) -> RankingTally:
    """NDCG on the fifth of each test user's history that the model is not shown."""
    held = fold_in(test.ids, test.indptr, test.indices, key="example")
    seen, out = test.keep(~held), test.keep(held)
    lists = [ItemLists.of(part.indptr, part.indices, len(test.items)) for part in (seen, out)]
    found = RankingTally(*lists, (20, 100))
    found.add(np.arange(len(test)), model.scores(seen.matrix()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="folder of an unpacked MovieLens archive")
    parser.add_argument("--user", help="id of the user; by default one of median activity")
    options = parser.parse_args()
    data, console = opened(options.data), Console()
    train, lengths = data.train, np.diff(data.train.indptr)
    slot = train.slots([options.user])[0] if options.user else int(np.argsort(lengths)[len(lengths) // 2])
    console.print(f"{data.note}: {len(train)} users, {len(train.items)} items; forgetting {train.ids[slot]}")

    before = trained(train.matrix())
    row = train.matrix()[[slot]]
    gram, inverse = before.gram.copy(), before.inverse.copy()
    started = time.perf_counter()
    done = erase_rows(gram, inverse, row, sparse.csr_matrix(row.shape, dtype=row.dtype), LAM)
    seconds = time.perf_counter() - started
    after = LinearModel(gram=gram, inverse=inverse, lam=LAM)
    retained = train.without([slot]).matrix()
    again = trained(retained)

    columns, ones = train.row(slot)[0], np.ones(lengths[slot])
    expected, leverage = left_out_residuals(before, columns, ones)
    table = Table("check", "forgotten", "left as it was")

    def line(name: str, ask) -> None:
        table.add_row(name, *(str(ask(model)) for model in (after, before)))

    line(
        "Gram equals that of the retained users",
        lambda model: same_gram(model.gram, retained, np.random.Generator(np.random.Philox(0))),
    )
    line("largest weight difference to a retraining", lambda m: f"{np.abs(m.weights() - again.weights()).max():.1e}")
    line("full history ruled out by the counts, through", lambda model: refutes(model.gram, columns).by)
    line(
        "own items' residuals to leave-one-out", lambda m: f"{np.abs(m.residuals(columns, ones) - expected).max():.1e}"
    )
    lists = judged(again, data.test).lists(20)
    line(
        "top-20 lists shared with a retraining", lambda m: f"{shared(judged(m, data.test).lists(20), lists, train):.1%}"
    )
    line("NDCG@100 on test users", lambda model: f"{judged(model, data.test).ndcg(100).mean:.4f}")
    console.print(table)
    console.print(
        f"{seconds:.3f} s, residual of the inverse {done.residual:.1e}, leverage {leverage:.3f}; "
        f"NDCG@100 of a retraining {judged(again, data.test).ndcg(100).mean:.4f}"
    )


def shared(mine, theirs, train) -> float:
    return overlap(mine, theirs, len(train.items)).mean_shared


if __name__ == "__main__":
    main()
