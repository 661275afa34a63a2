"""What a signal about users asks of a recommender's family; here because core.protocols is full."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class AnswersHistories(Protocol):
    """The family answers any history over its items: it is folded in, and nobody has a row in the weights."""

    items: int

    def outputs(self, model: Any, rows: Any) -> Any:
        """Scores (B, I), higher = sooner recommended, for histories as a sparse matrix (B, I)."""
