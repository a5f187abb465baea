"""Messages of peers that cannot be served: a clear answer where one is possible, and the link stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import msgspec
import pytest
import structlog
import trio

from hsm.commands import GenerateMac
from messages.codec import Codec
from messages.currencies import WITHDRAWN
from messages.dialect import Dialect, load_dialect
from messages.errors import DecodeError, RuleViolation
from messages.framing import framing
from messages.message import Message
from switch.links.mac import LinkMac
from switch.links.network import Wire
from switch.salvage import reason_element, reason_told, salvage
from tests.simulation.world import World
from tests.switch.desk import VISA, in_world, purchase, surrogate, told


@pytest.fixture
def events() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def raw(wire: Wire, payload: bytes, wait_s: float = 5.0) -> Message | None:
    """Send bytes in a frame; the answer, None where none comes."""
    codec = Codec(load_dialect("iso87-ascii"))
    await wire.send(framing().encode(payload))
    with trio.move_on_after(wait_s):
        data = await wire.receive()
        return codec.decode(framing().decoder().receive(data)[0]) if data else None
    return None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"de3": ""}, "30"),
        ({"de4": ""}, "30"),
        ({"de49": ""}, "30"),
        ({"de2": ""}, "30"),
        ({"de32": "", "de41": ""}, "30"),
        ({"de49": "000"}, "30"),
        ({"de7": "1332010101"}, "30"),
        ({"de4": "000000000000"}, "13"),
        ({"de3": "990000"}, "12"),
        ({"mti": "0300"}, "12"),
        ({"mti": "0220", "de3": ""}, "30"),
        ({"mti": "0400"}, "30"),
        ({"de2": "9999999999999999"}, "14"),
    ],
)
def test_wrong_content_is_answered(changes: dict[str, str], code: str) -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(**{"de2": surrogate(world), **changes}))
        assert answer is not None and answer.elements[39] == code
        assert (answer.elements.get(11), answer.elements.get(4)) == (
            "000001",
            changes.get("de4", "000000002500") or None,
        )
        assert len(world.issuers["alpha"].issuer.entries) == 0
        good = await told(world, purchase("000002", de2=surrogate(world)))
        assert good is not None and good.elements[39] == "00"

    in_world(script)


def test_the_answer_to_a_withdrawn_currency_says_so_in_de_44() -> None:
    async def script(world: World) -> None:
        answer = await told(world, purchase(de2=surrogate(world), de49="975"))
        assert answer is not None
        assert (answer.elements[39], answer.elements[44]) == ("30", "DE 49: BGN is not in use")
        assert len(world.issuers["alpha"].issuer.entries) == 0

    in_world(script)


def test_a_forced_advice_in_a_currency_withdrawn_since_its_sale_is_booked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The money has moved; a new sale, a sale of a later day and one of last year are refused."""
    monkeypatch.setitem(WITHDRAWN, "PLN", (date(2026, 3, 12), "EUR"))  # it is 2026-03-14

    async def script(world: World) -> None:
        sale = {"mti": "0220", "de2": surrogate(world), "de49": "985", "de39": "00"}
        for stan, changes, code in (
            ("000001", {"de13": "0312"}, "00"),
            ("000002", {"de13": "0313"}, "30"),
            ("000003", {"de13": "0401"}, "30"),
            ("000004", {"mti": "0200", "de13": "0312", "de39": ""}, "30"),
        ):
            answer = await told(world, purchase(stan, **{**sale, **changes}))
            assert answer is not None and answer.elements[39] == code, stan
        await trio.sleep(5)  # the issuer gets it as a stored advice
        entries = world.issuers["alpha"].issuer.entries.entries()
        assert [(entry.currency, entry.posted_minor) for entry in entries] == [("PLN", 2_500)]

    in_world(script)


def test_a_broken_element_is_answered_30_and_the_link_stays(events: list[structlog.typing.EventDict]) -> None:
    async def script(world: World) -> None:
        payload = Codec(load_dialect("iso87-ascii")).encode(purchase())
        broken = payload.replace(b"TERM0001", b"TERM000\xff")
        wire = await world.network.dial("gateway:1", 1.0)
        answer = await raw(wire, broken)
        assert answer is not None
        assert (answer.mti, answer.elements[39], answer.elements[11]) == ("0210", "30", "000001")
        assert answer.elements[44] == "DE 41 expected printable"  # all that it has room for
        good = await raw(wire, Codec(load_dialect("iso87-ascii")).encode(purchase("000002", de2=surrogate(world))))
        assert good is not None and good.elements[39] == "00"
        assert world.counted("undecodable", "gateway") == 1

    in_world(script)
    (event,) = [event for event in events if event["event"] == "undecodable"]
    assert "DE 41" in event["error"]
    assert VISA.pan not in repr(events)
    assert VISA.pan.encode().hex() not in repr(events).replace(" ", "")


@pytest.mark.parametrize("payload", [b"", b"02", b"XXXXXXXXXXXXXXXXXXXX", b"0200", b"0200" + b"F" * 32, b"\x00" * 40])
def test_bytes_that_are_no_message_get_no_answer_and_the_link_stays(payload: bytes) -> None:
    async def script(world: World) -> None:
        wire = await world.network.dial("gateway:1", 1.0)
        assert await raw(wire, payload, 1.0) is None
        good = await raw(wire, Codec(load_dialect("iso87-ascii")).encode(purchase(de2=surrogate(world))))
        assert good is not None and good.elements[39] == "00"

    in_world(script)


