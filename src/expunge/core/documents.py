"""YAML from anybody as plain values: small, without aliases, tags, deep nesting or a key that comes twice.

`yaml.safe_load` runs no code, and still expands nine lines of aliases into billions of items as soon as somebody walks
them; so the events are looked at before anything is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import yaml

from expunge.core.codec import decimal, decode
from expunge.core.errors import InputError

LARGEST = 256 << 10
DEEPEST = 12
T = TypeVar("T")


def read_document(cls: type[T], text: str, *, what: str) -> T:
    """A noun of a policy from YAML. Unknown, missing and wrong fields are refused, all at once."""
    try:
        plain = strict_yaml(text, what=what)
    except InputError as error:
        error.code = "policy"
        raise
    if not isinstance(plain, dict) or not plain:
        raise InputError(f"{what} is empty", hint="absent means refused", code="policy")
    return decode(cls, plain_values(plain), what=what)


def strict_yaml(text: str, *, what: str) -> Any:
    """Plain values of a document. Raises InputError on one that is too large, or uses what only an attacker needs."""
    if len(text) > LARGEST:
        raise InputError(f"{what} is too large", expected=f"at most {LARGEST} characters")
    try:
        _look(text, what)
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{what} is not YAML", got=str(error)[:200]) from error


def _look(text: str, what: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"{what} uses anchors or aliases", hint="write it out")
        if getattr(event, "tag", None):
            raise InputError(f"{what} uses tags", expected="plain values")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{what} is nested too deeply", expected=f"at most {DEEPEST} levels")
    _no_twins(yaml.compose(text, Loader=yaml.SafeLoader), what)


def _no_twins(node: Any, what: str) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise InputError(f"{what} has a key twice", got=", ".join(twice)[:80])
        for _, value in node.value:
            _no_twins(value, what)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _no_twins(value, what)


def plain_values(value: Any) -> Any:
    """YAML's floats as the decimal strings the codec wants."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    return decimal(value) if isinstance(value, float) else value
