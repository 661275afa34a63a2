"""diffusers, transformers and tokenizers: imported when they are needed, one error when they are missing, and silent."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from expunge.core.errors import MissingExtra


def library(name: str) -> Any:
    """The module `diffusers`, `transformers` or `tokenizers`; raises MissingExtra where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra("text-to-image models", "diffusion") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Neither progress bars nor advice on stderr, which belongs to the command's own progress; restored afterwards."""
    logs = [library("diffusers").utils.logging, library("transformers").utils.logging]
    levels = [log.get_verbosity() for log in logs]
    bars = [log.is_progress_bar_enabled() for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, level, bar in zip(logs, levels, bars, strict=True):
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()
