"""A message as JSON and as a table, masked unless asked otherwise, and the way back from JSON; as it is on the wire.

Called by `decode`, `encode`, `send` and the demo. The parts of an element are shown where the dialect has parts for it
and the bytes can be made from them again; everything else stays the flat value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from console.errors import UsageError
from messages.errors import MessagesError

if TYPE_CHECKING:
    from rich.table import Table

    from messages.composites.nodes import Tree
    from messages.dialect import Dialect, Element
    from messages.message import Message

_SHAPE = 'give {"mti": "0100", "elements": {"2": "…"}}'
_STARS = 8
_LONGEST_PAN_TEST = 8  # digits from which on a card number is looked for in other values

_FIRST_DIGITS = {"1987": "0", "1993": "1", "2003": "2"}  # of the types of each version


class MessageJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message as JSON: the MTI and elements by number; binary in upper-case hex, parts as objects or lists."""

    mti: str
    elements: dict[str, Any]


def message_from_json(text: str | bytes, dialect: Dialect | None = None) -> Message:
    """`{"mti": "0100", "elements": {"2": "…"}}` as a message.

    Args:
        text: the JSON.
        dialect: for elements with parts; None where there are none.

    Raises: UsageError with what is wrong and where.
    """
    from messages.composites.tree import build, from_plain
    from messages.message import Message

    try:
        plain = msgspec.json.decode(text, type=MessageJson)
    except msgspec.ValidationError as error:
        raise UsageError(f"message: {error}", _SHAPE) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"message is not JSON: {error}", _SHAPE) from None
    last = 192 if dialect is not None and dialect.tertiary else 128
    elements: dict[int, str] = {}
    for name, value in plain.elements.items():
        if not (name.isascii() and name.isdigit() and len(name) < 4 and 2 <= int(name) <= last):
            raise UsageError(f"message: there is no element {name[:6]!r}", f"elements are numbers from 2 to {last}")
        number = int(name)
        if number in elements:
            raise UsageError(f"message: DE {number} is there twice", _SHAPE)
        if isinstance(value, str):
            elements[number] = value
            continue
        element = dialect.elements.get(number) if dialect is not None else None
        if element is None or element.parts is None or not isinstance(value, dict | list):
            raise UsageError(f"message: DE {number} must be text", _SHAPE)
        elements[number] = build(element, from_plain(value, name))
    return Message(plain.mti, elements)


def as_plain(message: Message, unmasked: bool, dialect: Dialect | None = None) -> dict[str, Any]:
    """The message as JSON-able data with elements in order, card data masked unless `unmasked`.

    Args:
        message: as it is on the wire.
        unmasked: show everything.
        dialect: that it is in: its elements with parts become objects or lists; None leaves them flat.
    """
    version = dialect.version if dialect is not None else "1987"
    values: dict[int, Any] = dict(elements_of(message, unmasked, version))
    for number in values:
        tree = _tree(message, number, dialect, unmasked, version)
        if tree is not None:
            values[number] = tree.to_plain()
    return {"mti": message.mti, "elements": {str(number): values[number] for number in sorted(values)}}


def elements_of(message: Message, unmasked: bool = False, version: str = "1987") -> dict[int, str]:
    """Flat values by number, masked unless `unmasked`."""
    from messages.mask import masked
    from messages.message import Message as Wire

    if unmasked:
        return dict(message.elements)
    shown = masked(message)
    first = _FIRST_DIGITS[version]
    if message.mti[:1] != first:  # a type of another version than its dialect: only what is harmless in both
        other = masked(Wire(first + message.mti[1:], message.elements))
        shown = {
            number: value if other[number] == message.elements[number] else other[number]
            for number, value in shown.items()
        }
    return shown


