"""TLS under a link, on real sockets with certificates made here: accepted and refused peers, and new files."""

from __future__ import annotations

import hashlib
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from switch.errors import WireError
from switch.links.acquirer_port import AcquirerPort
from switch.links.conduct import BAD_END, CONNECTIONS_BURST, CONNECTIONS_PER_S, RATE
from switch.links.network import SocketNetwork, Wire
from switch.links.settings import AcquirerLink, IssuerLink, link_contradictions
from switch.links.tls import TlsEnd
from switch.links.tls_context import TlsSettings
from tests.switch.links.certificates import Certificate, Forge
from tests.switch.links.peers import Desk, request, run, until


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def files(own: Certificate | None, ca: Certificate | None = None, **more: Any) -> TlsSettings:
    return TlsSettings(
        certificate=own.certificate if own else "",
        private_key=own.private_key if own else "",
        ca=ca.certificate if ca else "",
        **more,
    )


@asynccontextmanager
async def port_and_line(
    served: TlsSettings, dialled: TlsSettings
) -> AsyncIterator[tuple[Desk, AcquirerPort, Desk, Any]]:
    """A link that listens, and one of another switch that dials it."""
    here, there = Desk(network=SocketNetwork()), Desk(network=SocketNetwork())
    async with trio.open_nursery() as nursery:
        port = here.port(listen="127.0.0.1:0", tls=served)
        await port.listen()
        nursery.start_soon(port.run)
        line = there.line(address=port.address, tls=dialled, reconnect_s=0.05, reconnect_cap_s=0.05, deadline_s=2.0)
        nursery.start_soon(line.run)
        yield here, port, there, line
        nursery.cancel_scope.cancel()


async def carries(here: Desk, line: Any, stan: int = 1) -> None:
    """A request goes through, and its answer comes back."""
    await until(lambda: line.session, 5.0)

    async def exchange() -> None:
        answer = await line.session.exchange(request(stan), trio.current_time() + 5.0)
        assert answer.elements[39] == "00"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange)
        await until(lambda: here.served, 5.0)
        here.answer()


class Mutual:
    """Two authorities, and a certificate of each end."""

    def __init__(self, forge: Forge) -> None:
        self.theirs, self.ours = forge.make("their CA", authority=True), forge.make("our CA", authority=True)
        self.switch = forge.make("switch.example", self.ours)
        self.acquirer = forge.make("acquirer.example", self.theirs)


def test_mutual_tls_carries_traffic_both_ways(forge: Forge) -> None:
    async def script() -> None:
        m = Mutual(forge)
        async with port_and_line(files(m.switch, m.theirs), files(m.acquirer, m.ours)) as (here, port, _, line):
            for stan in range(1, 4):
                await carries(here, line, stan)
            wire = port.sessions[0]._wire
            assert wire._connection.version() == "TLSv1.3"  # type: ignore[attr-defined]

    trio.run(script)


@pytest.mark.parametrize("upper", [False, True], ids=["hex", "colons"])
def test_a_pinned_certificate_is_let_in_and_any_other_is_not(forge: Forge, upper: bool) -> None:
    async def script() -> None:
        m = Mutual(forge)
        pin = ":".join(m.acquirer.pin[at : at + 2] for at in range(0, 64, 2)).upper() if upper else m.acquirer.pin
        pinned = files(m.switch, m.theirs, pins=(pin,))
        async with port_and_line(pinned, files(m.acquirer, m.ours, pins=(m.switch.pin,))) as (here, _, _, line):
            await carries(here, line)
        other = forge.make("acquirer.example", m.theirs)
        async with port_and_line(pinned, files(other, m.ours)) as (here, port, _, _):
            await until(lambda: here.meters.value("handshakes_failed", "pos", "wrong_pin") > 2, 5.0)
            assert not port.sessions
        async with port_and_line(pinned, files(m.acquirer, m.ours, pins=(other.pin,))) as (_, _, there, line):
            await until(lambda: there.meters.value("handshakes_failed", "alpha", "wrong_pin") > 2, 5.0)
            assert not line.sessions

    trio.run(script)


