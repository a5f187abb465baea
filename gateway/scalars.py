"""Texts of a form as the integers and booleans that a shape asks for, and nothing that only looks like one.

`gateway.parameters.convert` calls `typed`, then has msgspec check the result strictly. An integer is `-?[0-9]+` in a
form and an integer in JSON, never 10.00, 1e3, +5, 1_000, 10.0 or digits of another script: an amount that is read too
kindly is a payment of a hundredth. A boolean is true or false.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)  # all fit in 64 bits
_BOOLEANS = {"true": True, "false": False}
_SHOWN = re.compile(r"[-+0-9.,eE_]{1,11}")  # too short for a card number


class ScalarError(Exception):
    """A value is not of its type.

    Args:
        path: where it is, outermost name first. message: shows the value where it is too short to be card data.
        code: Stripe's; None where it has none.
    """

    def __init__(self, path: tuple[str, ...], message: str, code: str | None) -> None:
        super().__init__(message)
        self.path, self.message, self.code = path, message, code


def typed(value: Any, shape: type[msgspec.Struct]) -> Any:
    """`value` with its texts turned into what `shape` asks for there; a value that fits no type is left for msgspec to
    refuse.

    Raises:
        ScalarError: a text, float or empty value where there must be an integer, or a text that is no boolean.
    """
    return _convert(value, _type_of(shape), ())


@cache
def _type_of(shape: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(shape)


def _convert(value: Any, kind: inspect.Type, path: tuple[str, ...]) -> Any:
    if isinstance(kind, inspect.Metadata):
        return _convert(value, kind.type, path)
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    if isinstance(value, dict):
        return _members(value, kinds, path)
    if isinstance(value, list):
        item = next((each.item_type for each in kinds if isinstance(each, inspect.ListType)), None)
        if item is None:
            return value
        return [_convert(each, item, (*path, str(number))) for number, each in enumerate(value)]
    if any(isinstance(each, inspect.StrType | inspect.AnyType | inspect.LiteralType) for each in kinds):
        return value
    if any(isinstance(each, inspect.IntType) for each in kinds):
        return _integer(value, path)
    if isinstance(value, str) and value and any(isinstance(each, inspect.BoolType) for each in kinds):
        if value not in _BOOLEANS:
            raise ScalarError(path, "Invalid boolean", None)
        return _BOOLEANS[value]
    return value


def _members(value: dict[str, Any], kinds: tuple[inspect.Type, ...], path: tuple[str, ...]) -> dict[str, Any]:
    struct = next((each for each in kinds if isinstance(each, inspect.StructType)), None)
    if struct is None:
        return value
    types = {field.encode_name: field.type for field in struct.fields}
    return {name: _convert(item, types[name], (*path, name)) if name in types else item for name, item in value.items()}


def _integer(value: Any, path: tuple[str, ...]) -> Any:
    if value == "" and isinstance(value, str):
        raise ScalarError(path, "You passed an empty string where there must be an integer", "parameter_invalid_empty")
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value) if isinstance(value, float) else ""
    shown = f": {text}" if _SHOWN.fullmatch(text) else ""
    raise ScalarError(path, f"Invalid integer{shown}", "parameter_invalid_integer")