def test_lost_framing_closes_the_link_with_a_reason(events: list[structlog.typing.EventDict]) -> None:
    async def script(world: World) -> None:
        wire = await world.network.dial("gateway:1", 1.0)
        await wire.send(b"\xff\xff" + b"GET / HTTP/1.1\r\n")
        assert await wire.receive() == b""
        good = await told(world, purchase(de2=surrogate(world)))
        assert good is not None and good.elements[39] == "00"

    in_world(script)
    reasons = [event["reason"] for event in events if event["event"] == "disconnected" and "reason" in event]
    assert any("framing lost" in reason for reason in reasons)


def test_a_wrong_or_missing_mac_is_63() -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        encoded = client.acquirer.encode(purchase())
        wire = await world.network.dial("pos:1", 1.0)
        wrong = encoded[:-1] + (b"0" if encoded[-1:] != b"0" else b"1")
        missing = Codec(load_dialect("iso87-ascii")).encode(purchase())
        nothing_to_pay = purchase()
        nothing_to_pay.elements[4] = "000000000000"
        encoded = client.acquirer.encode(nothing_to_pay)
        wrong_twice = encoded[:-1] + (b"0" if encoded[-1:] != b"0" else b"1")
        for payload in (wrong, missing, wrong_twice):
            answer = await raw(wire, payload)
            assert answer is not None and answer.elements[39] == "63"
        assert world.journal._intents == {}

    in_world(script)


def test_salvage_reads_up_to_the_fault_in_every_dialect() -> None:
    for name in ("iso87-ascii", "iso87-bcd", "iso87-ebcdic"):
        dialect = load_dialect(name)
        codec = Codec(dialect)
        payload = codec.encode(purchase())
        broken = payload[:-20]
        with pytest.raises(DecodeError) as caught:
            codec.decode(broken)
        message = salvage(codec, dialect, broken, caught.value)
        assert message is not None
        assert (message.mti, message.elements[7], message.elements[11]) == ("0200", "0314092653", "000001")


def test_what_was_wrong_is_told_as_far_as_the_dialect_has_room() -> None:
    dialect = load_dialect("iso87-ascii")
    error = DecodeError("DE 4", 17, "expected 12 digits")
    assert reason_told(dialect, error) == {44: "DE 4 expected 12 digits"}
    element = dialect.elements[44]

    def with_44(**changes: object) -> Dialect:
        changed = {**dialect.elements, 44: msgspec.structs.replace(element, **changes)}
        return msgspec.structs.replace(dialect, elements=changed)

    other = DecodeError("55.9F26", 3, "expected 8 bytes; got 7")
    assert reason_told(with_44(kind="an"), other) == {44: "55 9F26 expected 8 bytes"}
    fixed = reason_told(with_44(length_kind=0), error)
    assert fixed == {44: "DE 4 expected 12 digits  "}
    assert reason_told(with_44(kind="n"), error) == {}
    without = {number: element for number, element in dialect.elements.items() if number != 44}
    assert reason_told(msgspec.structs.replace(dialect, elements=without), error) == {}


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("DE 4 is missing, it is needed where DE 3 begins with 00", "DE 4 is missing"),
        ("DE 15: over a day ahead", "DE 15: over a day ahead"),
        ("DE 48 has more characters than its length", "DE 48 has more characters"),
        ("x" * 40, "x" * 25),
    ],
)
def test_a_reason_without_room_is_shortened_to_whole_words(reason: str, text: str) -> None:
    assert reason_element(load_dialect("iso87-ascii"), reason) == {44: text}


def test_what_breaks_a_rule_is_salvaged_whole() -> None:
    dialect = load_dialect("iso87-ascii")
    for changes, salvaged in (({}, True), ({"de11": ""}, False)):
        message = purchase(**changes)
        error = RuleViolation("DE 49", "mandatory", message)
        assert (salvage(Codec(dialect), dialect, b"", error) is message) is salvaged


@pytest.mark.parametrize(("key", "sealed"), [("zak-beta", True), ("zak-alpha", False)])
def test_what_an_issuer_starts_and_cannot_be_read_is_answered_30_under_its_mac(key: str, sealed: bool) -> None:
    async def script(world: World) -> None:
        server = world.issuers["beta"]
        (line,) = server._lines
        chargeback = LinkMac.with_mac(Message("0422", {7: "0314092655", 11: "000777", 41: "TERM0001"}))
        payload = bytearray(server._codec.encode(chargeback))
        payload[server._codec.offset(chargeback, 41)] = 0xFF
        data = server._codec.mac_input(bytes(payload))[0]
        made = await world.hsm.mac(GenerateMac(key=key, data=data))
        broken = server._codec.replace_mac(bytes(payload), made.mac)
        heard: list[Message] = []
        server.issuer.receive = lambda message, now: heard.append(message) or []  # type: ignore[method-assign,func-returns-value]
        await line.wire.send(framing().encode(broken))
        await trio.sleep(1.0)
        answers = [(message.mti, message.elements[39], message.elements[11]) for message in heard]
        # Without the issuer's MAC the answer has none either, and this issuer takes no notice of it.
        assert answers == ([("0432", "30", "000777")] if sealed else [])
        assert world.counted("undecodable", "beta") == 1

    in_world(script)


def test_an_unknown_message_from_an_issuer_is_answered_12() -> None:
    async def script(world: World) -> None:
        server = world.issuers["alpha"]
        wire = server._lines[0].wire
        await wire.send(framing().encode(server._sealing.encode(purchase(mti="0300"))))
        await trio.sleep(1.0)
        assert world.counted("unexpected", "alpha") == 1
        assert server.issuer.stats["0310"] == 1

    in_world(script)
