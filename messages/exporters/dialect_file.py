"""A dialect as the text of a dialect file: `Dialect` in, TOML out, which `messages.dialect_reader` reads again.

Called by `cardswitch spec import`, so that a foreign specification can become a dialect file of your own, with rules
added.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from messages.composites.spec import Composite
from messages.dialect import Condition, Dialect, Element, MessageRule
from messages.dictionary import iso1987, iso1993, iso2003

_NAMES: dict[str, Mapping[int, str]] = {
    "1987": iso1987.ELEMENT_NAMES,
    "1993": iso1993.ELEMENT_NAMES,
    "2003": iso2003.ELEMENT_NAMES,
}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# key of [encoding] → what most elements of that kind have, if there are none
_DEFAULTS = {"length": "ascii", "n": "ascii", "z": "ascii", "text": "ascii", "x+n": "ascii", "b": "binary"}
_FAMILIES = ("n", "z", "x+n", "b")
_TAG_FORMAT = ("b", "binary", 3, 255, "ascii")  # the reader's value for a tag that only has a name
_OPTIONS = {
    "positional": ("rows",),
    "ber-tlv": (),
    "tag-text": ("tag_size", "tag_encoding", "length_size", "length_encoding"),
    "bitmapped": ("bitmap_size", "bitmap_encoding"),
}
_Table = dict[str, Any]


def text_of(dialect: Dialect, comment: str = "") -> str:
    """The file of a dialect.

    Args:
        dialect: any that a file can say.
        comment: the first lines, without #.
    """
    encoding = _encoding(dialect)
    lines = [f"# {_clean(line)}".rstrip() for line in comment.splitlines()]
    lines += [f"{key} = {_value(value)}" for key, value in _head(dialect).items()]
    lines += ["", "[encoding]"] + [f"{_key(key)} = {_value(value)}" for key, value in encoding.items()]
    lines += ["", "[elements]"]
    later = []
    for number, element in dialect.elements.items():
        table = _element(element, encoding, _NAMES[dialect.version].get(number, ""))
        if element.parts is None:
            lines.append(f"{number} = {_value(table)}")
        else:
            later += ["", *_section(f"elements.{number}", table)]
    lines += later
    for mti, rule in dialect.rules.items():
        lines += ["", *_section(f"rules.{mti}", _rule(rule))]
    return "\n".join(lines) + "\n"


def _head(dialect: Dialect) -> _Table:
    table: _Table = {"name": dialect.name, "version": dialect.version}
    if dialect.secondary != "announced":
        table["secondary"] = dialect.secondary
    if dialect.tertiary:
        table["tertiary"] = dialect.tertiary
    if dialect.identification != "transmission":
        table["identification"] = dialect.identification
    if not dialect.keepalive:
        table["keepalive"] = False
    return table


def _family(kind: str) -> str:
    return kind if kind in _FAMILIES else "text"


def _encoding(dialect: Dialect) -> dict[str, str]:
    """The encodings of most elements, so that the others name their own."""
    elements = dialect.elements.values()
    chosen = {"mti": dialect.mti_encoding, "bitmap": dialect.bitmap_encoding}
    lengths = Counter(element.length_encoding for element in elements if element.length_kind)
    chosen["length"] = _most(lengths, _DEFAULTS["length"])
    for family in ("n", "z", "text", "x+n", "b"):
        counts = Counter(element.encoding for element in elements if _family(element.kind) == family)
        chosen[family] = _most(counts, _DEFAULTS[family])
    return chosen


def _most(counts: Counter[str], default: str) -> str:
    return counts.most_common(1)[0][0] if counts else default


def _element(element: Element, encoding: Mapping[str, str], name: str = "") -> _Table:
    table: _Table = {"format": element.format}
    if element.name != name:
        table["name"] = element.name
    if element.encoding != encoding[_family(element.kind)]:
        table["encoding"] = element.encoding
    if element.length_kind:
        if element.length_encoding != encoding["length"]:
            table["length"] = element.length_encoding
        if element.length_size:
            table["length_size"] = element.length_size
        if element.length_count:
            table["length_count"] = element.length_count
    for key in ("pad", "fill"):
        if getattr(element, key):
            table[key] = getattr(element, key)
    if element.parts is not None:
        table["parts"] = _parts(element.parts, encoding)
    return table


def _parts(composite: Composite, encoding: Mapping[str, str]) -> _Table:
    table: _Table = {"kind": composite.kind}
    for option in _OPTIONS[composite.kind]:
        value = getattr(composite, option)
        if value is not False:
            table[option] = value
    for key, part in composite.parts.items():
        shape = (part.kind, part.encoding, part.length_kind, part.max_length, part.length_encoding)
        named = composite.kind == "ber-tlv" and shape == _TAG_FORMAT
        table[key] = {"name": part.name} if named else _element(part, encoding)
    return table


def _rule(rule: MessageRule) -> _Table:
    table: _Table = {}
    for key in ("mandatory", "echo"):
        if getattr(rule, key):
            table[key] = list(getattr(rule, key))
    if rule.conditional:
        table["conditional"] = [_condition(condition) for condition in rule.conditional]
    return table


def _condition(condition: Condition) -> _Table:
    table: _Table = {"element": condition.element}
    if condition.when is not None:
        table["when"] = condition.when
    for key in ("starts", "unless"):
        if getattr(condition, key):
            table[key] = list(getattr(condition, key))
    return table


def _section(name: str, table: _Table) -> list[str]:
    """A table under a heading of its own, its parts under another."""
    lines = [f"[{name}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if key != "parts"]
    if "parts" in table:
        lines += _section(f"{name}.parts", table["parts"])
    return lines


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {_joined(f'{_key(key)} = {_value(inner)}' for key, inner in value.items())} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{_joined(_value(inner) for inner in value)}]"
    return json.dumps(_clean(value) if isinstance(value, str) else value, ensure_ascii=False)


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
