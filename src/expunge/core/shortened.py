"""Data of which some slots have lost events and not their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortened:
    """A data-floor Dataset in which some slots have lost events, and the leaves of all slots as they are then."""

    data: Any
    leaves: Any
