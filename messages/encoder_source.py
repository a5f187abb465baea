"""Writes the function that encodes one set of elements: dialect and numbers in, straight-line Python out.

Called by the codec for element sets that come again. What makes the result fast, each measured: values of
one kind are joined and checked at once, as bytes; lengths come from tables; neighbours that are of one view
on the wire (characters, or nibbles) become bytes together.

A generated function returns bytes, or None or raises one of `REFUSALS` for a message that the dialect
cannot express. It gives no reason: the interpreter finds that once it is needed.
"""

from __future__ import annotations

from binascii import a2b_hex
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from messages.decoder_source import is_text
from messages.dialect import Dialect, Element
from messages.formats import CHECK_NAMES, CHECKS, SEVERAL
from messages.generated import build
from messages.header import bitmap_of
from messages.lengths import scale, shown_table

Encoder = Callable[[str, dict[int, str]], bytes | None]

# Too long for its table, no hexadecimal digits or no ASCII, something that is no text.
REFUSALS = (KeyError, IndexError, ValueError, TypeError, AttributeError)


def compile_encoder(dialect: Dialect, numbers: tuple[int, ...]) -> Encoder:
    """The encoder of one element set; `dialect` must have all `numbers`, which ascend."""
    return _Writer(dialect, numbers).function()


class _Writer:
    """Collects what is on the wire as runs of one view, and what has to be checked."""

    def __init__(self, dialect: Dialect, numbers: tuple[int, ...]) -> None:
        self.dialect = dialect
        self.elements = [dialect.elements[number] for number in numbers]
        self.names: dict[str, Any] = {**CHECK_NAMES, "a2b_hex": a2b_hex}
        self.lines: list[str] = []
        self.checks: list[str] = []
        self.kinds: dict[str, list[str]] = {"n": ["mti"]}  # kind → values that are checked together
        self.runs: list[tuple[bool, list[str]]] = []  # is it text, and its pieces

    def function(self) -> Encoder:
        numbers = tuple(element.number for element in self.elements)
        self.piece(self.dialect.mti_encoding == "ascii", "mti")
        self.piece(self.dialect.bitmap_encoding == "hex", f'"{bitmap_of(numbers)}"')
        for element in self.elements:
            self.element(element)
        self.pick()
        self.lengths()
        for kind, values in self.kinds.items():
            self.check(kind, values)
        self.lines += [f"if not ({' and '.join(self.checks)}):", "    return None"]
        self.lines.append(f"return {' + '.join(_as_bytes(text, pieces) for text, pieces in self.runs)}")
        source = ["def encode(mti, elements):", *(f"    {line}" for line in self.lines)]
        where = f"generated/{self.dialect.name}/encode/{'-'.join(map(str, numbers))}"
        return build("encode", where, source, self.names)

    def pick(self) -> None:
        """Elements → locals."""
        if self.elements:
            self.names["PICK"] = itemgetter(*(element.number for element in self.elements))
            self.lines.append(f"{', '.join(f'e{element.number}' for element in self.elements)} = PICK(elements)")

    def lengths(self) -> None:
        """All fixed lengths, those that must be equal in one comparison."""
        sizes: dict[int, list[str]] = {4: ["mti"]}
        for element in self.elements:
            if not element.length_kind:
                sizes.setdefault(element.characters, []).append(f"e{element.number}")
        for size, values in sizes.items():
            self.checks.append(" == ".join([*(f"len({value})" for value in values), str(size)]))

    def element(self, element: Element) -> None:
        value = f"e{element.number}"
        text = is_text(element)
        if element.length_kind:
            table = f"LENGTH_{element.number}"
            self.names[table] = shown_table(
                scale(element),
                2 if element.encoding == "binary" else 1,
                "" if text else "hex",
                element.pad[-1] if element.pad.startswith("left ") else "",
            )
            self.piece(text, f"{table}[len({value})]")
        if element.kind != "b":
            self.kinds.setdefault(element.kind, []).append(value)
        if element.encoding == "hex":
            self.checks.append(f"a2b_hex({value}) is not None")
            self.piece(text, f"{value}.upper()")
        elif element.encoding == "bcd":
            self.bcd(element, f'{value}.replace("=", "D")' if element.kind == "z" else value)
        else:
            self.piece(text, value)

    def bcd(self, element: Element, value: str) -> None:
        """A value with the pad that makes its digits even; a left pad of variable length is in the table."""
        left, pad = element.pad.startswith("left"), element.pad[-1:]
        odd = not element.length_kind and element.max_length % 2 == 1
        if odd and left:
            self.piece(False, f'"{pad}"')
        self.piece(False, value)
        if odd and not left:
            self.piece(False, f'"{pad}"')
        elif element.length_kind and not left:
            self.piece(False, f'("{pad}" if len(e{element.number}) & 1 else "")')

    def check(self, kind: str, values: list[str]) -> None:
        """Demands that values are of a kind. Lengths are known to be right: joined is as good as one by one."""
        if kind not in SEVERAL:
            for index, value in enumerate(values):
                name = f"raw_{kind.replace('+', '_')}_{index}"
                self.lines.append(f'{name} = {value}.encode("ascii")')
                self.checks.append(CHECKS[kind].format(name))
            return
        raw = f'{_joined(values)}.encode("ascii")'
        if CHECKS[kind].count("{0}") > 1:
            self.lines.append(f"raw_{kind} = {raw}")
            raw = f"raw_{kind}"
        self.checks.append(CHECKS[kind].format(raw))

    def piece(self, text: bool, expression: str) -> None:
        """The next piece on the wire, as an expression of text."""
        if self.runs and self.runs[-1][0] == text:
            self.runs[-1][1].append(expression)
        else:
            self.runs.append((text, [expression]))


def _joined(pieces: list[str]) -> str:
    return pieces[0] if len(pieces) == 1 else f'"".join(({", ".join(pieces)}))'


def _as_bytes(text: bool, pieces: list[str]) -> str:
    if text:
        return f'{_joined(pieces)}.encode("latin-1")'
    return f'a2b_hex("".join(({", ".join(pieces)},)))'  # joined even if alone: a2b_hex takes bytes, join does not
