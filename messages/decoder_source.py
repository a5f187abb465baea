"""Writes the function that decodes one set of elements: dialect and numbers in, straight-line Python out.

Called by the codec for bitmaps that come again. The result is fast for these reasons, each measured:
- the bytes become text once a view: as they are, by each EBCDIC code page, as nibbles where the dialect packs;
  elements are cut from that;
- adjacent elements of fixed length are cut by one `itemgetter` in C;
- adjacent values of one kind are checked at once, as bytes (`formats.CHECKS`);
- lengths are looked up, not parsed; a length that the element does not allow is not in the table;
- the dictionary of the message is the copy of one that has all keys, so it never grows;
- nobody checks for truncation on the way: slices of what is not there are short, and at the end the
  position must be the end of the bytes.

An element that is rare on the wire (see `written_out`) is read by its `ElementCodec`, called from the generated
function.

A generated function returns a `Message`, or None or raises one of `REFUSALS` for invalid bytes.
It gives no reason: the interpreter finds that once it is needed.
"""

from __future__ import annotations

from binascii import a2b_hex, hexlify
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec

from messages.charsets import TO_LATIN, page_of
from messages.dialect import Dialect, Element
from messages.element_codec import ElementCodec
from messages.errors import DecodeError
from messages.formats import CHECK_NAMES, CHECKS, SEVERAL
from messages.generated import build
from messages.lengths import counted_in_bytes, decode_table, prefix_size, scale
from messages.message import Message

Decoder = Callable[[bytes], Message | None]

# A length that is in no table, a missing byte, digits that are not hexadecimal, an element that is read by itself.
REFUSALS = (KeyError, IndexError, ValueError, DecodeError)

# The views of the bytes: as nibbles, as they are, else by a code page.
NIBBLES, PLAIN = "nibbles", "text"


def compile_decoder(dialect: Dialect, numbers: tuple[int, ...], start: int) -> Decoder:
    """The decoder of one element set.

    Args:
        dialect: must have all `numbers`.
        numbers: ascending.
        start: bytes before the first element.
    """
    return _Writer(dialect, numbers, start).function()


def view_of(encoding: str) -> str:
    """The view in which values, lengths or types of an encoding are looked at."""
    return NIBBLES if encoding in ("bcd", "binary") else page_of(encoding) or PLAIN


def written_out(element: Element) -> bool:
    """Whether generated code reads and writes the element itself: all but the rarer forms of BCD."""
    if element.encoding != "bcd":
        return True
    if element.kind == "x+n":
        return False
    if element.length_kind:
        return bool(element.pad) and not counted_in_bytes(element)
    return bool(element.pad) or element.max_length % 2 == 0


class _Place(msgspec.Struct, frozen=True):
    """A place in the bytes: so many nibbles after a local of the generated function, "" for the start."""

    base: str
    nibbles: int

    def plus(self, count: int) -> _Place:
        """So many bytes on."""
        return _Place(self.base, self.nibbles + 2 * count)

    def plus_nibbles(self, count: int) -> _Place:
        """So many nibbles on."""
        return _Place(self.base, self.nibbles + count)

    def within(self, view: str) -> str:
        """The index in a view of the bytes, as an expression."""
        base, shift = self.base, self.nibbles if view == NIBBLES else self.nibbles // 2
        if not base:
            return str(shift)
        base = f"2 * {base}" if view == NIBBLES else base
        return f"{base} + {shift}" if shift else base


class _Stretch(msgspec.Struct):
    """A part of one view that is all of one kind; kind "" is a length, digits for sure, that joins anything."""

    kind: str
    view: str
    start: _Place
    stop: _Place


