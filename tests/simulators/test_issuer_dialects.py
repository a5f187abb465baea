"""The whole message set through every dialect: an issuer's answers do not depend on the dialect of its peer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
import trio.testing

from messages.canonical import canonical_codec
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.framing import framing
from messages.message import Message
from messages.mti import response_mti
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.serve import make_issuer
from simulators.issuer.server import IssuerServer
from simulators.link_keys import LinkKeys
from simulators.network import MemberScenario, Network, NetworkScenario
from simulators.sealing import Sealing
from tests.simulators.samples import IMK, NOW, PAN, ZPK, about, chip_data, request
from tests.simulators.test_fault_bytes import Peer

DIALECTS = ("iso87-bcd", "iso87-ebcdic", "iso93-ascii", "iso93-binary", "iso2003-ascii")
FRAMES = framing("2-byte-be", 8192)
MAC_KEY = bytes(range(32))
SCENARIO = {"name": "alpha", "pin_key": "zpk", "mac_key": "mac", "cryptogram_key": "imk", "log_messages": False}
KEYS = {"zpk": ZPK, "mac": MAC_KEY, "imk": IMK}
PIN_BLOCK = LinkKeys(ZPK).pin_block("1234", PAN)[0].hex().upper()
# Further mandatory elements for a peer of later versions: place, capability, goods.
PLACE = {"e12": "050607", "e13": "0304", "e18": "5411", "e22": "051", "e43": "Demo Shop".ljust(38) + "DE"}


def payment(stan: int, amount: int = 1_000, mti: str = "0100", **changes: str) -> Message:
    return request(stan, amount, mti, **{**PLACE, **changes})


def bound(original: Message, stan: int, mti: str, amount: int, **changes: str) -> Message:
    return about(original, stan, mti, amount, **{**PLACE, **changes})


def management(stan: int, code: str, **elements: str) -> Message:
    more = {int(name[1:]): value for name, value in elements.items()}
    return Message(
        "0800", {7: "0304050607", 11: f"{stan:06d}", 12: "050607", 13: "0304", 32: "10001", 70: code, **more}
    )


HELD, PAID = payment(2, 2_000), payment(6, 3_000, "0200")
TOTALS = {74: f"{1:010d}", 76: f"{3:010d}", 86: f"{100:016d}", 88: f"{4_500:016d}", 97: "D" + f"{4_400:016d}"}
DAY: dict[str, Message] = {
    "sign-on": management(90, "001"),
    "echo": management(91, "301"),
    "cut-over": management(92, "201", e15="0304"),
    "with PIN and chip": payment(1, e52=PIN_BLOCK, e55=chip_data(t9F36="0001"), e22="051"),
    "hold": HELD,
    "more of it": bound(HELD, 3, "0100", 500),
    "verification": payment(4, 0),
    "inquiry": payment(5, 0, "0100", e3="310000"),
    "purchase": PAID,
    "too much": payment(7, 99_000, "0200"),
    "cash": payment(8, 1_000, "0200", e3="090000", e54="0040978D000000000400"),
    "refund": payment(9, 100, "0200", e3="200000"),
    "stand-in": payment(10, 700, "0120", e39="00", e38="123456"),
    "offline": payment(11, 800, "0220", e39="00", e38="123456"),
    "capture": bound(HELD, 12, "0220", 1_500, e60="P"),
    "last capture": bound(HELD, 13, "0220", 200, e60="F"),
    "part of the purchase": bound(PAID, 14, "0420", 3_000, e95=f"{1_000:012d}" + "0" * 12 + "C00000000" * 2),
    "all of it": bound(PAID, 15, "0400", 3_000),
    "its repeat": bound(PAID, 15, "0401", 3_000),
    "text": Message("0620", {7: "0304050607", 11: "000093", 12: "050607", 13: "0304", 32: "10001", 48: "hello"}),
    "wrong MAC": payment(16),
    "totals": Message(
        "0520", {7: "0304050607", 11: "000094", 12: "050607", 13: "0304", 15: "0304", 32: "10001", 49: "978", **TOTALS}
    ),
}
# Totals of 1987 have no counterpart in 2003, whose totals are composites: `messages.translation`.
WITHOUT_TOTALS = frozenset({"iso2003-ascii"})
COMPARED = (2, 3, 4, 11, 37, 38, 39, 54, 55, 74, 76, 86, 88)


def codec_of(dialect: str) -> Codec:
    return canonical_codec(load_dialect(dialect), lambda: NOW)


def played(
    dialect: str, make: Callable[[dict[str, Any]], IssuerServer], *, totals: bool, started: bool = True
) -> list[Message]:
    """A day in a dialect: its answers, then what the party starts; reconciliation only with `totals`."""
    codec = codec_of(dialect)
    sealing = Sealing(codec, LinkKeys(mac=MAC_KEY), management=False)
    heard: list[Message] = []

    async def main() -> None:
        peer, server = Peer(), make({**SCENARIO, "dialect": dialect})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, peer)
            nursery.start_soon(server.run_started)
            await trio.testing.wait_all_tasks_blocked()
            for name, message in DAY.items():
                if name == "totals" and not totals:
                    continue
                data = sealing.encode(message, spoiled="wrong-mac" if name == "wrong MAC" else "")
                peer.feed(FRAMES.encode(data))
                await trio.testing.wait_all_tasks_blocked()
            if started:
                server.chargeback("606300000011", 300)
                server.list_card(PAN, "add")
                server.manage("cut-over", "0305")
                if totals:
                    server.reconcile("0304", "EUR")
                await trio.testing.wait_all_tasks_blocked()
            for frame in FRAMES.decoder().receive(peer.bytes):
                message = codec.decode(frame)
                assert sealing.problem(message, frame) == ""
                heard.append(message)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return heard


def issuer_server(values: dict[str, Any]) -> IssuerServer:
    made = IssuerScenario(**values, default=AccountRule(balance_minor=50_000))
    return IssuerServer(make_issuer(made, KEYS), made, clock=lambda: NOW)


def network_server(values: dict[str, Any]) -> IssuerServer:
    rest = {name: value for name, value in values.items() if name != "cryptogram_key"}
    member = MemberScenario(
        name="north", prefixes=("4",), default=AccountRule(balance_minor=50_000), cryptogram_key="imk"
    )
    made = NetworkScenario(**rest, issuer=(member,))
    return IssuerServer(Network(made, KEYS), made, clock=lambda: NOW)


SERVERS = {"issuer": issuer_server, "network": network_server}


def comparable(message: Message) -> tuple[str, dict[int, str]]:
    return message.mti, {number: message.elements[number] for number in COMPARED if number in message.elements}


@pytest.mark.parametrize("kind", SERVERS)
def test_the_day_as_it_should_be(kind: str) -> None:
    answers = played("iso87-ascii", SERVERS[kind], totals=True, started=False)
    codes = dict(zip(DAY, (answer.elements[39] for answer in answers), strict=True))
    assert {name: code for name, code in codes.items() if code != "00"} == {"too much": "51", "wrong MAC": "63"}
    assert [answer.mti for answer in answers] == [response_mti(message.mti) for message in DAY.values()]
    told = dict(zip(DAY, answers, strict=True))
    assert told["with PIN and chip"].elements[55].startswith("91")
    assert told["inquiry"].elements[54].startswith("0001978C")
    assert told["totals"].elements[66] in ("1", "2")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", SERVERS)
def test_the_day_is_the_same_in_every_dialect(kind: str, dialect: str) -> None:
    totals = dialect not in WITHOUT_TOTALS
    expected = [comparable(message) for message in played("iso87-ascii", SERVERS[kind], totals=totals)]
    heard = [comparable(message) for message in played(dialect, SERVERS[kind], totals=totals)]
    for wanted, found in zip(expected, heard, strict=True):
        assert found == wanted


@pytest.mark.parametrize("dialect", ["iso93-ascii", "iso2003-ascii"])
def test_a_message_that_breaks_its_dialects_rules_is_answered_with_30(dialect: str) -> None:
    codec = codec_of(dialect)

    async def main() -> list[Message]:
        peer = Peer()
        made = IssuerScenario(name="alpha", dialect=dialect, default=AccountRule(), log_messages=False)
        server = IssuerServer(make_issuer(made, {}), made, clock=lambda: datetime(2026, 3, 4, tzinfo=UTC))
        broken = payment(1)
        del broken.elements[4], broken.elements[3]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, peer)
            peer.feed(FRAMES.encode(codec.encode(broken)) + FRAMES.encode(codec.encode(payment(2))))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return [codec.decode(frame) for frame in FRAMES.decoder().receive(peer.bytes)]

    answers = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [answer.elements[39] for answer in answers] == ["30", "00"]
