"""Links whose peer uses another version of the standard: native bytes outside, canonical messages inside."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio

from messages.canonical import canonical_codec
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.header import read_header
from messages.message import Message
from switch.config import switch_config
from switch.links.mac import LinkMac
from switch.meters import Meters
from switch.stages.answer import answer_message
from tests.simulation.agreement import differences
from tests.simulation.world import TABLE, World
from tests.switch.desk import POOR, VISA, in_world
from tests.switch.links.peers import NO_HSM, Desk, Peer, request, run, until

LATER = ["iso93-ascii", "iso93-binary", "iso2003-ascii"]
TIMES = {"iso2003-ascii": "20260314092653"}  # DE 12; 1993 has two digits of the year


def digit(dialect: str) -> str:
    return "2" if "2003" in dialect else "1"


def action(dialect: str, code: str) -> str:
    """DE 39: 2003 has four digits, of which the second is the group within the first."""
    return {"116": "1016", "904": "9104", "800": "8000"}[code] if "2003" in dialect else code


def terminal(dialect: str, name: str) -> str:
    return name.ljust(16 if "2003" in dialect else 8)


def stan(dialect: str, number: int) -> str:
    return f"{number:0{12 if '2003' in dialect else 6}d}"


def native(dialect: str, mti: str, number: int, **more: str) -> Message:
    elements = {11: stan(dialect, number), 12: TIMES.get(dialect, "260314092653")}
    elements.update({int(name[2:]): value for name, value in more.items()})
    return Message(digit(dialect) + mti, elements)


@pytest.mark.parametrize("dialect", LATER)
def test_network_management_of_another_version(dialect: str) -> None:
    """Sign-on, sign-off and echo are function codes there, and DE 39 an action code."""

    async def script() -> None:
        desk = Desk()
        port = desk.port(dialect=dialect, must_sign_on=True)
        async with trio.open_nursery() as nursery:
            await port.listen()
            nursery.start_soon(port.run)
            peer = Peer(await desk.memory.dial("port:1", 1.0), dialect)
            for number, (function, up) in enumerate((("831", False), ("801", True), ("802", False)), 1):
                answer = await peer.asked(native(dialect, "804", number, de24=function))
                assert (answer.mti, answer.elements[11]) == (digit(dialect) + "814", stan(dialect, number))
                assert answer.elements[12] == TIMES.get(dialect, "260314092653")
                assert answer.elements[39] == action(dialect, "800")
                assert (port.session is not None) is up
            nursery.cancel_scope.cancel()

    run(script)


def purchase(dialect: str, number: int, **changes: str) -> Message:
    amount = {"iso2003-ascii": "9782000000001000"}.get(dialect, "000000001000")
    elements = {"de2": "4242424242424242", "de3": "000000", "de4": amount, "de32": "10001"}
    elements["de41"] = terminal(dialect, "TERM0001")
    if "2003" not in dialect:
        elements["de49"] = "978"
    return native(dialect, "200", number, **{k: v for k, v in {**elements, **changes}.items() if v})


@pytest.mark.parametrize("dialect", LATER)
def test_a_request_is_canonical_inside_and_its_answer_native_outside(dialect: str) -> None:
    async def script() -> None:
        desk = Desk()
        port = desk.port(dialect=dialect)
        async with trio.open_nursery() as nursery:
            await port.listen()
            nursery.start_soon(port.run)
            peer = Peer(await desk.memory.dial("port:1", 1.0), dialect)
            await peer.send(purchase(dialect, 7))
            await until(lambda: desk.served)
            message = desk.served[0][1]
            assert (message.mti, message.elements[4], message.elements[49]) == ("0200", "000000001000", "978")
            assert (message.elements[7], message.elements[11]) == ("0314092653", "000007")
            desk.answer(code="51")
            answer = await peer.receive()
            assert (answer.mti, answer.elements[11]) == (digit(dialect) + "210", stan(dialect, 7))
            assert answer.elements[39] == action(dialect, "116")  # not sufficient funds
            nursery.cancel_scope.cancel()

    run(script)


@pytest.mark.parametrize("dialect", LATER)
def test_what_breaks_a_rule_of_the_dialect_is_told_so(dialect: str) -> None:
    """904 is the action code of a format error, and DE 44 says which, where it is text."""

    async def script() -> None:
        desk = Desk()
        port = desk.port(dialect=dialect)
        async with trio.open_nursery() as nursery:
            await port.listen()
            nursery.start_soon(port.run)
            peer = Peer(await desk.memory.dial("port:1", 1.0), dialect)
            answer = await peer.asked(purchase(dialect, 9, de2=""))
            assert answer.mti == digit(dialect) + "210" and answer.elements[39] == action(dialect, "904")
            _, told, reason = desk.refused[0]
            assert reason == "rule" and ("2003" in dialect or told[44].startswith("DE 2 is missing"))
            assert not desk.served and port.sessions[0].open
            nursery.cancel_scope.cancel()

    run(script)


@pytest.mark.parametrize("dialect", LATER)
def test_an_answer_that_does_not_echo_is_none(dialect: str) -> None:
    async def script() -> None:
        desk = Desk()
        line = desk.line(dialect=dialect, sign_on=False)
        acceptor = await desk.memory.listen("issuer:1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            peer = Peer(await acceptor.accept(), dialect)
            await until(lambda: line.session)

            async def exchange() -> None:
                answer = await line.session.exchange(request(5), trio.current_time() + 10.0)
                assert answer.mti == "0210"
                codes.append(answer.elements[39])

            codes: list[str] = []
            async with trio.open_nursery() as asking:
                asking.start_soon(exchange)
                asked = await peer.receive()
                assert (asked.mti, asked.elements[11]) == (digit(dialect) + "200", stan(dialect, 5))
                echoed = {number: asked.elements[number] for number in (11, 12, 32, 41) if number in asked.elements}
                mti = digit(dialect) + "210"
                code = "0" * peer.codec.dialect.elements[39].max_length
                await peer.send(Message(mti, {**echoed, 39: code, 41: terminal(dialect, "TERM0002")}))
                await trio.sleep(1.0)
                assert not codes and desk.meters.value("answers_refused", "alpha") == 1
                await peer.send(Message(mti, {**echoed, 39: code}))
            assert codes == ["00"]
            nursery.cancel_scope.cancel()

    run(script)


@pytest.mark.parametrize(
    ("dialect", "elements", "element"),
    [
        ("iso87-ascii", {3: "000000", 7: "0314092653", 11: "000001"}, 64),
        ("iso87-ascii", {7: "0314092653", 11: "000001", 90: "0" * 42}, 128),
        ("iso93-ascii", {7: "0314092653", 11: "000001", 90: "0200000001031409265300000010001" + "0" * 11}, 64),
        ("iso93-binary", {7: "0314092653", 11: "000001", 1012: "260314092653"}, 64),
        ("iso93-ascii", {7: "0314092653", 11: "000001", 102: "DE0012345678"}, 128),
    ],
)
def test_the_mac_stands_behind_what_is_on_the_wire(dialect: str, elements: dict[int, str], element: int) -> None:
    """DE 90 of 1987 is DE 56 in 1993, and what only 1993 has is numbered above 1000 inside."""

    async def script() -> None:
        codec = Desk().port(dialect=dialect).codec
        mac = LinkMac("x", "zak-x", False, codec, NO_HSM, Meters())
        encoded, covered = mac.unsealed(Message("0420", elements))
        assert encoded.startswith(covered)
        assert read_header(codec.dialect, encoded).numbers[-1] == element

    run(script)


@pytest.mark.parametrize("issuer", ["iso87-ebcdic", "iso93-ascii", "iso93-binary", "iso2003-ascii"])
@pytest.mark.parametrize("acquirer", ["iso87-ascii", "iso93-binary"])
def test_an_acquirer_of_one_version_pays_at_an_issuer_of_another(acquirer: str, issuer: str) -> None:
    """A purchase, a capture, a reversal and a chargeback, PINs and MACs on both sides; the books agree."""
    speaks = {"pos": acquirer, "gateway": "iso87-ascii", "alpha": issuer, "beta": "iso87-bcd"}
    table = {
        **TABLE,
        **{side: [{**row, "dialect": speaks[row["name"]]} for row in TABLE[side]] for side in ("acquirer", "issuer")},
    }

    async def script(world: World) -> None:
        client, server, now = world.clients["pos"], world.issuers["alpha"], world.clock.now
        paid = await client.perform(client.acquirer.purchase(VISA, 1_000, "EUR", now()))
        held = await client.perform(client.acquirer.authorization(VISA, 2_000, "EUR", now()))
        taken = await client.perform(client.acquirer.capture(held, 1_500, now()))
        undone = await client.perform(client.acquirer.purchase(VISA, 3_000, "EUR", now()))
        reversed_ = await client.perform(client.acquirer.reversal(undone, now()))
        poor = await client.perform(client.acquirer.purchase(POOR, 9_999_999, "EUR", now()))
        assert [r.response_code for r in (paid, held, taken, undone, reversed_)] == ["00"] * 5
        assert poor.response_code not in ("00", "30", "96")
        server.chargeback(server.issuer.entries.entries()[0].key)  # type: ignore[attr-defined]
        await trio.sleep(60.0)
        assert differences(world) == []
        assert world.counted("undecodable") == world.counted("answers_refused") == 0

    in_world(script, config=switch_config(table))


@pytest.mark.parametrize(
    ("dialect", "numbers"),
    [
        ("iso93-ascii", {11: "000001", 12: "251231235959"}),  # the clock of this peer is still in last year
        ("iso2003-ascii", {11: "700000000001", 12: "20251231235959"}),
    ],
)
def test_an_answer_has_the_numbers_that_its_peer_gave_year_and_all(dialect: str, numbers: dict[int, str]) -> None:
    codec = canonical_codec(load_dialect(dialect), lambda: datetime(2026, 9, 1, tzinfo=UTC))
    asked = native(dialect, "804", 1, de24="831")
    asked.elements.update(numbers)
    answer = answer_message(codec.decode(Codec(codec.dialect).encode(asked)), {39: "00"}, None, "")
    told = Codec(codec.dialect).decode(codec.encode(answer))
    assert {number: told.elements[number] for number in numbers} == numbers
