"""What a bank can say about a recommender's user: three arms, and the served file among its peers, or why it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core.protocols import Deployed, HasSufficientStatistics
from expunge.farm.asked import askable, record_answers
from expunge.farm.users import digest_of_test

if TYPE_CHECKING:
    from expunge.farm.bank import Bank
    from expunge.workflow.execute import Executed
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace


def refusal(workspace: Workspace, resolution: Resolution, bank: Bank | None) -> str | None:
    """Why a bank says nothing about these users; None where it does, or where there is none."""
    if isinstance(workspace.adapter, HasSufficientStatistics):
        return "family of sums: what the model answers without a user is known exactly, and `left_out` compares with it"
    if bank is None:
        return None
    if resolution.cut is not None:
        return "the request is for events, and its models saw or did not see whole users"
    if bank.spec.data.get("test") != digest_of_test(workspace.data):
        return "the test users' histories are not those that its models were asked about"
    slots = list(resolution.slots)
    refused = bank.refuses(slots)
    if refused is None and not np.diff(workspace.data.train.indptr)[slots].all():
        return "a user without events has no items that could be asked about"
    if refused is None and not bank.sketches().train[:, slots].any():
        return "the history was shortened since its models were trained"
    return refused


def deployed(
    workspace: Workspace, resolution: Resolution, executed: Executed, peers: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Deployed | None:
    """Candidate and original among full-size models that saw, and that never saw, the user; None without any."""
    if not peers:
        return None
    original = workspace.root / workspace.served().run / "model.safetensors"
    mine, before = (_answers(workspace, list(resolution.slots), file) for file in (executed.result.model, original))
    block, population = (
        {side: _table(models, key) for side, models in peers.items()} for key in ("block", "population")
    )
    return Deployed(
        candidate=mine[0],
        original=before[0],
        out_anchors=block["out"],
        in_anchors=block["in"],
        candidate_population=mine[1],
        original_population=before[1],
        out_population=population["out"],
        in_population=population["in"],
    )


def _table(models: Sequence[Mapping[str, Any]], key: str) -> Any:
    return np.array([[float(value) for value in answers[key]] for answers in models], np.float32)


def _answers(workspace: Workspace, block: list[int], file: Any) -> tuple[Any, Any]:
    """What one file says of the block (1, R) and of the test users (1, Z)."""
    adapter, data = workspace.adapter, workspace.data
    model = adapter.load(file)
    asked = (data.train, block), (data.test, askable(data))
    first, second = (record_answers(adapter, model, records, rows)[None] for records, rows in asked)
    return first, second
