"""Plain data from a TOML file against frozen msgspec structs: every problem with its path, not only the first.

`problems()` walks a mapping beside the fields of a struct; `console.config` and others convert once the list
is empty.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

# Types in the texts of msgspec → their names in a TOML file.
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a decimal number in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_TYPES = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")


def problems(struct: type[msgspec.Struct], data: object, path: str = "") -> list[str]:
    """Everything that keeps `data` from being a `struct`, as lines "path: what is wrong"; [] if it fits.

    Unknown names count as problems for every struct.
    """
    if not isinstance(data, Mapping):
        return [f"{path or 'file'}: expected a table, found {_found(data)}"]
    found: list[str] = []
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in data:
        if name not in fields:
            close = _closest(str(name), fields)
            found.append(f"{_join(path, str(name))}: unknown setting" + (f" (is it {close!r}?)" if close else ""))
    for name, field in fields.items():
        if name in data:
            found += _field_problems(field.type, data[name], _join(path, name))
        elif field.required:
            found.append(f"{_join(path, name)}: missing")
    return found or _struct_problems(struct, data, path)


def fitting(struct: type[msgspec.Struct], data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` without settings that a `struct` lacks, or that have another type, in each table and entry of a list."""
    kept: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        name = field.encode_name
        if name not in data:
            continue
        value, inner, item = data[name], _struct_in(field.type), _item_of(field.type)
        entries = _struct_in(item) if item is not None else None
        if inner is not None and isinstance(value, Mapping):
            kept[name] = fitting(inner, value)
        elif entries is not None and isinstance(value, list):
            kept[name] = [fitting(entries, entry) for entry in value if isinstance(entry, Mapping)]
        elif not _field_problems(field.type, value, name):
            kept[name] = value
    return kept


def _struct_problems(struct: type[msgspec.Struct], data: object, path: str) -> list[str]:
    """Faults of the struct as a whole: its own `__post_init__`."""
    try:
        msgspec.convert(data, struct)
    except msgspec.ValidationError as error:
        return [f"{path or 'file'}: {_reason(error)}"]
    return []


def _field_problems(kind: Any, value: object, path: str) -> list[str]:
    struct = _struct_in(kind)
    if struct is not None and isinstance(value, Mapping):
        return problems(struct, value, path)
    item = _item_of(kind)
    if item is not None and isinstance(value, list):
        struct = _struct_in(item)
        found: list[str] = []
        for number, entry in enumerate(value):
            label = f"{path}[{_label(entry, number)}]"
            found += problems(struct, entry, label) if struct else _convert_problems(item, entry, label)
        return found or _convert_problems(kind, value, path)
    return _convert_problems(kind, value, path)


def _convert_problems(kind: Any, value: object, path: str) -> list[str]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return [f"{path}: {_reason(error, _values(kind))}"]
    return []


def _reason(error: msgspec.ValidationError, values: tuple[str, ...] = ()) -> str:
    """The reason in words of the file, and not of Python; with `values` the ones that may be chosen."""
    reason = str(error).split(" - at `$")[0]
    if reason.startswith("Invalid enum value") and values:
        return f"expected {' or '.join(values)}, found {reason.removeprefix('Invalid enum value ')}"
    if reason == "Invalid decimal string":
        return 'expected a decimal number in quotes, like "0.029"'
    words = _TYPES.sub(lambda match: _in_words(match[1]), reason)
    return words[:1].lower() + words[1:].replace(", got ", ", found ")


def _in_words(types_of: str) -> str:
    names = [name for name in types_of.split(" | ") if name != "null"]  # TOML has no null: the setting is left out
    return " or ".join(_WORDS.get(name, name) for name in names) or _WORDS["null"]


def _values(kind: Any) -> tuple[str, ...]:
    """The values of a setting that has a choice of them; () for any other one."""
    return tuple(str(value) for value in typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else ()


def _label(entry: object, number: int) -> str:
    """Entries of a list are named by their name where they have one: `issuer[alpha].deadline_s`."""
    if isinstance(entry, Mapping):
        for name in ("name", "id", "prefix"):
            if isinstance(entry.get(name), str):
                return str(entry[name])
    return str(number)


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    for option in _options(kind):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def _item_of(kind: Any) -> Any:
    for option in _options(kind):
        if typing.get_origin(option) in (list, tuple, set, frozenset):
            return typing.get_args(option)[0]
    return None


def _options(kind: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _options(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _found(value: object) -> str:
    names = {str: "str", int: "int", float: "float", bool: "bool", list: "array", type(None): "null"}
    name = names.get(type(value), type(value).__name__)
    return _WORDS.get(name, name)


def _closest(name: str, names: Mapping[str, object]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(names), n=1)
    return close[0] if close else ""
