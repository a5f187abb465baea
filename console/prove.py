"""The three-way comparison: each payment in the ledger, in the acquirers' books and in the issuers' books.

Lines of the three go in, a `Proof` comes out that lists every difference in words. `prove` is pure; `prove_system`
fetches the lines from a running system. Called by `cardswitch prove`, the demo, the benchmark and the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec

from ledger.book import LedgerLine, book
from messages.errors import MoneyError
from messages.money import Money
from simulators.book import BookLine, read_book
from simulators.control import ask_book
from simulators.errors import ControlError

K = TypeVar("K")

MAX_DIFFERENCES = 1_000  # listed; the first thousand suffice

# Every way in which two books can differ: kind → when.
KINDS: dict[str, str] = {
    "undecided": "the ledger has an intent without an outcome",
    "no issuer": "the ledger has booked a payment that went to no issuer",
    "no book": "an issuer has payments in the ledger, but its book could not be read",
    "missing": "the ledger has an amount, the other book has no line",
    "amount": "both have a line, with different amounts",
    "currency": "both have a line and the same amounts, in different currencies",
    "unsettled": "the other book's owner does not know the end yet",
    "unknown": "the other book has an amount, the ledger has no line",
    "contradiction": "one book has two different lines for the same key",
}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two books that do not agree.

    Args:
        kind: one of `KINDS`.
        key: the acquirer's key, or the other book's own where the ledger has no line.
        ledger, other: the entry of each in words; "" where it has none.
        book: whose the other book is: "acquirer pos", "issuer alpha", "ledger".
        text: one line for people.
    """

    kind: str
    key: str
    book: str
    ledger: str
    other: str
    text: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a comparison.

    Args:
        differences: empty where all agree; at most 1,000 are listed.
        transactions: authorizations, purchases and refunds in the ledger.
        amounts: by ISO 4217 code: the ledger's held and posted amounts, net, in minor units.
        unwitnessed: ledger lines of acquirers that gave no book; they were held against the issuers only.
    """

    differences: tuple[Difference, ...]
    transactions: int
    amounts: dict[str, int]
    unwitnessed: int = 0

    @property
    def agrees(self) -> bool:
        return not self.differences

    def document(self) -> dict[str, Any]:
        """The JSON form: `differences`, `transactions`, `amounts`."""
        return {
            "differences": [msgspec.to_builtins(difference) for difference in self.differences],
            "transactions": self.transactions,
            "amounts": self.amounts,
        }


def prove(
    ledger: Iterable[LedgerLine], acquirers: Iterable[Iterable[BookLine]], issuers: Mapping[str, Iterable[BookLine]]
) -> Proof:
    """Hold the ledger against everybody else's books.

    Args:
        ledger: all lines.
        acquirers: books, several for one link if need be; each line names its link. A book counts for the acquirers (DE
            32, or DE 41 where there is none) that it has lines of; another sender's payments on the same link, sent by
            hand for instance, are compared with the issuers' books only.
        issuers: books by issuer link. An issuer with booked payments and no book is a difference.
    """
    found: list[Difference] = []
    acquirer_books = _witnesses(
        (line for lines in acquirers for line in lines), "acquirer", lambda line: (line.link, _party(line.key)), found
    )
    issuer_books = {
        name: _witnesses(lines, "issuer", lambda line: line.link, found).get(name, _Witness(f"issuer {name}"))
        for name, lines in issuers.items()
    }
    absent: dict[str, int] = {}
    amounts: dict[str, int] = {}
    transactions = unwitnessed = 0
    for line in ledger:
        transactions += 1
        if line.currency:
            amounts[line.currency] = amounts.get(line.currency, 0) + line.held_minor + line.posted_minor
        if not line.decided:
            found.append(_difference("undecided", line.key, "ledger", line, None))
        acquirer = acquirer_books.get((line.link, _party(line.key)))
        if acquirer is None:
            unwitnessed += 1
        else:
            acquirer.compare(line.key, line, found)
        if line.issuer in issuer_books:
            issuer_books[line.issuer].compare(line.network_key, line, found)
        elif line.held_minor or line.posted_minor:
            if line.issuer:
                absent[line.issuer] = absent.get(line.issuer, 0) + 1
            else:
                found.append(_difference("no issuer", line.key, "ledger", line, None))
    for witness in (*acquirer_books.values(), *issuer_books.values()):
        witness.finish(found)
    for name, count in absent.items():
        text = f"the book of issuer {name} could not be read: {count} payments are not proved"
        found.append(Difference(kind="no book", key="", book=f"issuer {name}", ledger="", other="", text=text))
    return Proof(
        differences=tuple(found[:MAX_DIFFERENCES]),
        transactions=transactions,
        amounts=dict(sorted(amounts.items())),
        unwitnessed=unwitnessed,
    )


async def prove_system(
    dsn: str,
    *,
    issuer_sockets: Mapping[str, Path],
    book_directory: Path | None = None,
    gateway_book: Callable[[], Awaitable[Iterable[BookLine]]] | None = None,
    patience_s: float = 0.0,
) -> Proof:
    """Fetch all books of a running system and compare them.

    Args:
        dsn: of the ledger's auditor.
        issuer_sockets: control sockets of the simulated issuers, by link.
        book_directory: acquirers' books, *.jsonl.
        gateway_book: gives the gateway's own book.
        patience_s: while there are differences, look again for that long: queues may be draining.
    Raises:
        OSError, asyncpg.PostgresError: the ledger cannot be read.
        BookError: an acquirer's book cannot be read.
    """
    deadline = asyncio.get_running_loop().time() + patience_s
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            proof = await _prove_once(connection, issuer_sockets, book_directory, gateway_book)
            if proof.agrees or asyncio.get_running_loop().time() >= deadline:
                return proof
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _prove_once(
    connection: Any,
    issuer_sockets: Mapping[str, Path],
    book_directory: Path | None,
    gateway_book: Callable[[], Awaitable[Iterable[BookLine]]] | None,
) -> Proof:
    issuers: dict[str, list[BookLine]] = {}
    for name, path in issuer_sockets.items():
        try:
            issuers[name] = await asyncio.to_thread(ask_book, path)
        except ControlError:
            continue  # a missing book is a difference, if there is anything to prove
    acquirers: list[Iterable[BookLine]] = []
    if book_directory is not None:
        acquirers += await asyncio.to_thread(_read_books, book_directory)
    if gateway_book is not None:
        acquirers.append(await gateway_book())
    return prove(await book(connection), acquirers, issuers)


def _read_books(directory: Path) -> list[list[BookLine]]:
    return [read_book(path) for path in sorted(directory.glob("*.jsonl"))]


class _Witness:
    """One book that the ledger is held against."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: dict[str, BookLine] = {}
        self._seen: set[str] = set()

    def add(self, line: BookLine, found: list[Difference]) -> None:
        known = self._lines.setdefault(line.key, line)
        if known != line:
            text = f"{self.name} has two lines for {line.key}: {_words(known)}, and {_words(line)}"
            found.append(
                Difference(
                    kind="contradiction",
                    key=line.key,
                    book=self.name,
                    ledger="",
                    other=f"{_words(known)}; {_words(line)}",
                    text=text,
                )
            )

    def compare(self, key: str, ledger: LedgerLine, found: list[Difference]) -> None:
        line = self._lines.get(key)
        self._seen.add(key)
        kind = _kind(ledger, line)
        if kind:
            found.append(_difference(kind, ledger.key, self.name, ledger, line))

    def finish(self, found: list[Difference]) -> None:
        """Everything that the ledger has not asked about."""
        for key, line in self._lines.items():
            if key not in self._seen and (line.held_minor or line.posted_minor or not line.settled):
                kind = "unknown" if line.held_minor or line.posted_minor else "unsettled"
                found.append(_difference(kind, key, self.name, None, line))