def test_pins_alone_are_enough_for_certificates_that_nobody_vouches_for(forge: Forge) -> None:
    """Self-signed on both ends: the listening end believes what stands in its `ca` file, the dialling one the pin."""

    async def script() -> None:
        switch, acquirer = forge.make("switch"), forge.make("acquirer")
        served = files(switch, acquirer, pins=(acquirer.pin,))
        async with port_and_line(served, files(acquirer, pins=(switch.pin,))) as (here, _, _, line):
            await carries(here, line)
        expired = forge.make("switch", days=(-20.0, -1.0))
        served = files(expired, acquirer)
        async with port_and_line(served, files(acquirer, pins=(expired.pin,))) as (_, _, there, line):
            await until(lambda: there.meters.value("handshakes_failed", "alpha", "expired"), 5.0)
            assert not line.sessions

    trio.run(script)


def refusals(forge: Forge) -> dict[str, tuple[TlsSettings, TlsSettings, bool, str]]:
    """Contradictory settings of both ends, whether the listening end refuses, and its name for that."""
    m = Mutual(forge)
    stranger = forge.make("stranger", authority=True)
    late = forge.make("late.example", m.theirs, days=(-30.0, -1.0))
    early = forge.make("early.example", m.ours, days=(1.0, 30.0))
    return {
        "no client certificate": (
            files(m.switch, m.theirs), files(None, m.ours), True, "peer_did_not_return_a_certificate"
        ),
        "client of another authority": (
            files(m.switch, m.theirs), files(forge.make("x", stranger), m.ours), True, "certificate_verify_failed"
        ),
        "expired client": (files(m.switch, m.theirs), files(late, m.ours), True, "certificate_verify_failed"),
        "server of another authority": (
            files(m.switch, m.theirs), files(m.acquirer, stranger), False, "certificate_verify_failed"
        ),
        "server that is not valid yet": (
            files(early, m.theirs), files(m.acquirer, m.ours), False, "certificate_verify_failed"
        ),
        "server with another name": (
            files(m.switch, m.theirs), files(m.acquirer, m.ours, server_name="bank.example"), False,
            "certificate_verify_failed",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", [
    "no client certificate", "client of another authority", "expired client", "server of another authority",
    "server that is not valid yet", "server with another name",
])  # fmt: skip
def test_who_is_not_let_in(forge: Forge, case: str) -> None:
    async def script() -> None:
        served, dialled, by_port, reason = refusals(forge)[case]
        with capture_logs() as events:
            async with port_and_line(served, dialled) as (here, _, there, line):
                desk, name = (here, "pos") if by_port else (there, "alpha")
                await until(lambda: desk.meters.value("handshakes_failed", name, reason) >= 2, 5.0)
                assert line.session is None and not here.served
        failures = [event for event in events if event["event"] == "handshake_failed"]
        assert failures and all("127.0.0.1" in event["error"] for event in failures)

    trio.run(script)


def test_a_name_may_be_another_than_the_address(forge: Forge) -> None:
    async def script() -> None:
        m = Mutual(forge)
        dialled = files(m.acquirer, m.ours, server_name="switch.example")
        async with port_and_line(files(m.switch, m.theirs), dialled) as (here, _, _, line):
            await carries(here, line)

    trio.run(script)


def test_clients_without_a_certificate_may_be_allowed(forge: Forge) -> None:
    async def script() -> None:
        m = Mutual(forge)
        served = files(m.switch, require_client_certificate=False)
        async with port_and_line(served, files(None, m.ours)) as (here, _, _, line):
            await carries(here, line)

    trio.run(script)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_nothing_older_than_tls_1_3(forge: Forge, version: ssl.TLSVersion) -> None:
    m = Mutual(forge)

    def older(address: tuple[str, int]) -> str:
        context = ssl.create_default_context(cafile=m.ours.certificate)
        context.maximum_version = version
        context.load_cert_chain(m.acquirer.certificate, m.acquirer.private_key)
        with socket.create_connection(address, 5.0) as sock:
            try:
                context.wrap_socket(sock, server_hostname="127.0.0.1")
            except (ssl.SSLError, OSError) as error:
                return str(error)
        return ""

    async def script() -> None:
        desk = Desk(network=SocketNetwork())
        async with trio.open_nursery() as nursery:
            port = desk.port(listen="127.0.0.1:0", tls=files(m.switch, m.theirs))
            await port.listen()
            nursery.start_soon(port.run)
            host, _, number = port.address.rpartition(":")
            assert "VERSION" in (await trio.to_thread.run_sync(older, (host, int(number)))).upper()
            await until(lambda: desk.meters.value("handshakes_failed", "pos", "unsupported_protocol"), 5.0)
            nursery.cancel_scope.cancel()

    trio.run(script)


