"""A gateway on another machine: two systems of real processes, mutual TLS and a MAC between them, strangers beside it.

The gateway's machine has a state directory, an hsm and a token of its own; its MAC key comes from the switch's as a key
block, under a zone master key in components.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from typer.testing import CliRunner

import specs
from console.cli import app
from console.config import Config, StateConfig, load_config, write_effective
from console.database_roles import GATEWAY, OWNER, PREFIX
from console.gateway_link import RemoteSwitch
from console.postgresql import PostgresqlConfig, resolve_dsn, role_passwords
from console.supervisor import System, config_file
from hsm.config import HsmConfig, KeyConfig
from hsm.keys.exchange import load_party_zmk
from messages.address import address_of
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.exchange import de7, original_data
from messages.framing import framing
from messages.message import Message
from switch.links.tls_context import TlsSettings
from tests.e2e.conftest import create_key, quick
from tests.e2e.merchant import Merchant
from tests.e2e.shop import cardswitch
from tests.e2e.terminal import utcnow
from tests.state import new_state
from tests.switch.links.certificates import Certificate, Forge

pytestmark = pytest.mark.xdist_group("e2e-remote")

KEY = "zak-gateway"
CODEC = Codec(load_dialect("iso87-ascii"))
VISA = "4242424242424242"
STANS = itertools.count(910_000)


class Machines:
    """The switch's machine, the gateway's, and the certificates of one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        forge = Forge(folder)
        self.ca = forge.make("ca", authority=True)
        self.certificate = {name: forge.make(name, self.ca) for name in ("switch", "gateway", "north")}
        self.switch: System
        self.gateway: System

    def tls(self, name: str, pin: str) -> TlsSettings:
        own, peer = self.certificate[name], self.certificate[pin]
        return TlsSettings(
            certificate=own.certificate, private_key=own.private_key, ca=self.ca.certificate, pins=(peer.pin,)
        )

    def switch_config(self) -> Config:
        replace = msgspec.structs.replace
        config = quick(load_config(Path(str(specs.__file__)).with_name("cardswitch.toml"), workers=1))
        acquirers = tuple(
            replace(link, listen="127.0.0.1:1", tls=self.tls("switch", "gateway"), mac_key=KEY, mac_management=True)
            if link.surrogate
            else link
            for link in config.acquirer
        )
        return replace(config, acquirer=acquirers, key=(*config.key, KeyConfig(KEY, "mac", "gateway")))

    def gateway_config(self, state: Path) -> Config:
        """A file of its own: no link, no vault; the switch, the tokenizer and the database are elsewhere."""
        config, folder = self.switch.config, self.switch.config.state_path
        (state / "postgresql").mkdir(mode=0o700)
        roles = {OWNER: "", GATEWAY: role_passwords(folder)[GATEWAY]}  # none of ledger or vault
        private(state / "postgresql" / "roles.json", json.dumps(roles))
        private(state / "tokenizer.secret", (folder / "tokenizer.secret").read_text())
        replace = msgspec.structs.replace
        return Config(
            state=StateConfig(str(state)),
            postgresql=PostgresqlConfig(dsn=resolve_dsn(config.postgresql, folder, OWNER), role_prefix=PREFIX),
            hsm=HsmConfig(dual_control=False, provision=False, vault=False),
            key=(KeyConfig(KEY, "mac", "switch"),),
            tokenizer=config.tokenizer,
            gateway=replace(
                config.gateway,
                tokenizer_url=self.switch.addresses()["tokenizer"],
                answer_timeout_s=2.0,
                switch=RemoteSwitch(
                    address=self.switch.addresses()["acquirer gateway"], mac_key=KEY, tls=self.tls("gateway", "switch")
                ),
            ),
        )

    def hsm(self, machine: System | Path, *arguments: str) -> Any:
        """A command on the keys of a machine: a running one, or the file of one that does not run."""
        if isinstance(machine, System):
            file = config_file(machine.config.state_path)
            done = CliRunner().invoke(app, ["hsm", "key", *arguments, "--json", "--config", str(file)])
            assert done.exit_code == 0, (done.output, done.exception)
            return json.loads(done.stdout)
        process = cardswitch("hsm", "key", *arguments, "--json", config=machine)  # it opens the token itself
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    def bring_key(self, file: Path) -> None:
        """The ceremony: the zone master key as two components, the MAC key as a block under it."""
        zmk = load_party_zmk(self.switch.config.exchange_path, "gateway")
        one = os.urandom(len(zmk))
        parts = []
        for number, part in enumerate((one, bytes(a ^ b for a, b in zip(one, zmk, strict=True)))):
            parts += ["--component-file", str(private(self.folder / f"component{number}", part.hex()))]
        self.hsm(file, "import", "zmk-switch", "--role", "zmk", "--party", "switch", *parts)
        self.hsm(file, "import", KEY, "--role", "mac", "--party", "switch", "--under", "zmk-switch", *self.block(KEY))

    def block(self, name: str) -> tuple[str, str]:
        """A key of the switch's hsm, as the options that bring it in."""
        exported = self.hsm(self.switch, "export", name, "--under", "zmk-gateway")
        return "--block", next(value for value in walk(exported) if re.fullmatch(r"D\d{4}M6.*", value))


