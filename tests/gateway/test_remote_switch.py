"""A gateway whose switch is on another machine: mutual TLS on each connection, a MAC on each message, both ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from console.gateway_mac import GatewayMac
from gateway.acquirer_link import AcquirerLink
from gateway.errors import AnswerOverdue, LinkDown
from gateway.metrics import Metrics
from gateway.switch_access import Access
from hsm.software import SoftwareHsm, SoftwareKey
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.exchange import de7
from messages.framing import framing
from messages.message import Message
from messages.mti import is_response, response_mti
from switch.links.credentials import Credentials
from switch.links.tls_context import TlsSettings, context_of
from tests.switch.links.certificates import Certificate, Forge

DIALECT = load_dialect("iso87-ascii")
KEY = SoftwareKey("mac", bytes(range(32)))
EVENTS: list[str] = []  # of the last run
OTHER_KEY = SoftwareKey("mac", bytes(range(1, 33)))


def mac_of(key: SoftwareKey | None = KEY) -> tuple[GatewayMac, SoftwareHsm]:
    hsm = SoftwareHsm({"zak-gateway": key} if key else {}, seed=1)
    return GatewayMac("gateway", "zak-gateway", DIALECT, hsm, "switch"), hsm


class Switch:
    """The other end: it seals with `mac` (None: no MAC) and notes all that arrives, with the verdict on its MAC."""

    def __init__(self, mac: GatewayMac | None) -> None:
        self.mac = mac
        self.judge, _ = mac_of()
        self.codec = Codec(DIALECT)
        self.received: list[tuple[Message, str]] = []
        self.sends: Callable[[Message], bool] = lambda message: True  # which requests are answered
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        decoder = framing().decoder()
        try:
            while data := await reader.read(65_536):
                for payload in decoder.receive(data):
                    message = self.codec.decode(payload)
                    self.received.append((message, await self.judge.problem(message, payload)))
                    if not is_response(message.mti) and self.sends(message):
                        echoed = {
                            number: message.elements[number] for number in (7, 11, 32) if number in message.elements
                        }
                        await self.send(Message(response_mti(message.mti), {**echoed, 39: "00"}), writer)
        except OSError:
            pass
        finally:
            writer.close()

    async def send(self, message: Message, writer: asyncio.StreamWriter | None = None) -> None:
        payload = self.codec.encode(message) if self.mac is None else await self.mac.sealed(message)
        (writer or self.writers[-1]).write(framing().encode(payload))


class Place:
    """Certificates of both ends."""

    def __init__(self, directory: Path) -> None:
        self.forge = Forge(directory)
        self.ca = self.forge.make("our CA", authority=True)
        self.switch = self.forge.make("switch.example", self.ca)
        self.gateway = self.forge.make("gateway.example", self.ca)

    def tls(self, **changes: Any) -> TlsSettings:
        own = self.gateway
        fields = {"certificate": own.certificate, "private_key": own.private_key, "ca": self.ca.certificate}
        return TlsSettings(**{**fields, "server_name": "switch.example", **changes})

    def context(self, shown: Certificate | None = None) -> ssl.SSLContext:
        own = shown or self.switch
        served = TlsSettings(certificate=own.certificate, private_key=own.private_key, ca=self.ca.certificate)
        return context_of(served, serves=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@asynccontextmanager
async def linked(
    place: Place, switch: Switch, mac: GatewayMac, tls: TlsSettings | None = None, shown: Certificate | None = None
) -> AsyncIterator[tuple[AcquirerLink, list[Message]]]:
    """A link of one connection, and the advices that it hands on."""
    server = await asyncio.start_server(switch.serve, "127.0.0.1", 0, ssl=place.context(shown))
    advices: list[Message] = []

    async def take(message: Message) -> str | None:
        advices.append(message)
        return "00"

    settings = tls or place.tls()
    credentials = Credentials("gateway", settings, serves=False, server_name=settings.server_name)
    access = Access(("127.0.0.1", server.sockets[0].getsockname()[1]), credentials, mac)
    link = AcquirerLink(
        "gateway", access, Codec(DIALECT), take, Metrics(),
        connections=1, acquirer_id="400001", max_in_flight=10, echo_s=60.0,
    )  # fmt: skip
    running = asyncio.create_task(link.run())
    try:
        yield link, advices
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()
        for writer in switch.writers:
            writer.transport.abort()


def run(script: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20.0):
            await script()

    with capture_logs() as events:
        asyncio.run(bounded())
    EVENTS[:] = [str(event["event"]) for event in events]


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def purchase(stan: str = "000001") -> Message:
    elements = {2: "9900000000000042", 3: "000000", 4: "000000002500", 7: de7(datetime.now(UTC)), 11: stan}
    return Message("0200", {**elements, 32: "400001", 41: "ECOM0001", 42: "DEMOSHOP".ljust(15), 49: "978"})


def counted(link: AcquirerLink, name: str, reason: str) -> float:
    return link.metrics.registry.get_sample_value(f"gateway_{name}_total", {"reason": reason}) or 0.0


def test_every_message_has_its_mac_network_management_too(place: Place) -> None:
    async def script() -> None:
        mac, _ = mac_of()
        switch = Switch(mac)
        async with linked(place, switch, mac) as (link, advices):
            assert await link.wait_signed_on(5.0)
            answer = await link.exchange(purchase(), 5.0)
            assert answer.elements[39] == "00"
            at = de7(datetime.now(UTC))
            await switch.send(Message("0800", {7: at, 11: "000009", 70: "301"}))
            await switch.send(Message("0422", {7: at, 11: "000010", 4: "000000002500", 32: "400001", 49: "978"}))
            await until(lambda: {"0810", "0432"} <= {message.mti for message, _ in switch.received})
            assert [message.mti for message in advices] == ["0422"]
            assert link.metrics.registry.get_sample_value("gateway_certificate_ends_seconds") > 86_400  # type: ignore[operator]
        mtis = [message.mti for message, _ in switch.received]
        assert mtis[:2] == ["0800", "0200"] and mtis[-1] == "0800"  # the last one signs off
        assert {problem for _, problem in switch.received} == {""}

    run(script)


@pytest.mark.parametrize(("key", "reason"), [(None, "mac_missing"), (OTHER_KEY, "mac_invalid")])
def test_nothing_of_a_switch_without_the_key_is_believed(place: Place, key: SoftwareKey | None, reason: str) -> None:
    async def script() -> None:
        mac, _ = mac_of()
        switch = Switch(mac)
        async with linked(place, switch, mac) as (link, advices):
            assert await link.wait_signed_on(5.0)
            switch.mac = mac_of(key)[0] if key else None
            with pytest.raises(AnswerOverdue):
                await link.exchange(purchase(), 0.3)
            at = de7(datetime.now(UTC))
            await switch.send(Message("0800", {7: at, 11: "000009", 70: "301"}))
            await switch.send(Message("0422", {7: at, 11: "000010", 4: "000000002500", 32: "400001", 49: "978"}))
            await until(lambda: counted(link, "mac_failures", reason) == 3)
            assert not advices and not [message for message, _ in switch.received if is_response(message.mti)]
            switch.mac = mac
            assert (await link.exchange(purchase("000002"), 5.0)).elements[39] == "00"

    run(script)


@pytest.mark.parametrize("key", [None, OTHER_KEY], ids=["none", "other"])
def test_a_sign_on_that_is_answered_without_the_key_is_none(place: Place, key: SoftwareKey | None) -> None:
    async def script() -> None:
        mac, _ = mac_of()
        switch = Switch(mac_of(key)[0] if key else None)
        async with linked(place, switch, mac) as (link, _):
            await until(lambda: counted(link, "mac_failures", "mac_invalid" if key else "mac_missing"))
            assert not link.signed_on
            with pytest.raises(LinkDown):
                await link.exchange(purchase(), 1.0)

    run(script)


@pytest.mark.parametrize("case", ["another authority", "another name", "another pin"])
def test_whoever_is_not_the_switch_gets_no_message(place: Place, case: str) -> None:
    async def script() -> None:
        mac, _ = mac_of()
        tls, shown, reason = place.tls(), None, "tls"
        if case == "another authority":
            shown = place.forge.make("switch.example", place.forge.make("their CA", authority=True))
        elif case == "another name":
            shown = place.forge.make("north.example", place.ca)
        else:
            tls, reason = place.tls(pins=(place.gateway.pin,)), "wrong_pin"
        switch = Switch(mac)
        async with linked(place, switch, mac, tls, shown) as (link, _):
            await until(lambda: counted(link, "dials_failed", reason) >= 2)
            assert not link.signed_on and not switch.received

    run(script)


def test_a_switch_that_does_not_take_our_certificate_is_counted(place: Place) -> None:
    async def script() -> None:
        mac, _ = mac_of()
        other = place.forge.make("gateway.example", place.forge.make("their CA", authority=True))
        tls = place.tls(certificate=other.certificate, private_key=other.private_key)
        switch = Switch(mac)
        async with linked(place, switch, mac, tls) as (link, _):
            # In TLS 1.3 our handshake is over before the switch looks at our certificate.
            await until(lambda: counted(link, "dials_failed", "not_signed_on") >= 2)
            assert not link.signed_on and not switch.received

    run(script)


def test_without_the_hsm_nothing_leaves_and_nothing_is_believed(place: Place) -> None:
    async def script() -> None:
        mac, hsm = mac_of()
        switch = Switch(mac_of()[0])
        async with linked(place, switch, mac) as (link, advices):
            assert await link.wait_signed_on(5.0)
            hsm.available = False
            with pytest.raises(LinkDown):
                await link.exchange(purchase(), 1.0)
            await switch.send(Message("0422", {7: de7(datetime.now(UTC)), 11: "000010", 4: "000000002500", 49: "978"}))
            await until(lambda: counted(link, "mac_failures", "hsm_unavailable"))
            assert not advices and [message.mti for message, _ in switch.received] == ["0800"]
            hsm.available = True
            assert (await link.exchange(purchase("000002"), 5.0)).elements[39] == "00"

    run(script)
    assert {"mac_not_made", "mac_refused"} <= set(EVENTS)


def test_a_key_over_the_link_is_not_taken(place: Place) -> None:
    """With 00 the switch would put a key in force that the gateway has not got."""

    async def script() -> None:
        mac, _ = mac_of()
        switch = Switch(mac)
        async with linked(place, switch, mac) as (link, _):
            assert await link.wait_signed_on(5.0)
            for number, code in enumerate(("101", "201", "301", "999")):
                await switch.send(Message("0800", {7: de7(datetime.now(UTC)), 11: f"{number:06d}", 70: code}))
            await until(lambda: len([1 for message, _ in switch.received if message.mti == "0810"]) == 4)
            told = {m.elements[70]: m.elements[39] for m, _ in switch.received if m.mti == "0810"}
            assert told == {"101": "12", "201": "00", "301": "00", "999": "12"}

    run(script)


def test_a_stop_that_comes_as_a_connection_closes_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the gateway would dial on for ever, and its process would have to be killed."""

    async def script() -> None:
        reader = asyncio.StreamReader()
        reader.feed_eof()
        running: asyncio.Task[None]

        class Closing:
            """A connection at its end; the stop comes while it closes."""

            def write(self, data: bytes) -> None:
                """Take it."""

            def close(self) -> None:
                """Begin to close."""

            async def drain(self) -> None:
                """Nothing waits."""

            async def wait_closed(self) -> None:
                running.cancel()

        async def connect(access: Access) -> tuple[asyncio.StreamReader, Any]:
            return reader, Closing()

        monkeypatch.setattr("gateway.acquirer_link.connected", connect)

        async def take(message: Message) -> str | None:
            return None

        link = AcquirerLink(
            "gateway", Access(("127.0.0.1", 1)), Codec(DIALECT), take, Metrics(),
            connections=1, acquirer_id="400001", max_in_flight=10, echo_s=60.0,
        )  # fmt: skip
        # The task of one connection; `run` cancels it and waits.
        running = asyncio.create_task(link._keep(0))
        await asyncio.wait([running], timeout=5.0)
        assert running.cancelled()

    run(script)