@pytest.mark.parametrize(
    ("bytes_sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "http_request"),
        (b"\x00\x10" + b"0800" * 4, None),
        (b"\x16\x03\x01\xff\xff", None),
        (b"", "closed"),
    ],
)
def test_who_speaks_something_else_is_closed_and_the_port_lives(
    forge: Forge, bytes_sent: bytes, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switch.links.tls.HANDSHAKE_S", 0.3)

    async def script() -> None:
        m = Mutual(forge)
        async with port_and_line(files(m.switch, m.theirs), files(m.acquirer, m.ours)) as (here, port, _, line):
            await until(lambda: line.session, 5.0)
            wire = await SocketNetwork().dial(port.address, 1.0)
            await wire.send(bytes_sent)
            if not bytes_sent:
                wire.close()
            else:
                with trio.fail_after(5.0):
                    while await wire.receive():
                        pass
                wire.close()
            await until(lambda: here.meters.value("handshakes_failed"), 5.0)
            if reason is not None:
                assert here.meters.value("handshakes_failed", "pos", reason) == 1
            await carries(here, line)

    trio.run(script)


def test_an_address_whose_handshakes_fail_makes_fewer_connections(forge: Forge) -> None:
    async def script() -> None:
        m = Mutual(forge)
        desk = Desk(network=SocketNetwork())
        async with trio.open_nursery() as nursery:
            port = desk.port(listen="127.0.0.1:0", tls=files(m.switch, m.theirs))
            await port.listen()
            nursery.start_soon(port.run)
            refused = failed = 0.0
            begun = trio.current_time()
            while not refused:
                wire = await SocketNetwork().dial(port.address, 1.0)
                await wire.send(b"\x00" * 50)
                while await wire.receive():
                    pass
                wire.close()
                refused = desk.meters.value("connections_refused", "pos", RATE)
                failed = desk.meters.value("handshakes_failed")
                assert failed < CONNECTIONS_BURST
            passed_s = trio.current_time() - begun
            assert failed <= (CONNECTIONS_BURST + CONNECTIONS_PER_S * passed_s) / BAD_END + 1
            nursery.cancel_scope.cancel()

    trio.run(script)


def test_handshakes_that_do_not_end_take_no_more_places_than_connections(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switch.links.tls.HANDSHAKE_S", 0.5)

    async def script() -> None:
        m = Mutual(forge)
        desk = Desk(network=SocketNetwork())
        async with trio.open_nursery() as nursery:
            port = desk.port(listen="127.0.0.1:0", tls=files(m.switch, m.theirs), max_connections=3, max_per_address=5)
            await port.listen()
            nursery.start_soon(port.run)
            silent = [await SocketNetwork().dial(port.address, 1.0) for _ in range(5)]
            await until(lambda: desk.meters.value("connections_refused", "pos", "too_many") == 2, 5.0)
            await until(lambda: desk.meters.value("handshakes_failed", "pos", "timeout") == 3, 5.0)
            for wire in silent:
                wire.close()
            line = Desk(network=SocketNetwork()).line(address=port.address, tls=files(m.acquirer, m.ours))
            nursery.start_soon(line.run)
            await carries(desk, line)
            nursery.cancel_scope.cancel()

    trio.run(script)


def test_new_files_are_taken_and_open_connections_go_on(forge: Forge) -> None:
    async def script() -> None:
        m = Mutual(forge)
        first = forge.make("switch.example", m.ours, file="switch")
        served = files(first, m.theirs)
        async with port_and_line(served, files(m.acquirer, m.ours)) as (here, port, there, line):
            await carries(here, line, 1)
            session = port.sessions[0]
            second = forge.make("switch.example", m.ours, file="switch")
            assert second.certificate == first.certificate and second.pin != first.pin
            assert port.connections.reload_certificates()
            await carries(here, line, 2)
            assert port.sessions[0] is session  # nothing was dropped
            assert await shown(port) == second.pin
            # Without a signal: the next handshake sees that the files are others.
            third = forge.make("switch.example", m.ours, file="switch")
            assert await shown(port) == third.pin
            # Unusable files are not taken, and reported.
            await trio.Path(first.certificate).write_text("nonsense")
            with capture_logs() as events:
                assert not port.connections.reload_certificates()
            assert [event["event"] for event in events] == ["certificate_refused"]
            assert await shown(port) == third.pin
            await carries(here, line, 3)
            assert port.sessions[0] is session and there.meters.value("sessions_closed") == 0

    async def shown(port: AcquirerPort) -> str:
        host, _, number = port.address.rpartition(":")
        return await trio.to_thread.run_sync(shown_by, (host, int(number)))

    def shown_by(address: tuple[str, int]) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(address, 5.0) as sock, context.wrap_socket(sock) as secured:
            return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()

    trio.run(script)


def test_a_certificate_that_ends_soon_or_a_key_for_everybody_is_warned_of(forge: Forge) -> None:
    soon = forge.make("switch", days=(-1.0, 3.0))
    os.chmod(soon.private_key, 0o644)
    with capture_logs() as events:
        port = Desk().port(tls=files(soon, require_client_certificate=False))
    warned = {event["event"] for event in events if event["log_level"] == "warning"}
    assert warned == {"certificate_ends_soon", "private_key_open"}
    assert port.connections.tls is not None and port.connections.tls.ends_at is not None
    assert soon.private_key in repr(events) and "PRIVATE KEY" not in repr(events)


def test_how_long_a_certificate_is_good_for_is_told(forge: Forge) -> None:
    own = forge.make("switch")

    async def script() -> None:
        desk = Desk()
        port = desk.port(tls=files(own, require_client_certificate=False))
        left = (own.made.not_valid_after_utc - desk.clock.now()).total_seconds()
        assert port.connections.certificate_ends_s() == pytest.approx(left)
        dials = desk.line(tls=files(None, own))
        assert dials.connections.certificate_ends_s() == math.inf

    run(script)


class Crumbs:
    """A wire that gives what has come in small pieces."""

    def __init__(self, wire: Wire, size: int) -> None:
        self.peer = wire.peer
        self.uid = wire.uid
        self._wire = wire
        self._size = size
        self._rest = b""

    async def receive(self) -> bytes:
        if not self._rest:
            self._rest = await self._wire.receive()
        piece, self._rest = self._rest[: self._size], self._rest[self._size :]
        return piece

    async def send(self, data: bytes) -> None:
        await self._wire.send(data)

    @property
    def unread(self) -> bool:
        return self._wire.unread

    async def end(self) -> None:
        await self._wire.end()

    def close(self) -> None:
        self._wire.close()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_tls_is_the_same_in_any_chunking_and_the_end_is_seen(forge: Forge, size: int) -> None:
    m = Mutual(forge)
    near_link = AcquirerLink(name="near", address="switch.example:1", dialect="iso87-ascii")
    far_link = AcquirerLink(name="far", listen="switch.example:1", dialect="iso87-ascii")

    async def script() -> None:
        network = Desk().memory
        acceptor = await network.listen("switch.example:1")
        ends: dict[str, Wire] = {}

        async def shake(name: str, link: AcquirerLink, tls: TlsSettings, wire: Wire) -> None:
            ends[name] = await TlsEnd(link, tls).secured(Crumbs(wire, size))

        wire = await network.dial("switch.example:1", 1.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake, "near", near_link, files(m.acquirer, m.ours), wire)
            nursery.start_soon(shake, "far", far_link, files(m.switch, m.theirs), await acceptor.accept())
        blob = bytes(range(256)) * 50
        for source, target in (("near", "far"), ("far", "near")):
            await ends[source].send(blob)
            got = b""
            while len(got) < len(blob):
                got += await ends[target].receive()
            assert got == blob
        await ends["near"].send(b"last words")
        await ends["near"].end()
        assert await ends["far"].receive() == b"last words"
        assert await ends["far"].receive() == b""
        await ends["far"].send(b"heard")  # the other direction is still open
        got = b""
        while len(got) < 5:
            got += await ends["near"].receive()
        assert got == b"heard"
        await ends["far"].end()
        assert await ends["near"].receive() == b""

    run(script)


def test_a_large_message_and_the_goodbye_pass_under_tls(forge: Forge) -> None:
    async def script() -> None:
        m = Mutual(forge)
        async with port_and_line(files(m.switch, m.theirs), files(m.acquirer, m.ours)) as (here, port, there, line):
            await until(lambda: line.session, 5.0)
            count = 2000
            got: list[str] = []

            async def ask(stan: int) -> None:
                answer = await line.session.exchange(request(stan), trio.current_time() + 20.0)
                got.append(answer.elements[11])

            async with trio.open_nursery() as nursery:
                for stan in range(1, count + 1):
                    nursery.start_soon(ask, stan)
                await until(lambda: len(here.served) == count, 20.0)
                port.drain()
                for _ in range(count):
                    here.answer(-1)
                await port.connections.end()
            assert len(got) == count
            await until(lambda: there.meters.value("sessions_closed", "alpha") == 1, 5.0)

    trio.run(script)


def test_what_a_link_s_tls_settings_contradict(forge: Forge) -> None:
    m = Mutual(forge)

    def problems(tls: TlsSettings, **where: str) -> list[str]:
        link = AcquirerLink(name="pos", dialect="iso87-ascii", tls=tls, **(where or {"listen": "a:1"}))
        return link_contradictions((link,), ())

    own = {"certificate": m.switch.certificate, "private_key": m.switch.private_key}
    assert problems(TlsSettings(**own, ca=m.theirs.certificate)) == []
    assert problems(TlsSettings(ca=m.ours.certificate), address="a:1") == []
    cases: list[tuple[TlsSettings, dict[str, str], str]] = [
        (TlsSettings(ca=m.theirs.certificate), {}, "needs certificate and private_key"),
        (TlsSettings(certificate=m.switch.certificate, ca=m.theirs.certificate), {}, "need each other"),
        (TlsSettings(**own), {}, "ca must say whose certificates are taken"),
        (TlsSettings(**own, ca=m.theirs.certificate, pins=("abc",)), {}, "64 hexadecimal digits"),
        (TlsSettings(**own, pins=("00" * 32,), require_client_certificate=False), {}, "ca must say"),
        (TlsSettings(), {"address": "a:1"}, "ca or pins must say"),
        (TlsSettings(ca="/nowhere"), {"address": "a:1"}, "ca /nowhere cannot be read: No such file"),
        (TlsSettings(ca=m.switch.private_key), {"address": "a:1"}, "no certificate or crl found"),
        (
            TlsSettings(certificate=m.switch.certificate, private_key=m.acquirer.private_key, ca=m.theirs.certificate),
            {}, "key values mismatch",
        ),
    ]  # fmt: skip
    for tls, where, problem in cases:
        found = problems(tls, **where)
        assert len(found) >= 1 and any(problem in line for line in found), (problem, found)
    issuer = IssuerLink(name="alpha", dialect="iso87-ascii", address="a:1", tls=TlsSettings())
    assert link_contradictions((), (issuer,)) == ["issuer[alpha].tls: ca or pins must say which peer is the right one"]


def test_a_link_whose_files_are_gone_says_so(tmp_path: Path) -> None:
    gone = TlsSettings(certificate=str(tmp_path / "a.crt"), private_key=str(tmp_path / "a.key"), ca="")
    with pytest.raises(WireError, match=r"link pos: .*a\.crt.*No such file"):
        Desk().port(tls=gone)
