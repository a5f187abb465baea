"""Card files for `cardswitch vault import`: lines of CSV or JSON go in, checked cards or what is wrong with a line out.

Bounded: a line at a time, and no line longer than MAX_LINE_BYTES is held. A fault is reported without a digit of the
line. Called by `console.vault.card_import`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from messages.card import luhn_valid

MAX_LINE_BYTES = 4096
COLUMNS = ("pan", "exp_month", "exp_year", "domain")
_MAX_DOMAIN = 100


class CardLine(msgspec.Struct, frozen=True):
    """A card as a line gave it; `expiry` is YYMM, `end` the byte after the line."""

    number: int
    end: int
    pan: str
    expiry: str
    domain: str

    def __repr__(self) -> str:
        return f"CardLine({self.number})"


class BadLine(msgspec.Struct, frozen=True):
    """A line that is no card; `reason` has nothing of it."""

    number: int
    end: int
    reason: str


class LineError(Exception):
    """A line is no card; the text says why, without its digits."""


class CardFile:
    """Reads a file of cards.

    CSV with the columns `pan,exp_month,exp_year,domain` (the last may be missing), or with a first line that names the
    columns in any order, among others; or JSON, an object a line with these keys. Empty lines are passed over.

    Args:
        stream: opened for bytes; it need not be seekable.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._columns: tuple[str, ...] = COLUMNS

    def lines(self, after: int = 0) -> Iterator[CardLine | BadLine]:
        """Yield what comes after line `after`; lines are numbered from 1."""
        for number, end, line in _numbered(self._stream):
            if number == 1 and line is not None and self._is_header(line):
                continue
            if number <= after:
                continue
            try:
                if line is None:
                    raise LineError(f"longer than {MAX_LINE_BYTES} bytes")
                if line.strip():
                    pan, expiry, domain = self._card(line)
                    yield CardLine(number, end, pan, expiry, domain)
            except LineError as error:
                yield BadLine(number, end, str(error))

    def _is_header(self, line: bytes) -> bool:
        try:
            names = tuple(name.strip().lower() for name in _fields(line))
        except LineError:
            return False
        if "pan" not in names:
            return False
        self._columns = names
        return True

    def _card(self, line: bytes) -> tuple[str, str, str]:
        fields = (
            _object(line)
            if line.lstrip().startswith(b"{")
            else dict(
                zip(self._columns, _fields(line), strict=False)  # fewer are missing, more are not ours
            )
        )
        pan = _text(fields, "pan").replace(" ", "").replace("-", "")
        if not luhn_valid(pan):
            raise LineError("pan is not a card number")
        month, year = _number(fields, "exp_month"), _number(fields, "exp_year")
        if not 1 <= month <= 12:
            raise LineError("exp_month is not a month")
        if not (0 <= year <= 99 or 2000 <= year <= 2099):
            raise LineError("exp_year is not a year")
        domain = _text(fields, "domain") if fields.get("domain") else ""
        if len(domain) > _MAX_DOMAIN or not domain.isprintable():
            raise LineError("domain is not a name")
        return pan, f"{year % 100:02d}{month:02d}", domain


def _numbered(stream: BinaryIO) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield number, end and bytes of each line; None instead of one that is too long."""
    number = end = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number, end = number + 1, end + len(line)
        whole: bytes | None = line
        while not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
            line = stream.readline(MAX_LINE_BYTES)
            end += len(line)
            whole = None
        if number == 1 and whole is not None:
            whole = whole.removeprefix(b"\xef\xbb\xbf")  # mark that some programs put before CSV
        yield number, end, whole


def _fields(line: bytes) -> list[str]:
    try:
        (row,) = csv.reader([line.decode("utf-8").rstrip("\r\n")], strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise LineError("neither CSV nor JSON in UTF-8") from None
    return row


def _object(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise LineError("not a JSON object") from None


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None or value == "":
        raise LineError(f"{name} is missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise LineError(f"{name} is not text")
    return str(value).strip()


def _number(fields: dict[str, Any], name: str) -> int:
    text = _text(fields, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise LineError(f"{name} is not a number")
    return int(text)
