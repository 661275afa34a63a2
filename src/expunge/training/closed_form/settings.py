"""The settings of a family with a formula: texts in a recipe, refused with a typed error unless they are in bounds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from expunge.core.errors import InputError

_DIGITS = 30
"""Exponents beyond it are refused unread: 1e999999999 would take the machine's memory as a whole number."""


def chosen(family: str, defaults: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """The defaults with what the recipe says instead."""
    unknown = set(given) - set(defaults)
    if unknown:
        expected, got = ", ".join(defaults), ", ".join(sorted(unknown))
        raise InputError(f"unknown settings of family {family}", expected=expected or "none", got=got)
    return {**defaults, **{name: str(value) for name, value in given.items()}}


def one_of(settings: Mapping[str, str], name: str, *allowed: str) -> str:
    """A word."""
    if settings[name] not in allowed:
        raise InputError(f"unknown {name}", expected=" or ".join(allowed), got=settings[name][:40])
    return settings[name]


def number(settings: Mapping[str, str], name: str, low: float, high: float, *, above: bool = False) -> Fraction:
    """A decimal number from `low` to `high`, exactly as it is written; `above` leaves out `low` itself."""
    text = settings[name]
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise InputError(f"{name} is no number", got=text[:40]) from error
    known = value.is_finite() and abs(value.adjusted()) <= _DIGITS and len(text) <= 2 * _DIGITS
    if not known or not low <= value <= high or (above and value == low):
        raise InputError(
            f"{name} is out of range", expected=f"{'above ' if above else ''}{low:g} to {high:g}", got=text[:40]
        )
    return Fraction(value)


def whole(settings: Mapping[str, str], name: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`."""
    value = number(settings, name, low, high)
    if value.denominator != 1:
        raise InputError(f"{name} is no whole number", got=settings[name][:40])
    return int(value)