class _Writer:
    """Writes line by line; `at` is where the next element starts."""

    def __init__(self, dialect: Dialect, numbers: tuple[int, ...], start: int) -> None:
        self.dialect = dialect
        self.elements = [dialect.elements[number] for number in numbers]
        self.lines: list[str] = []
        self.names: dict[str, Any] = {**CHECK_NAMES, "Message": Message, "a2b_hex": a2b_hex, "hexlify": hexlify}
        self.names["EMPTY"] = dict.fromkeys(numbers, "")
        self.stretches: list[_Stretch] = []
        self.checks: list[str] = []
        self.at = _Place("", 2 * start)

    def function(self) -> Decoder:
        self.head()
        for group in self.groups():
            if not written_out(group[0]):
                self.read(group[0])
            elif group[0].length_kind:
                self.variable(group[0])
            else:
                self.fixed(group)
        for stretch in self.stretches:
            self.check(stretch)
        self.emit(f"if {self.at.within(PLAIN)} != len(data) or not ({' and '.join(self.checks)}):")
        self.emit("    return None")
        self.emit("return Message(mti, elements)")
        numbers = "-".join(str(element.number) for element in self.elements)
        source = ["def decode(data):", *(f"    {line}" for line in self.lines)]
        return build("decode", f"generated/{self.dialect.name}/decode/{numbers}", source, self.names)

    def head(self) -> None:
        """The views that are needed, and the type."""
        mti_view = view_of(self.dialect.mti_encoding)
        views = {view_of(element.encoding) for element in self.elements if written_out(element)} | {mti_view}
        for view in sorted(views):
            if view == NIBBLES:
                self.emit("packed = hexlify(data)")
                self.emit('nibbles = packed.decode("ascii")')
            elif view == PLAIN:
                self.emit('text = data.decode("latin-1")')
            else:
                self.names[f"TO_{view}"] = TO_LATIN[view]
                self.emit(f"data_{view} = data.translate(TO_{view})")
                self.emit(f'{view} = data_{view}.decode("latin-1")')
        self.emit(f"mti = {mti_view}[:4]")
        self.checks.append("mti.isdecimal()")  # in Latin-1 that is 0 to 9; isdigit would take "²"
        self.emit("elements = EMPTY.copy()")

    def groups(self) -> list[list[Element]]:
        """Neighbours of fixed length in the same view together, each of variable length alone."""
        groups: list[list[Element]] = []
        for element in self.elements:
            last = groups[-1][-1] if groups else element
            joins = not last.length_kind and not element.length_kind and written_out(last) and written_out(element)
            if groups and joins and view_of(last.encoding) == view_of(element.encoding):
                groups[-1].append(element)
            else:
                groups.append([element])
        return groups

    def read(self, element: Element) -> None:
        """An element that is read by its own codec."""
        end = _Place(f"end_{element.number}", 0)
        reader = self.name("READ", ElementCodec(element).read)
        self.emit(f"elements[{element.number}], {end.base} = {reader}(data, {self.at.within(PLAIN)})")
        self.at = end

    def fixed(self, group: list[Element]) -> None:
        """Elements of fixed length side by side: one slice, cut up."""
        view = view_of(group[0].encoding)
        unit = 1 if view == NIBBLES else 2  # nibbles that a nibble, or a character, takes
        cuts: list[slice] = []  # counted in characters or nibbles of the run
        end = 0
        for element in group:
            size = element.characters
            start, end = end, end + size
            if element.encoding == "bcd" and size % 2:
                end += 1
                pad_at = start if element.pad.startswith("left") else end - 1
                start += pad_at == start
                self.demand_pad(element, self.at.plus_nibbles(pad_at), start <= pad_at)
            cuts.append(slice(start, start + size))
            where = self.at.plus_nibbles(start * unit)
            self.demand(element.kind, view, where, where.plus_nibbles(size * unit))
        stop = self.at.plus_nibbles(end * unit)
        run = f"{view}[{self.at.within(view)} : {stop.within(view)}]"
        if len(cuts) > 1:
            run = f"{self.name('CUT', itemgetter(*cuts))}({run})"
        elif cuts[0] != slice(0, end):
            run = f"{run}[{cuts[0].start}:{cuts[0].stop}]"
        self.emit(f"{', '.join(f'elements[{element.number}]' for element in group)} = {run}")
        for element in group:
            value = f"elements[{element.number}]"
            if _value(element, value) != value:
                self.emit(f"{value} = {_value(element, value)}")
            self.demand_hexadecimal(element)
        self.at = stop

    def demand_pad(self, element: Element, where: _Place, right: bool) -> None:
        """A pad is one known nibble; that it may be a digit lets digits join across it."""
        self.checks.append(f"nibbles[{where.within(NIBBLES)}] == {element.pad[-1].lower()!r}")
        if element.pad[-1].isdigit() and not right:
            self.demand("n", NIBBLES, where, where.plus_nibbles(1))

    def demand_hexadecimal(self, element: Element) -> None:
        if element.kind == "b" and element.encoding != "binary":
            self.checks.append(f"a2b_hex(elements[{element.number}]) is not None")

    def variable(self, element: Element) -> None:
        """An element with a length before it."""
        view, size = view_of(element.encoding), prefix_size(element)
        start, end = _Place(f"start_{element.number}", 0), _Place(f"end_{element.number}", 0)
        self.emit(f"{start.base} = {self.at.plus(size).within(PLAIN)}")
        at = self.at.within(PLAIN)
        length = self.name("LENGTH", decode_table(scale(element)))
        length += f"[data[{at}]]" if size == 1 else f"[data[{at} : {start.base}]]"
        if element.length_encoding != "binary" and view_of(element.length_encoding) == view:
            self.demand("", view, self.at, start)
        if element.encoding == "bcd":
            self.variable_bcd(element, length, start, end)
        else:
            self.emit(f"{end.base} = {start.base} + {length}")
            cut = f"{view}[{start.within(view)} : {end.within(view)}]"
            self.emit(f"elements[{element.number}] = {_value(element, cut)}")
            self.demand(element.kind, view, start, end)
            self.demand_hexadecimal(element)
        self.at = end

    def variable_bcd(self, element: Element, length: str, start: _Place, end: _Place) -> None:
        """The length counts digits, two a byte."""
        count, pad = f"count_{element.number}", element.pad[-1].lower()
        self.emit(f"{count} = {length}")
        self.emit(f"{end.base} = {start.base} + ({count} + 1) // 2")
        left = element.pad.startswith("left")
        pad_at = start.within(NIBBLES) if left else f"{end.within(NIBBLES)} - 1"
        self.emit(f"if {count} & 1 and nibbles[{pad_at}] != {pad!r}:")
        self.emit("    return None")
        first = f"{end.within(NIBBLES)} - {count}" if left else start.within(NIBBLES)
        last = end.within(NIBBLES) if left else f"{start.within(NIBBLES)} + {count}"
        self.emit(f"elements[{element.number}] = {_value(element, f'nibbles[{first} : {last}]')}")
        if left and pad.isdigit() and element.kind == "n":
            self.demand("n", NIBBLES, start, end)
        else:
            self.checks.append(
                CHECKS[element.kind].format(f"packed[{first} : {last}]").replace("TRACK", "TRACK_NIBBLES")
            )

    def demand(self, kind: str, view: str, start: _Place, stop: _Place) -> None:
        """A stretch has to be of a kind; joins the one before where that may be."""
        last = self.stretches[-1] if self.stretches else None
        if last and last.view == view and last.stop == start:
            if (last.kind == kind and kind in SEVERAL) or (not kind and last.kind in _HAVE_DIGITS):
                last.stop = stop
                return
            if not last.kind and kind in _HAVE_DIGITS:
                last.kind, last.stop = kind, stop
                return
        self.stretches.append(_Stretch(kind, view, start, stop))

    def check(self, stretch: _Stretch) -> None:
        """The condition of a stretch."""
        kind, view = stretch.kind, stretch.view
        start, stop = stretch.start.within(view), stretch.stop.within(view)
        raw = f"{_BYTES.get(view, f'data_{view}')}[{start} : {stop}]"
        if kind in CHECKS:
            if CHECKS[kind].count("{0}") > 1:
                name = f"raw_{len(self.lines)}"
                self.emit(f"{name} = {raw}")
                raw = name
            check = CHECKS[kind].format(raw)
            self.checks.append(check.replace("TRACK", "TRACK_NIBBLES") if view == NIBBLES else check)

    def emit(self, line: str) -> None:
        self.lines.append(line)

    def name(self, prefix: str, value: object) -> str:
        """A global of the generated function."""
        name = f"{prefix}_{len(self.names)}"
        self.names[name] = value
        return name


_HAVE_DIGITS = frozenset({"n", "an", "ans"})  # kinds in which a length, digits as it is, makes no difference
_BYTES = {NIBBLES: "packed", PLAIN: "data"}  # view → what its checks look at


def _value(element: Element, cut: str) -> str:
    """Source line that turns the cut text into the value of the message."""
    if element.kind == "b":
        return f"{cut}.upper()"
    if element.kind == "z" and element.encoding == "bcd":
        return f'{cut}.replace("d", "=")'
    return cut
