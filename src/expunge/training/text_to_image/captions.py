"""Captions as token numbers. The vocabulary was learned from captions without names, so it derives from no artist."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.training.text_to_image.libraries import library

VOCABULARY = Path(__file__).parent / "tokenizer.json"
LENGTH = 32
"""Tokens of a caption, with begin and end; shorter ones are filled with ends, as in CLIP."""
BEGIN, END = 0, 1
"""Numbers of the two special tokens."""


@cache
def tokenizer() -> Any:
    """The small model's tokenizer: byte pairs of lower-case words."""
    made = library("tokenizers").Tokenizer.from_file(str(VOCABULARY))
    made.enable_truncation(LENGTH)
    made.enable_padding(length=LENGTH, pad_id=END, pad_token="<|endoftext|>")  # noqa: S106 - a token of text
    return made


def tokens_of(captions: Sequence[str]) -> NDArray[np.int64]:
    """(N, LENGTH) token numbers; raises InputError on what is no text."""
    if not all(isinstance(text, str) for text in captions):
        raise InputError("captions are texts")
    rows = [encoding.ids for encoding in tokenizer().encode_batch(list(captions))]
    return np.array(rows, np.int64).reshape(len(captions), LENGTH)
