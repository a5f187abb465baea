"""`prove` finds each kind of planted difference, and nothing where the books agree."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

import console.prove
from console.prove import KINDS, Proof, prove, prove_system
from ledger.book import LedgerLine
from ledger.journal import Kind
from simulators.book import BookLine, write_book
from simulators.errors import BookError, ControlError


def ledger(number: int, held: int = 0, posted: int = 0, **changes: Any) -> LedgerLine:
    line = LedgerLine(
        key=f"pos|0100|2026010203040{number}|000001|7",
        link="pos",
        kind=Kind.AUTHORIZATION,
        issuer="alpha",
        network_key=f"alpha|0100|010203040{number}|000001",
        currency="EUR",
        held_minor=held,
        posted_minor=posted,
        decided=True,
        decision="approved",
    )
    return msgspec.structs.replace(line, **changes)


def acquirer(line: LedgerLine, **changes: Any) -> BookLine:
    told = BookLine(
        link=line.link, key=line.key, currency="EUR", held_minor=line.held_minor, posted_minor=line.posted_minor
    )
    return msgspec.structs.replace(told, **changes)


def issuer(line: LedgerLine, **changes: Any) -> BookLine:
    return acquirer(line, **{"link": line.issuer, "key": line.network_key, **changes})


def test_books_that_agree_have_no_differences() -> None:
    lines = [ledger(1, held=500), ledger(2, posted=700), ledger(3, posted=-200), ledger(4)]
    proof = prove(lines, [[acquirer(line) for line in lines]], {"alpha": [issuer(line) for line in lines]})
    assert proof.differences == ()
    assert proof.agrees
    assert proof.document() == {"differences": [], "transactions": 4, "amounts": {"EUR": 1000}}


def test_lines_without_an_amount_may_be_missing_anywhere() -> None:
    other = BookLine(link="alpha", key="alpha|0100|x|1", currency="EUR", held_minor=0, posted_minor=0)
    assert prove([ledger(1)], [[acquirer(ledger(2, held=0))]], {"alpha": [other]}).agrees


def test_links_without_a_book_are_counted_and_not_compared() -> None:
    lines = [ledger(1, held=500), ledger(2, held=5, link="gateway")]
    proof = prove(lines, [[acquirer(lines[0])]], {"alpha": [issuer(line) for line in lines]})
    assert (proof.agrees, proof.unwitnessed) == (True, 1)


def test_a_book_speaks_for_its_own_acquirer_only() -> None:
    mine = ledger(1, held=500)
    by_hand = ledger(2, held=5, key="pos|0100|20260102030402|000001|8")
    proof = prove([mine, by_hand], [[acquirer(mine)]], {"alpha": [issuer(mine), issuer(by_hand)]})
    assert (proof.agrees, proof.unwitnessed) == (True, 1)


ONE = ledger(1, held=500)
PLANTED: list[tuple[str, str, list[LedgerLine], list[BookLine], dict[str, list[BookLine]], str]] = [
    ("undecided", "ledger", [ledger(1, decided=False)], [], {"alpha": []}, "no outcome yet"),
    ("no issuer", "ledger", [ledger(1, held=5, issuer="")], [], {}, "no issuer was asked"),
    ("no book", "issuer alpha", [ONE], [acquirer(ONE)], {}, "1 payments are not proved"),
    ("missing", "issuer alpha", [ONE], [acquirer(ONE)], {"alpha": []}, "5.00 EUR held and 0.00 EUR posted"),
    ("missing", "acquirer pos", [ONE], [acquirer(ledger(9))], {"alpha": [issuer(ONE)]}, "has no line"),
    ("amount", "issuer alpha", [ONE], [acquirer(ONE)], {"alpha": [issuer(ONE, held_minor=501)]}, "5.01 EUR held"),
    ("amount", "issuer alpha", [ledger(1)], [], {"alpha": [issuer(ONE)]}, "0.00 EUR held"),
    ("amount", "acquirer pos", [ONE], [acquirer(ONE, held_minor=0)], {"alpha": [issuer(ONE)]}, "acquirer pos says"),
    (
        "amount",
        "acquirer pos",
        [ONE],
        [acquirer(ONE, held_minor=0, posted_minor=500)],
        {"alpha": [issuer(ONE)]},
        "5.00 EUR posted",
    ),
    ("currency", "issuer alpha", [ONE], [], {"alpha": [issuer(ONE, currency="USD")]}, "5.00 USD held"),
    ("unsettled", "acquirer pos", [ONE], [acquirer(ONE, settled=False)], {"alpha": [issuer(ONE)]}, "does not know"),
    ("unsettled", "acquirer pos", [], [acquirer(ledger(1), settled=False)], {}, "does not know the end"),
    ("unknown", "issuer alpha", [], [], {"alpha": [issuer(ONE)]}, "the ledger has no line"),
    ("unknown", "acquirer pos", [], [acquirer(ONE)], {}, "the ledger has no line"),
    (
        "contradiction",
        "acquirer pos",
        [ONE],
        [acquirer(ONE), acquirer(ONE, held_minor=1)],
        {"alpha": [issuer(ONE)]},
        "two lines",
    ),
]


@pytest.mark.parametrize(("kind", "name", "lines", "acquirers", "issuers", "text"), PLANTED)
def test_each_planted_difference_is_found(
    kind: str,
    name: str,
    lines: list[LedgerLine],
    acquirers: list[BookLine],
    issuers: dict[str, list[BookLine]],
    text: str,
) -> None:
    [difference] = prove(lines, [acquirers], issuers).differences
    assert (difference.kind, difference.book) == (kind, name)
    assert text in difference.text


def test_each_kind_of_difference_is_planted() -> None:
    assert {row[0] for row in PLANTED} == set(KINDS)


def test_one_books_parts_are_put_together() -> None:
    lines = [ledger(1, held=1), ledger(2, held=2)]
    parts = [[acquirer(lines[0])], [acquirer(lines[1]), acquirer(lines[0])]]
    assert prove(lines, parts, {"alpha": [issuer(line) for line in lines]}).agrees


def test_a_running_system_is_asked_again_until_its_books_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_book(tmp_path / "pos.jsonl", [acquirer(ONE)])
    asked: list[Path] = []

    class Connection:
        async def close(self) -> None:
            asked.append(Path("closed"))

    async def connect(dsn: str) -> Connection:
        assert dsn == "postgresql://somewhere"
        return Connection()

    async def ledger_book(connection: Connection) -> list[LedgerLine]:
        return [ONE, ledger(2, held=3, link="gateway")]

    def ask_book(path: Path) -> list[BookLine]:
        asked.append(path)
        if len(asked) == 1:
            raise ControlError("not yet")
        return [issuer(ONE), issuer(ledger(2, held=3))]

    async def gateway_book() -> list[BookLine]:
        return [acquirer(ledger(2, held=3, link="gateway"))]

    monkeypatch.setattr(console.prove.asyncpg, "connect", connect)
    monkeypatch.setattr(console.prove, "book", ledger_book)
    monkeypatch.setattr(console.prove, "ask_book", ask_book)

    async def run(patience_s: float) -> Proof:
        return await prove_system(
            "postgresql://somewhere",
            issuer_sockets={"alpha": Path("alpha.sock")},
            book_directory=tmp_path,
            gateway_book=gateway_book,
            patience_s=patience_s,
        )

    impatient = asyncio.run(run(0.0))
    assert [difference.kind for difference in impatient.differences] == ["no book"]
    asked.clear()
    patient = asyncio.run(run(5.0))
    assert (patient.differences, patient.transactions, patient.unwitnessed) == ((), 2, 0)
    assert asked == [Path("alpha.sock"), Path("alpha.sock"), Path("closed")]


def test_a_broken_book_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pos.jsonl"
    write_book(path, [acquirer(ONE)])
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(BookError, match=r"pos\.jsonl: line 2"):
        console.prove.read_book(path)