def message_table(
    message: Message,
    unmasked: bool = False,
    title: str | None = None,
    dialect: Dialect | None = None,
    carried: str = "1987",
) -> Table:
    """A table for people: number, name, value and what a coded value means; parts below their element.

    Args:
        carried: elements under 1000 and their number are its own, where the message was translated.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from messages.dictionary import element_name
    from messages.mti import describe_mti
    from messages.translation import CARRIED_FROM

    heading = f"{title + '  ' if title else ''}[bold]{escape(message.mti)}[/] {_described(describe_mti, message.mti)}"
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, title_style="")
    table.add_column("DE", justify="right", style="cyan", no_wrap=True)
    table.add_column("name", style="dim")
    table.add_column("value", overflow="fold")
    table.add_column("", style="green")
    version = dialect.version if dialect is not None else "1987"
    values = elements_of(message, unmasked, version)
    for number in sorted(values):
        element = dialect.elements.get(number) if dialect is not None else None
        name = (element.name if element else "") or element_name(version, number)
        if number > CARRIED_FROM:
            name = f"DE {number - CARRIED_FROM} of {carried}: {element_name(carried, number - CARRIED_FROM)}"
        hidden = not unmasked and values[number] != message.elements[number]
        meaning = "" if hidden else _meaning(message, number, version)
        table.add_row(str(number), escape(name), escape(values[number]), escape(meaning))
        tree = _tree(message, number, dialect, unmasked, version)
        for path, what, value, said in _rows(tree, element) if tree is not None and element else ():
            table.add_row(f"{number}.{path}", escape(what), escape(value), escape(said))
    return table


def _tree(message: Message, number: int, dialect: Dialect | None, unmasked: bool, version: str) -> Tree | None:
    """The parts of an element in their masked form; None where there are none, or none that may be shown."""
    from messages.composites.tree import build, parse

    element = dialect.elements.get(number) if dialect is not None else None
    if element is None or element.parts is None:
        return None
    value = message.elements[number]
    try:
        tree = parse(element, value)
        if build(element, tree) != value:
            return None
    except MessagesError:
        return None  # malformed parts: the value says all
    if unmasked or elements_of(message, False, version)[number] == value:
        return tree
    return _masked_tags(message, tree) if element.parts.kind == "ber-tlv" else None


def _masked_tags(message: Message, tree: Tree) -> Tree:
    from messages.card import pan_of
    from messages.dictionary.emv import is_harmless

    pan = pan_of(message)

    def shown(path: str, value: str) -> str:
        holds_pan = len(pan) >= _LONGEST_PAN_TEST and pan in value
        return value if is_harmless(path.rpartition(".")[2]) and not holds_pan else "*" * min(len(value), _STARS)

    return tree.mapped(shown)


def _rows(tree: Tree, element: Element) -> Iterator[tuple[str, str, str, str]]:
    """Path, name, value and meaning of each part that is no tree."""
    from messages.dictionary.emv import TAGS, describe_tag

    for path, node in tree.leaves():
        value = node.value if isinstance(node.value, str) else ""
        value = value if value or not node.raw else node.raw
        if element.parts is not None and element.parts.kind == "ber-tlv":
            known = TAGS.get(node.key)
            yield path, known.name if known else "", value, describe_tag(node.key, value)
        else:
            yield path, _part_name(element, path), value, ""


def _part_name(element: Element, path: str) -> str:
    part: Element | None = element
    for key in path.split("."):
        if part is None or part.parts is None:
            return ""
        if part.parts.rows and key not in part.parts.parts:
            continue
        part = part.parts.parts.get(key, None if not part.parts.rows else part)
    return part.name if part is not None and part is not element else ""


def _meaning(message: Message, number: int, version: str) -> str:
    from messages.dictionary import describe

    if number == 4:
        return _amount(message.elements[4], message.elements.get(49, ""))
    return describe(version, number, message.elements[number])


def _described(describe: Callable[[str], str], value: str) -> str:
    try:
        return str(describe(value))
    except MessagesError:
        return ""


def _amount(minor: str, currency: str) -> str:
    from messages.money import Money, alpha_currency

    try:
        return Money(int(minor), alpha_currency(currency)).format()
    except (MessagesError, ValueError):
        return ""