def walk(value: Any) -> Iterator[str]:
    """Every text in JSON."""
    if isinstance(value, dict):
        for part in value.values():
            yield from walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from walk(part)
    elif isinstance(value, str):
        yield value


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    folders = [new_state(name) for name in ("certificates", "switch", "gateway")]
    found = Machines(folders[0])
    try:
        with System.start(found.switch_config(), folders[1], ports="free", longest_pause_s=0.5) as found.switch:
            config = found.gateway_config(folders[2])
            file = folders[0] / "gateway.json"
            write_effective(config, file)
            found.bring_key(file)
            with System.start(load_config(file), ports="free", longest_pause_s=0.5) as found.gateway:
                until(lambda: httpx.get(f"{found.gateway.addresses()['gateway']}/readyz", trust_env=False).is_success)
                yield found
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


class Both:
    """A merchant's view of both machines."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines

    def addresses(self) -> dict[str, str]:
        return {**self.machines.switch.addresses(), **self.machines.gateway.addresses()}


@pytest.fixture(scope="module")
def merchant(machines: Machines) -> Iterator[Merchant]:
    keys = [create_key(machines.switch, *options)["key"] for options in ((), ("--publishable",))]
    one = Merchant(Both(machines), *keys)  # type: ignore[arg-type]
    yield one
    one.close()


def until(true: Any, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def metric(machines: Machines, name: str, reason: str) -> float:
    page = httpx.get(machines.switch.addresses()["metrics 0"], trust_env=False).text
    found = re.search(rf'^cardswitch_{name}_total{{link="gateway",reason="{reason}"}} (\S+)$', page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def logged(machines: Machines, event: str, reason: str) -> bool:
    lines = (machines.switch.config.log_path / "switch-0.jsonl").read_text().splitlines()
    return any(f'"{event}"' in line and reason in line and '"gateway"' in line for line in lines)


def rows(machines: Machines, sql: str, *values: Any) -> list[dict[str, Any]]:
    config = machines.switch.config

    async def run() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(resolve_dsn(config.postgresql, config.state_path, OWNER))
        try:
            return [dict(row) for row in await connection.fetch(sql, *values)]
        finally:
            await connection.close()

    return asyncio.run(run())


def booked(machines: Machines) -> tuple[int, int]:
    """Numbers of intents and outcomes in the journal."""
    (row,) = rows(machines, "SELECT (SELECT count(*) FROM ledger.intents) i, (SELECT count(*) FROM ledger.outcomes) o")
    return row["i"], row["o"]


def test_a_payment_is_made_and_changed_over_the_network(machines: Machines, merchant: Merchant) -> None:
    created = merchant.stripe.v1.payment_intents.create(
        {
            "amount": 4_200,
            "currency": "eur",
            "payment_method_data": {"type": "card", "card": {"token": merchant.token(VISA)}},  # type: ignore[typeddict-item]
            "capture_method": "manual",
        }
    )
    assert created.status == "requires_confirmation"
    assert merchant.stripe.v1.payment_intents.confirm(created.id).status == "requires_capture"
    assert merchant.stripe.v1.payment_intents.capture(created.id).status == "succeeded"
    refund = merchant.stripe.v1.refunds.create({"payment_intent": created.id, "amount": 200})
    assert refund.status == "succeeded"
    done = CliRunner().invoke(
        app, ["doctor", "--json", "--config", str(config_file(machines.gateway.config.state_path))]
    )
    assert done.exit_code == 0, done.output
    checks = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert {checks[name]["state"] for name in ("database", "gateway link", "hsm keys")} == {"ok"}
    status = CliRunner().invoke(
        app, ["hsm", "status", "--json", "--config", str(config_file(machines.gateway.config.state_path))]
    )
    shown = json.loads(status.stdout)
    assert shown["ok"] and not shown["vault"] and KEY in shown["keys"]
    machine = {row["command"] for row in audit(machines.gateway)}
    assert {"mac", "verify_mac"} <= machine and "screen" not in machine
    assert not list(machines.gateway.config.state_path.glob("switch-*.sock"))
    assert json.loads((machines.gateway.config.state_path / "postgresql" / "roles.json").read_text()).keys() >= {
        GATEWAY
    }


def audit(system: System) -> list[dict[str, Any]]:
    files = sorted((system.config.state_path / "hsm" / "audit").glob("*.jsonl"))
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [row for row in found if "command" in row and row.get("caller") == "gateway"]


class Stranger:
    """One who reaches the port of the link; `certificate` None: without TLS, "": TLS without a certificate."""

    def __init__(self, machines: Machines, certificate: Certificate | str | None) -> None:
        address = address_of(machines.switch.addresses()["acquirer gateway"])
        self.sock: socket.socket = socket.create_connection(address, 10)
        self.sock.settimeout(10)
        self.decoder = framing().decoder()
        if certificate is None:
            return
        context = ssl.create_default_context(cafile=machines.ca.certificate)
        if isinstance(certificate, Certificate):
            context.load_cert_chain(certificate.certificate, certificate.private_key)
        self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")

    def ask(self, message: Message) -> Message | None:
        """The answer; None where the connection ends instead."""
        try:
            self.sock.sendall(framing().encode(CODEC.encode(message)))
            while data := self.sock.recv(65_536):
                for payload in self.decoder.receive(data):
                    return CODEC.decode(payload)
        except (OSError, ssl.SSLError):
            pass
        return None

    def close(self) -> None:
        self.sock.close()


def messages(machines: Machines) -> Iterator[Message]:
    """A sign-on, a payment with a surrogate, and the reversal of the merchant's last payment."""
    (paid,) = rows(machines, "SELECT * FROM gateway.attempts WHERE kind = 'purchase' ORDER BY id DESC LIMIT 1")
    elements = {int(number): value for number, value in json.loads(paid["elements"]).items()}
    now = de7(utcnow())
    yield Message("0800", {7: now, 11: f"{next(STANS)}", 32: "400001", 70: "001"})
    yield Message("0200", {**elements, 2: paid["surrogate"], 7: now, 11: f"{next(STANS)}"})
    original = original_data(paid["mti"], paid["stan"], de7(paid["transmitted_at"]), "400001")
    yield Message("0400", {**elements, 2: paid["surrogate"], 7: now, 11: f"{next(STANS)}", 90: original})


