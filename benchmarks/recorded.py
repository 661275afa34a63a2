"""A benchmark's result file, written part by part: two runs of one script do not overwrite each other's parts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hardware import hardware


def record_parts(
    file: Path, command: str, parts: Mapping[str, Callable[[], Mapping[str, Any]]], only: str | None
) -> None:
    """Run the parts (all, or one by name), and put each with its hardware into the file as soon as it is there."""
    for name, part in parts.items():
        if only in (None, name):
            measured = {**part(), "hardware": hardware()}
            record = json.loads(file.read_text()) if file.exists() else {}
            record |= {"command": command, name: measured}
            fresh = file.with_suffix(f".{os.getpid()}.tmp")
            fresh.write_text(json.dumps(record, indent=2) + "\n")
            fresh.replace(file)
