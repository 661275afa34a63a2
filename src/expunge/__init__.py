"""expunge erases data from trained models and proves what was and was not achieved.

Importing this package is cheap: the Python API is loaded on first use, so that `expunge verify` runs
where neither numpy nor torch is installed.

    from expunge import Workspace
    ws = Workspace.open("work")
    case = ws.request(ids=["train/automobile/0007"])
    outcome = ws.run(case)
    outcome.verdict, outcome.guarantee, outcome.certificate.path
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["EventSelector", "Workspace", "__version__"]

if TYPE_CHECKING:
    from expunge.core.request import EventSelector
    from expunge.workflow.workspace import Workspace


def __getattr__(name: str) -> Any:
    if name == "Workspace":
        from expunge.workflow.workspace import Workspace

        return Workspace
    if name == "EventSelector":
        from expunge.core.request import EventSelector

        return EventSelector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
