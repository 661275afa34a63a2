"""Facts of a request that the log has: they are taken from there, and nobody types in others beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from expunge.core.errors import InputProblems
from expunge.workflow.rights.copying import copies_of
from expunge.workflow.rights.facts import Facts
from expunge.workflow.rights.probed import learned_at_appeal
from expunge.workflow.rights.searching import works_of

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


def with_logged(workspace: Workspace, handle: str, facts: Facts) -> Facts:
    """The facts with what searches of this request found, what the model in service gave back, and that it drew the style at an
    appeal. Raises InputProblems where
    somebody typed in what the log has, or the number of an entry."""
    at_appeal = learned_at_appeal(workspace, handle)
    works, (answers, copies) = works_of(workspace, handle), copies_of(workspace, handle)
    problems = [
        f"{name}: entry {said.entry} was typed in; the log says which entry it is"
        for name, said in (("works", facts.works), ("copies", facts.copies))
        if said is not None and said.entry is not None
    ]
    if facts.works is not None and works is not None:
        problems.append(f"works: entry {works.entry} of the log has them; leave them out of the facts")
    if facts.copies is not None and answers:
        problems.append(
            f"copies: entry {answers[-1].index} of the log has what came of it; leave them out of the facts"
        )
    if at_appeal is not None and facts.learned is not None:
        problems.append(f"learned: entry {at_appeal[0]} of the log shows that it was; leave it out of the facts")
    if problems:
        raise InputProblems("the facts", problems, code="facts")
    learned = facts.learned if at_appeal is None else at_appeal[1]
    return replace(facts, works=works or facts.works, copies=copies or facts.copies, learned=learned)
