"""The issuer's book on file: its content survives a restart."""

from __future__ import annotations

import pytest

from messages.mti import response_mti
from simulators.issuer import Issuer
from simulators.issuer.accounts import AccountRule
from simulators.issuer.book import IssuerBook
from simulators.issuer.scenario import IssuerScenario
from tests.simulators.samples import NOW, PAN, about, request, standing, told


def recorded() -> tuple[Issuer, bytes]:
    """An issuer after a day, and the records of that day."""
    core = Issuer(issuer_scenario(), book=IssuerBook("alpha", keep_records=True))
    held, paid, late = request(1, 900), request(2, 500, "0200"), request(7)
    records = b""
    for message in (held, paid, about(held, 3, "0220", 300, e60="P"), about(late, 4, "0420")):
        told(core, message)
        records += core.entries.drain_records()
    core.chargeback("606300000002", NOW, 100)
    return core, records + core.entries.drain_records()


def issuer_scenario() -> IssuerScenario:
    return IssuerScenario(name="alpha", default=AccountRule(balance_minor=10_000))


def test_a_restored_book_says_the_same() -> None:
    core, records = recorded()
    book = IssuerBook("alpha")
    book.restore(records)
    assert list(book.lines()) == list(core.book())
    assert PAN.encode() not in records
    assert core.entries.drain_records() == b""


def test_a_restored_book_answers_repeats_captures_and_late_originals() -> None:
    _, records = recorded()
    book = IssuerBook("alpha")
    book.restore(records)
    again = Issuer(issuer_scenario(), book=book)
    held = request(1, 900)
    assert told(again, held) == "00"
    assert told(again, about(held, 3, "0221", 300, e60="P")) == "00"
    assert told(again, request(7)) == "12"
    assert standing(again)[:2] == [(600, 300), (0, 500)]
    [chargeback] = again.open_chargebacks()
    chargeback.mti = response_mti("0422")
    chargeback.elements[39] = "00"
    again.receive(chargeback, NOW)
    assert standing(again)[1] == (0, 400)


def test_only_the_last_line_may_be_cut_short() -> None:
    _, records = recorded()
    assert IssuerBook("alpha").restore(records[:-9]) == 3
    with pytest.raises(ValueError, match="line 1"):
        IssuerBook("alpha").restore(records[9:])
