"""A simulator's book, one line a transaction, for the three-way comparison.

Issuers and acquirers each keep a book of their own from the messages they saw; `cardswitch prove` holds them
against the ledger. Books travel as files of JSON lines.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import msgspec

from simulators.errors import BookError


class BookLine(msgspec.Struct, frozen=True, kw_only=True):
    """The standing of one authorization, purchase or refund in somebody's book.

    Captures, reversals and chargebacks change the line of their original and have no line of their own.

    Args:
        link: the link's name, seen from the switch.
        key: in an acquirer's book `messages.exchange.acquirer_key`; in an issuer's book
            `messages.exchange.network_key` (DE 7 and DE 11 as the issuer received them).
        held_minor: amount on hold, >= 0.
        posted_minor: amount that the cardholder has paid through this transaction: > 0 purchases, < 0 refunds.
        currency: ISO 4217 alphabetic.
        member: in a network's book the issuer behind it; "" elsewhere.
        settled: False while the owner does not know the end yet (an acquirer that still repeats or reverses).
    """

    link: str
    key: str
    currency: str
    held_minor: int
    posted_minor: int
    settled: bool = True
    member: str = ""


def write_book(path: Path, lines: Iterable[BookLine]) -> int:
    """Write a book as JSON lines, replacing the file in one step; return how many lines."""
    encode = msgspec.json.Encoder().encode
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    count = 0
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for line in lines:
            file.write(encode(line) + b"\n")
            count += 1
    unfinished.replace(path)
    return count


def write_rows(file: TextIO, rows: Iterable[msgspec.Struct | dict[str, Any]], style: str) -> None:
    """Write lines of a book, or of totals.

    Args:
        style: `jsonl`, or `csv` with a line of names first.
    """
    if style == "jsonl":
        for row in rows:
            file.write(msgspec.json.encode(row).decode() + "\n")
        return
    writer = None
    for row in rows:
        values = row if isinstance(row, dict) else msgspec.structs.asdict(row)
        if writer is None:
            writer = csv.DictWriter(file, fieldnames=list(values))
            writer.writeheader()
        writer.writerow(values)


def read_book(path: Path) -> list[BookLine]:
    """Read a book written by `write_book`.

    Raises:
        BookError: the file cannot be read, or a line is no book line.
    """
    decode = msgspec.json.Decoder(BookLine).decode
    lines = []
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    lines.append(decode(text))
                except msgspec.DecodeError as error:
                    raise BookError(f"{path}: line {number}: {error}") from None
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}") from None
    return lines
