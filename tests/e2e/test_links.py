"""Links as integrators bring them, on real processes: mutual TLS, a TPDU, an issuer that dials, operators at work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import specs
from console.config import load_config
from console.link_commands import links
from console.supervisor import System, config_file
from messages.address import address_of
from messages.framing import framing
from messages.message import Message
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.control import ask
from switch.links.settings import AcquirerLink
from switch.links.tls_context import TlsSettings
from tests.e2e.conftest import quick
from tests.e2e.shop import cardswitch
from tests.e2e.terminal import utcnow
from tests.state import new_state
from tests.switch.links.certificates import Certificate, Forge

pytestmark = pytest.mark.xdist_group("e2e-links")

VISA = Card("4242424242424242")
NORTH, TPDU = "north", bytes.fromhex("6000030001")


class Place:
    """The system with the certificates of both ends."""

    def __init__(self, system: System, forge: Forge, switch: Certificate, north: Certificate) -> None:
        self.system = system
        self.forge = forge
        self.switch = switch
        self.north = north
        self.acquirer = Acquirer(AcquirerProfile(link=NORTH, dialect="iso87-ascii", acquirer_id="77001"))

    def link(self, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
        done = cardswitch("link", *arguments, "--json", config=config_file(self.system.config.state_path))
        assert done.returncode == status, done.stderr
        table = json.loads(done.stdout)
        return [row for rows in table.values() for row in rows]

    def state(self, name: str) -> str:
        return next(str(row["state"]) for row in self.link("list") if row["link"] == name)

    @contextmanager
    def connection(self) -> Iterator[Line]:
        context = ssl.create_default_context(cafile=self.switch.certificate)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.north.certificate, self.north.private_key)
        host, port = address_of(self.system.addresses()[f"acquirer {NORTH}"])
        with (
            socket.create_connection((host, port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
        ):
            yield Line(sock, self.acquirer)


class Line:
    """One connection of the acquirer."""

    def __init__(self, sock: ssl.SSLSocket, acquirer: Acquirer) -> None:
        self.sock = sock
        self.acquirer = acquirer
        self._framing = framing("4-ascii-inclusive", header="tpdu", header_bytes=TPDU)
        self._decoder = self._framing.decoder()
        self._frames: list[bytes] = []

    def send(self, message: Message) -> None:
        self.sock.sendall(self._framing.encode(self.acquirer.encode(message)))

    def receive(self) -> Message | None:
        while not self._frames:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._frames += self._decoder.receive(data)
        frame = self._frames.pop(0)
        assert frame.header == bytes.fromhex("6000010003")  # type: ignore[attr-defined]
        return self.acquirer.decode(frame)

    def buy(self, amount_minor: int = 1_000) -> str:
        self.send(self.acquirer.purchase(VISA, amount_minor, "EUR", utcnow()).message)
        answer = self.receive()
        assert answer is not None
        return answer.elements[39]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    state = new_state("e2e")
    forge = Forge(state)
    switch, north = forge.make("switch", file="switch"), forge.make("north")
    replace = msgspec.structs.replace
    config = quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), workers=1))
    tls = TlsSettings(
        certificate=switch.certificate, private_key=switch.private_key, ca=north.certificate, pins=(north.pin,)
    )
    acquirer = AcquirerLink(
        name=NORTH, listen="127.0.0.1:1", dialect="iso87-ascii", framing="4-ascii-inclusive", header="tpdu", tls=tls
    )
    alpha, *others = config.issuer
    config = replace(
        config,
        acquirer=(*config.acquirer, acquirer),
        issuer=(replace(alpha, listen=alpha.address, address="", echo_s=2.0, deadline_s=5.0), *others),
    )
    try:
        with System.start(config, state, ports="free", longest_pause_s=0.5) as system:
            place = Place(system, forge, switch, north)
            until(lambda: place.state("alpha") == "signed_on")
            yield place
    finally:
        shutil.rmtree(state, ignore_errors=True)


def until(true: Any, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_payment_over_mutual_tls_and_a_tpdu_to_an_issuer_that_dials(place: Place) -> None:
    with place.connection() as line:
        assert line.sock.version() == "TLSv1.3"
        assert line.buy() == "00"
    (row,) = [row for row in place.link("list") if row["link"] == "alpha"]
    assert (row["side"], row["connections"]) == ("issuer", 1)


def test_a_client_without_the_pinned_certificate_gets_nothing(place: Place) -> None:
    context = ssl.create_default_context(cafile=place.switch.certificate)
    host, port = address_of(place.system.addresses()[f"acquirer {NORTH}"])
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection((host, port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        if not sock.recv(1):  # TLS 1.3 notifies a client of a refusal once the handshake is over for it
            raise ConnectionError
    with place.connection() as line:
        assert line.buy() == "00"


def test_operators_suspend_resume_echo_and_sign_off(place: Place) -> None:
    with place.connection() as line:
        assert [row["state"] for row in place.link("suspend", "alpha")] == ["suspended"]
        assert line.buy() == "91"
        assert [(row["code"], row["state"]) for row in place.link("echo", "alpha")] == [("00", "suspended")]
        place.link("resume", "alpha")
        assert line.buy() == "00"
        assert [row["state"] for row in place.link("sign-off", "alpha")] == ["signed_off"]
        assert line.buy() == "91"
        assert [(row["code"], row["state"]) for row in place.link("sign-on", "alpha")] == [("00", "signed_on")]
        assert line.buy() == "00"
        place.link("suspend", NORTH)
        assert line.buy() == "91"
        place.link("resume", NORTH)
        assert line.buy() == "00"


def test_new_certificates_are_taken_without_a_dropped_connection(place: Place) -> None:
    with place.connection() as line:
        assert line.buy() == "00"
        before = line.sock.getpeercert(binary_form=True)
        place.switch = place.forge.make("switch", file="switch")
        done = cardswitch("reload", config=config_file(place.system.config.state_path))
        assert done.returncode == 0, done.stderr
        assert line.buy() == "00"
        with place.connection() as other:
            assert other.sock.getpeercert(binary_form=True) != before
            assert other.buy() == "00"


def test_a_worker_that_is_told_to_stop_answers_what_it_has(place: Place) -> None:
    ask(place.system.control_socket("alpha"), "fault", rule={"kind": "delay", "delay_s": 3.0, "count": 30})
    pid = place.system.pid("switch-0")
    with place.connection() as line:
        for _ in range(30):
            line.send(line.acquirer.purchase(VISA, 100, "EUR", utcnow()).message)
        until(lambda: next(row for row in links(place.system.config) if row["link"] == "alpha")["in_flight"] == 30, 3.0)
        os.kill(pid, signal.SIGTERM)
        answers = []
        while (answer := line.receive()) is not None:
            answers.append(answer.elements[39])
    assert answers == ["00"] * 30
    place.system.wait_child("switch-0", other_than=pid)
    until(lambda: place.state("alpha") == "signed_on")
    with place.connection() as line:
        assert line.buy() == "00"