STRANGERS: dict[str, tuple[str | None, bool | None, str, str]] = {
    # certificate, MAC (None: without, False: wrong), metric, its reason
    "tcp": (None, None, "handshakes_failed", "wrong_version_number|http_request|record_layer_failure"),
    "tls": ("", None, "handshakes_failed", "peer_did_not_return_a_certificate"),
    "another peer": ("north", None, "handshakes_failed", "wrong_pin"),
    "no MAC": ("gateway", None, "mac_failures", "mac_missing"),
    "wrong MAC": ("gateway", False, "mac_failures", "mac_invalid"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_at_the_port_books_and_reverses_nothing(machines: Machines, merchant: Merchant, name: str) -> None:
    shown, mac, counter, reasons = STRANGERS[name]
    payment = merchant.pay(VISA, 1_900)
    assert payment.status == "succeeded"
    before, books = {reason: metric(machines, counter, reason) for reason in reasons.split("|")}, booked(machines)
    for message in messages(machines):
        if mac is False:
            element = 128 if max(message.elements) > 64 else 64
            message = Message(message.mti, {**message.elements, element: "0123456789ABCDEF"})
        certificate = machines.certificate[shown] if shown else shown
        try:
            stranger = Stranger(machines, certificate)
        except (OSError, ssl.SSLError):
            continue
        answer = stranger.ask(message)
        stranger.close()
        if shown == "gateway":
            assert answer is not None and answer.elements[39] == "63", message.mti
        else:
            assert answer is None, message.mti
    assert booked(machines) == books
    until(lambda: any(metric(machines, counter, reason) > count for reason, count in before.items()), 10.0)
    reason = next(reason for reason, count in before.items() if metric(machines, counter, reason) > count)
    event = "mac_refused" if counter == "mac_failures" else "handshake_failed"
    assert logged(machines, event, "mac_" if event == "mac_refused" else ""), reason
    intent = merchant.stripe.v1.payment_intents.retrieve(payment.id)
    assert (intent.status, intent.amount_received) == ("succeeded", 1_900)
    assert (
        merchant.stripe.v1.refunds.create({"payment_intent": payment.id}).status == "succeeded"
    )  # it was not reversed


def test_the_mac_key_is_changed_without_losing_a_payment(machines: Machines, merchant: Merchant) -> None:
    """As docs/operations.md has it: the same new version at both ends, in force at the switch first."""
    machines.hsm(machines.switch, "generate", "zak-next", "--role", "mac", "--party", "gateway")
    block = machines.block("zak-next")
    options = ("--role", "mac", "--pending", *block)
    machines.hsm(machines.gateway, "import", KEY, "--party", "switch", "--under", "zmk-switch", *options)
    machines.hsm(machines.switch, "import", KEY, "--party", "gateway", "--under", "zmk-gateway", *options)
    for system in (machines.switch, machines.gateway):
        machines.hsm(system, "activate", KEY, "--version", "2")
    assert merchant.pay(VISA, 1_000).status == "succeeded"