def _kind(ledger: LedgerLine, line: BookLine | None) -> str:
    """Difference of a ledger line and another book's line; "" where they agree. The first row that holds decides."""
    amount = (ledger.held_minor, ledger.posted_minor)
    if line is None:
        return "missing" if any(amount) else ""
    if not line.settled:
        return "unsettled"
    if (line.held_minor, line.posted_minor) != amount:
        return "amount"
    if any(amount) and line.currency != ledger.currency:
        return "currency"
    return ""


def _party(key: str) -> str:
    """Its sender: the last part of an acquirer's key, see `messages.exchange.acquirer_key`."""
    return key.rpartition("|")[2]


def _witnesses(
    lines: Iterable[BookLine], role: str, of: Callable[[BookLine], K], found: list[Difference]
) -> dict[K, _Witness]:
    """Lines put into books: `of` says whose a line is."""
    books: dict[K, _Witness] = {}
    for line in lines:
        whose = of(line)
        if whose not in books:
            books[whose] = _Witness(f"{role} {line.link}")
        books[whose].add(line, found)
    return books


def _difference(kind: str, key: str, name: str, ledger: LedgerLine | None, line: BookLine | None) -> Difference:
    ledger_says = "" if ledger is None else _words(ledger)
    other_says = "" if line is None else _words(line)
    text = {
        "undecided": f"{key}: the ledger has no outcome yet",
        "no issuer": f"{key}: the ledger says {ledger_says}, but no issuer was asked",
        "missing": f"{key}: the ledger says {ledger_says}, the book of {name} has no line",
        "unsettled": f"{key}: {name} does not know the end yet ({other_says})",
        "unknown": f"{key}: the book of {name} says {other_says}, the ledger has no line",
    }.get(kind, f"{key}: the ledger says {ledger_says}, the book of {name} says {other_says}")
    return Difference(kind=kind, key=key, book=name, ledger=ledger_says, other=other_says, text=text)


def _words(line: LedgerLine | BookLine) -> str:
    return f"{_amount(line.held_minor, line.currency)} held and {_amount(line.posted_minor, line.currency)} posted"


def _amount(amount_minor: int, currency: str) -> str:
    try:
        return Money(amount_minor, currency).format()
    except MoneyError:
        return f"{amount_minor} {currency or 'of no currency'}"
