"""Writes the function that encodes one set of elements: dialect and numbers in, straight-line Python out.

Called by the codec for element sets that come again. The result is fast for these reasons, each measured: values of one
kind are joined and checked at once, as bytes; lengths come from tables; neighbours with the same view on the wire
(characters, or nibbles) become bytes together. Rare elements are written by their `ElementCodec`.

A generated function returns bytes, or None or raises one of `REFUSALS` for a message that the dialect
cannot express. It gives no reason: the interpreter finds that once it is needed.
"""

from __future__ import annotations

from binascii import a2b_hex
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from messages.charsets import FROM_LATIN
from messages.decoder_source import NIBBLES, PLAIN, view_of, written_out
from messages.dialect import Dialect, Element
from messages.element_codec import ElementCodec
from messages.errors import EncodeError
from messages.formats import CHECK_NAMES, CHECKS, SEVERAL
from messages.generated import build
from messages.header import TERTIARY, head_bitmaps
from messages.lengths import scale, shown_table

Encoder = Callable[[str, dict[int, str]], bytes | None]

# Too long for its table, no hexadecimal digits or no ASCII, something that is no text, an element written by itself.
REFUSALS = (KeyError, IndexError, ValueError, TypeError, AttributeError, EncodeError)

_BYTES = "bytes"  # a run whose pieces are bytes already
_NEVER_EMPTY = ("n", "z")


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
        self.sizes: dict[int, list[str]] = {4: ["mti"]}  # size → values that must have it
        self.runs: list[tuple[str, list[str]]] = []  # the view, and its pieces

    def function(self) -> Encoder:
        numbers = tuple(element.number for element in self.elements)
        head, inside = head_bitmaps(self.dialect, numbers)
        bitmap_view = view_of(self.dialect.bitmap_encoding)
        self.piece(view_of(self.dialect.mti_encoding), "mti")
        self.piece(bitmap_view, f'"{head}"')
        self.pick()
        for element in self.elements:
            if inside and element.number > TERTIARY:
                self.piece(bitmap_view, f'"{inside}"')
                inside = ""
            self.element(element)
        for size, values in self.sizes.items():
            self.checks.append(" == ".join([*(f"len({value})" for value in values), str(size)]))
        for kind, values in self.kinds.items():
            self.check(kind, values)
        self.lines += [f"if not ({' and '.join(self.checks)}):", "    return None"]
        self.lines.append(f"return {' + '.join(self.as_bytes(view, pieces) for view, pieces in self.runs)}")
        source = ["def encode(mti, elements):", *(f"    {line}" for line in self.lines)]
        where = f"generated/{self.dialect.name}/encode/{'-'.join(map(str, numbers))}"
        return build("encode", where, source, self.names)

    def pick(self) -> None:
        """Elements → locals."""
        if self.elements:
            self.names["PICK"] = itemgetter(*(element.number for element in self.elements))
            self.lines.append(f"{', '.join(f'e{element.number}' for element in self.elements)} = PICK(elements)")

    def element(self, element: Element) -> None:
        value, view = f"e{element.number}", view_of(element.encoding)
        if not written_out(element) or (element.fill and element.kind in ("b", "x+n")):
            self.names[f"WRITE_{element.number}"] = ElementCodec(element).write
            self.piece(_BYTES, f"WRITE_{element.number}({value})")
            return
        if element.length_kind:
            table = f"LENGTH_{element.number}"
            self.names[table] = shown_table(
                scale(element),
                2 if element.encoding == "binary" else 1,
                "hex" if view == NIBBLES else "" if view == PLAIN else view,
                element.pad[-1] if element.encoding == "bcd" and element.pad.startswith("left ") else "",
            )
            self.piece(view, f"{table}[len({value})]")
        else:
            self.fixed(element, value)
        if element.kind != "b":
            self.kinds.setdefault(element.kind, []).append(value)
        if element.kind == "b" and view != NIBBLES:
            self.checks.append(f"a2b_hex({value}) is not None")
            self.piece(view, f"{value}.upper()")
        elif element.encoding == "bcd":
            self.bcd(element, f'{value}.replace("=", "D")' if element.kind == "z" else value)
        else:
            self.piece(view, value)

    def fixed(self, element: Element, value: str) -> None:
        """A value of one length, filled where it may be shorter."""
        if element.fill:
            side, character = ("rjust" if element.fill.startswith("left") else "ljust"), element.fill[-1]
            if element.kind in _NEVER_EMPTY:
                self.lines += [f"if not {value}:", "    return None"]
            self.lines.append(f"{value} = {value}.{side}({element.characters}, {character!r})")
        self.sizes.setdefault(element.characters, []).append(value)

    def bcd(self, element: Element, value: str) -> None:
        """A value with the pad that makes its digits even; a left pad of variable length is in the table."""
        left, pad = element.pad.startswith("left"), element.pad[-1:]
        odd = not element.length_kind and element.max_length % 2 == 1
        if odd and left:
            self.piece(NIBBLES, f'"{pad}"')
        self.piece(NIBBLES, value)
        if odd and not left:
            self.piece(NIBBLES, f'"{pad}"')
        elif element.length_kind and not left:
            self.piece(NIBBLES, f'("{pad}" if len(e{element.number}) & 1 else "")')

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

    def piece(self, view: str, expression: str) -> None:
        """The next piece on the wire, as an expression of text, or of bytes in a run of bytes."""
        if self.runs and self.runs[-1][0] == view:
            self.runs[-1][1].append(expression)
        else:
            self.runs.append((view, [expression]))

    def as_bytes(self, view: str, pieces: list[str]) -> str:
        """A run as an expression of bytes."""
        if view == _BYTES:
            return " + ".join(pieces)
        if view == NIBBLES:
            return (
                f'a2b_hex("".join(({", ".join(pieces)},)))'  # joined even if alone: a2b_hex takes bytes, join does not
            )
        if view == PLAIN:
            return f'{_joined(pieces)}.encode("latin-1")'
        self.names[f"FROM_{view}"] = FROM_LATIN[view]
        return f'{_joined(pieces)}.encode("latin-1").translate(FROM_{view})'


def _joined(pieces: list[str]) -> str:
    return pieces[0] if len(pieces) == 1 else f'"".join(({", ".join(pieces)}))'
