"""The tokenizer of a directory: as `tokenizer.json`, or as the vocabulary and merges that Stable Diffusion 1.x has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.core.errors import IntegrityError
from expunge.training.text_to_image.directory import INDEX, settings_in
from expunge.training.text_to_image.libraries import library

WHOLE, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
_CLIP = ("CLIPTokenizer", "CLIPTokenizerFast")
_LARGEST_MERGES = 64 << 20


def tokenizer_of(model: Path, part: str = "tokenizer") -> Any:
    """A tokenizer of a model directory, by its files alone: nothing is fetched, and no code of the directory is run.

    Byte-pair encoding of vocab.json and merges.txt is CLIP's (end of word `</w>`, lower case), so it is read only where the
    index names CLIP's class. Raises IntegrityError on a vocabulary that is missing, damaged or of another class: the library
    would stand in with one of three tokens, which knows nobody's name, and everybody would look erased. May raise what the
    library raises on settings that do not fit.
    """
    folder, local = model / part, {"local_files_only": True, "trust_remote_code": False}
    texts = library("transformers")
    if (folder / WHOLE).is_file():
        return texts.PreTrainedTokenizerFast.from_pretrained(folder, **local)
    kind = settings_in(model / INDEX)[part][1]
    there = [name for name in (VOCABULARY, MERGES) if (folder / name).is_file()]
    if kind not in _CLIP or len(there) < 2:
        expected = f"{WHOLE}, or {VOCABULARY} and {MERGES} of a CLIPTokenizer"
        raise IntegrityError("the tokenizer has no vocabulary", expected=expected, got=f"{kind}: {there or 'neither'}")
    numbers = _numbers(settings_in(folder / VOCABULARY))
    merges = _merges(folder / MERGES, numbers)
    made = texts.CLIPTokenizer.from_pretrained(folder, **local)
    _require_same(made, numbers, merges)
    return made


def _require_same(made: Any, numbers: Mapping[str, int], merges: list[list[str]]) -> None:
    """Settings can name another vocabulary, and the library would take it in the place of the files."""
    inside = json.loads(made.backend_tokenizer.to_str())["model"]
    special = {str(token) for token in (made.bos_token, made.eos_token, made.pad_token, made.unk_token)}
    if inside["vocab"] != numbers or [list(pair) for pair in inside["merges"]] != merges or special - numbers.keys():
        got = ", ".join(sorted(special - numbers.keys()))[:80] or "settings that name another vocabulary"
        raise IntegrityError("the tokenizer's settings are not of its vocabulary", got=got)


def _numbers(plain: Mapping[str, Any]) -> dict[str, int]:
    """token -> its row of the word vectors, each row once."""
    good = [number for number in plain.values() if isinstance(number, int) and not isinstance(number, bool)]
    if len(good) < len(plain) or not plain or min(good) < 0 or len(set(good)) < len(good):
        raise IntegrityError(
            f"{VOCABULARY} is no vocabulary", expected="a number of its own, 0 or more, for each token"
        )
    return dict(plain)


def _merges(file: Path, numbers: Mapping[str, int]) -> list[list[str]]:
    """Pairs of tokens in the order in which they are joined; what they are and become is in the vocabulary."""
    try:
        if file.stat().st_size > _LARGEST_MERGES:
            raise IntegrityError(f"{MERGES} is too large", expected=f"{_LARGEST_MERGES >> 20} MiB")
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{MERGES} is no text", got=str(error)[:120]) from error
    found = []
    for number, line in enumerate(lines):
        pair = line.rstrip("\r").split(" ")
        if not line.strip() or (number == 0 and line.startswith("#version")):
            continue
        if len(pair) != 2 or not {*pair, "".join(pair)} <= numbers.keys():
            raise IntegrityError(f"{MERGES}: line {number + 1} joins no two tokens of {VOCABULARY}", got=line[:80])
        found.append(pair)
    return found
