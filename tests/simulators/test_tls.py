"""TLS under simulated parties, against the standard library's own sockets."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from messages.codec import Codec
from messages.dialect import load_dialect
from messages.framing import framing
from simulators.errors import ScenarioError
from simulators.faults import FaultRule
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario, scenario_from
from simulators.issuer.serve import make_issuer, serve_issuer, serve_party
from simulators.issuer.server import IssuerServer
from simulators.tls import TlsScenario
from tests.simulators.samples import request
from tests.switch.links.certificates import Certificate, Forge

CODEC = Codec(load_dialect("iso87-ascii"))
FRAMES = framing("2-byte-be", 8192)


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def scenario(**changes: Any) -> IssuerScenario:
    return IssuerScenario(name="alpha", default=AccountRule(), log_messages=False, **changes)


def files(own: Certificate, ca: Certificate | None = None, **more: str) -> TlsScenario:
    return TlsScenario(
        certificate=own.certificate, private_key=own.private_key, ca=ca.certificate if ca else "", **more
    )


def client_context(ca: Certificate, own: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if own is not None:
        context.load_cert_chain(own.certificate, own.private_key)
    return context


def conversed(sock: socket.socket, stans: tuple[int, ...]) -> list[str]:
    """Requests one after the other over a blocking socket; DE 39 of each answer."""
    decoder, codes = FRAMES.decoder(), []
    for stan in stans:
        sock.sendall(FRAMES.encode(CODEC.encode(request(stan))))
        frames: list[bytes] = []
        while not frames:
            data = sock.recv(4096)
            if not data:
                raise ConnectionError("closed")
            frames = decoder.receive(data)
        codes.append(CODEC.decode(frames[0]).elements[39])
    return codes


def dialled(address: tuple[str, int], context: ssl.SSLContext, stans: tuple[int, ...] = (1, 2)) -> list[str]:
    with (
        socket.create_connection(address, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        return conversed(sock, stans)


def listening(made: IssuerScenario, *contexts: ssl.SSLContext) -> list[list[str]]:
    """Dial a listening issuer with each context."""

    async def main() -> list[list[str]]:
        async with trio.open_nursery() as nursery:
            address = await nursery.start(partial(serve_issuer, made, keys={}))
            found = [await trio.to_thread.run_sync(dialled, address, context) for context in contexts]
            nursery.cancel_scope.cancel()
        return found

    return trio.run(main)


def test_an_issuer_that_listens_under_tls(forge: Forge) -> None:
    own = forge.make("issuer")
    assert listening(scenario(tls=files(own)), client_context(own)) == [["00", "00"]]


def test_faults_of_bytes_under_tls(forge: Forge) -> None:
    own = forge.make("issuer")
    slow = FaultRule(kind="byte-at-a-time", delay_s=0.05)
    assert listening(scenario(tls=files(own), fault=(slow,)), client_context(own)) == [["00", "00"]]


def test_a_client_certificate_is_asked_for_where_there_is_an_authority(forge: Forge) -> None:
    own, switch, stranger = forge.make("issuer"), forge.make("switch"), forge.make("stranger")
    made = scenario(tls=files(own, switch))
    assert listening(made, client_context(own, switch)) == [["00", "00"]]
    for context in (client_context(own), client_context(own, stranger)):
        with pytest.raises(BaseExceptionGroup) as caught:
            listening(made, context)
        assert caught.group_contains((ssl.SSLError, ConnectionError))


def test_nothing_older_than_tls_1_3(forge: Forge) -> None:
    own = forge.make("issuer")
    context = client_context(own)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(BaseExceptionGroup) as caught:
        listening(scenario(tls=files(own)), context)
    assert caught.group_contains(ssl.SSLError)


@pytest.mark.parametrize(("name", "right"), [("switch", True), ("", True), ("other", False)])
def test_an_issuer_that_dials_looks_at_the_switchs_certificate(forge: Forge, name: str, right: bool) -> None:
    own, switch = forge.make("issuer"), forge.make("switch")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(switch.certificate, switch.private_key)
    context.load_verify_locations(own.certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    def accepted(listener: socket.socket) -> list[str]:
        plain, _ = listener.accept()
        plain.settimeout(5)
        with plain, context.wrap_socket(plain, server_side=True) as sock:
            return conversed(sock, (1, 2))

    async def main() -> list[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(5)
            port = listener.getsockname()[1]
            made = scenario(tls=files(own, switch, server_name=name), dial=f"127.0.0.1:{port}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_party, IssuerServer(make_issuer(made, {}), made), made)
                codes = await trio.to_thread.run_sync(accepted, listener)
                nursery.cancel_scope.cancel()
        return codes

    if right:
        assert trio.run(main) == ["00", "00"]
    else:
        with pytest.raises(BaseExceptionGroup) as caught:
            trio.run(main)
        assert caught.group_contains((ssl.SSLError, ConnectionError))


def test_files_that_are_no_good_are_named(forge: Forge, tmp_path: Path) -> None:
    own = forge.make("issuer")
    table: dict[str, Any] = {"name": "alpha"}
    for tls, dial, problem in (
        ({}, "", "tls: a listener needs a certificate"),
        ({"certificate": str(tmp_path / "none.crt")}, "", "tls: No such file"),
        ({"certificate": own.certificate, "private_key": own.certificate}, "", "tls: "),
        ({}, "127.0.0.1:1", "tls: a dialling end needs a ca"),
    ):
        with pytest.raises(ScenarioError) as caught:
            scenario_from({**table, "tls": tls, "dial": dial})
        assert [text.startswith(problem) for text in caught.value.problems] == [True], caught.value.problems
