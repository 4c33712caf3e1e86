"""Fields of options: what values are allowed, and one-line errors for those that are not.

The sections of the config are dataclasses of such fields. A field's default gives its type.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import reprlib
from collections.abc import Collection
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What is allowed of a field besides its type.

    Attributes:
      choices: the allowed values, looked up anew at each check; None for any.
      least, most: the smallest and the largest value.
      above, below: what the value must be greater and smaller than.
      may_change: whether a run may be resumed with another value: it does not change what is computed,
        beyond rounding.
      items: of a tuple's values: `str` or `float`; the bounds are theirs.
    """

    choices: Collection[Any] | None = None
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    may_change: bool = False
    items: type = str

    def text(self) -> str:
        """The rule in words; empty if it allows everything."""
        if self.choices is not None:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.least > -math.inf and self.most < math.inf:
            return f"from {_number(self.least)} to {_number(self.most)}"
        if self.least > -math.inf and self.below < math.inf:
            return f"at least {self.least:g} and below {_number(self.below)}"
        bounds = [
            f"{name} {_number(value)}"
            for name, value in (
                ("at least", self.least),
                ("at most", self.most),
                ("above", self.above),
                ("below", self.below),
            )
            if abs(value) < math.inf
        ]
        return " and ".join(bounds)

    def allows(self, value: Any) -> bool:
        """Whether a value of the right type is allowed."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, str):
            return True
        if isinstance(value, tuple):
            return all(map(self.allows, value))
        # Not math.isfinite: whole numbers may be larger than any float.
        finite = -math.inf < value < math.inf
        return finite and self.least <= value <= self.most and self.above < value < self.below


def option(
    default: Any,
    *,
    choices: Collection[Any] | None = None,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    may_change: bool = False,
    items: type = str,
) -> Any:
    """A dataclass field with a `Rule`, whose arguments these are."""
    rule = Rule(choices, least, most, above, below, may_change, items)
    return dataclasses.field(default=default, metadata={"rule": rule})


def rule_of(field: dataclasses.Field[Any]) -> Rule:
    """The rule of a field; the one that allows everything if it was given none."""
    return field.metadata.get("rule", Rule())


def checked(value: Any, field: dataclasses.Field[Any], path: str) -> Any:
    """`value` in the field's type: a whole number becomes a float where the field is one, a list a tuple.

    Args:
      value: from a config file, the command line, or JSON.
      field: of an options dataclass; its default's type is the field's.
      path: the field's name for messages, `data.gain_db`.

    Raises:
      ValueError: if the type or the value is not allowed; the message names the field, what is allowed and
        the value.
    """
    rule, kind = rule_of(field), type(field.default)
    converted, words = value, {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
    if kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):  # larger than any float
            converted = float(value)
    elif kind is tuple:
        words[kind] = "numbers, as (0.9, 1.1)" if rule.items is float else "names, as ('A', 'B')"
        allowed_types = (float, int) if rule.items is float else (str,)
        right = isinstance(value, list | tuple) and all(type(item) in allowed_types for item in value)
        converted = None
        if right:
            with contextlib.suppress(OverflowError):  # larger than any float
                converted = tuple(map(rule.items, value))
    if type(converted) is not kind or not rule.allows(converted):
        allowed = (
            rule.text() if rule.choices is not None else ", ".join(filter(None, (words[kind], rule.text())))
        )
        raise ValueError(f"{path} must be {allowed}, not {shown(value)}")
    return converted


def check_fields(options: Any, prefix: str = "") -> None:
    """Raise ValueError unless the fields of an options dataclass, sections aside, hold what they may."""
    for field in dataclasses.fields(options):
        if not is_section(field):
            checked(getattr(options, field.name), field, prefix + field.name)


def shown(value: Any) -> str:
    """A value as an error shows it: as Python writes it, but in one line of some length."""
    short = reprlib.Repr()
    short.maxlevel, short.maxlong = 3, 500
    short.maxstring = short.maxother = 200
    short.maxlist = short.maxtuple = short.maxdict = 20
    text = short.repr(value)
    return text if len(text) <= 1000 else f"{text[:1000]}..."


def is_section(field: dataclasses.Field[Any]) -> bool:
    """Whether a field holds options of its own."""
    return field.default is dataclasses.MISSING


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:g}"
