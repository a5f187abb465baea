"""The link of a gateway on another machine: both ends demand mutual TLS and a MAC, and say what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from console import cli
from console.config import Config, load_config
from console.doctor import MISSING, WARNING
from console.doctor_database import database_findings
from console.doctor_links import gateway_finding
from console.errors import ConfigError, StartError
from console.ports import on_free_ports
from console.processes import run_gateway
from console.supervisor import child_specs
from hsm.callers import callers
from tests.switch.links.certificates import Certificate, Forge

KEY = '[[key]]\nname = "zak-gateway"\nusage = "mac"\nparty = "gateway"\n'
SWITCH = """
[fees]
fixed_minor = {{ EUR = 30 }}
dispute_fee_minor = {{ EUR = 1500 }}
other_currencies = "rate-only"
[gateway]
link = "gateway"
[[acquirer]]
name = "gateway"
listen = "127.0.0.1:5030"
dialect = "iso87-ascii"
surrogate = true
tls = {{ certificate = "{own}", private_key = "{own_key}", ca = "{ca}", pins = ["{pin}"] }}
mac_key = "zak-gateway"
mac_management = true
[[issuer]]
name = "alpha"
address = "127.0.0.1:6001"
dialect = "iso87-ascii"
[[route]]
prefix = "4"
issuer = "alpha"
"""
GATEWAY = """
[hsm]
vault = false
[tokenizer]
url = "https://tokens.example"
[gateway]
tokenizer_url = "https://tokens.example"
[gateway.switch]
address = "127.0.0.1:5030"
mac_key = "zak-gateway"
tls = {{ certificate = "{own}", private_key = "{own_key}", ca = "{ca}" }}
"""


class Machines:
    """The configurations of the switch's machine and of the gateway's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.forge = forge = Forge(directory)
        self.ca = ca = forge.make("ca", authority=True)
        switch, gateway = forge.make("switch", ca), forge.make("gateway", ca)
        self.switch = self._text(SWITCH, switch, ca, gateway.pin)
        self.gateway = self._text(GATEWAY, gateway, ca, switch.pin)

    def _text(self, text: str, own: Certificate, ca: Certificate, pin: str) -> str:
        return text.format(own=own.certificate, own_key=own.private_key, ca=ca.certificate, pin=pin) + KEY

    def file(self, text: str) -> Path:
        file = self.directory / "cardswitch.toml"
        file.write_text(text)
        return file

    def load(self, text: str) -> Config:
        return load_config(self.file(text), self.directory / "state")

    def problems(self, text: str) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as raised:
            self.load(text)
        return raised.value.problems


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


def changed(text: str, old: str, new: str) -> str:
    """`text` with every line that begins with `old` replaced."""
    lines = [new if line.startswith(old) else line for line in text.splitlines()]
    assert "\n".join(lines) != text.rstrip("\n"), old
    return "\n".join(lines)


SWITCH_LACKS: dict[str, tuple[tuple[tuple[str, str], ...], str, str]] = {
    "tls": ((("tls =", ""),), "acquirer[gateway].tls: ", "tls = { certificate"),
    "MAC": ((("mac_", ""),), "acquirer[gateway].mac_key: ", 'name a [[key]] with usage = "mac"'),
    "both": ((("tls =", ""), ("mac_", "")), "acquirer[gateway].listen: ", 'listen = "unix:gateway.sock"'),
    "MAC of 0800": ((("mac_management", ""),), "acquirer[gateway].mac_management: ", "must be true"),
    "fixed keys": (
        (("mac_management", "mac_management = true\nkey_exchange_hours = 24.0"),),
        "acquirer[gateway].key_exchange_hours: ",
        "leave it out",
    ),
}


@pytest.mark.parametrize("lacks", SWITCH_LACKS)
def test_a_port_for_a_gateway_demands_tls_and_mac(machines: Machines, lacks: str) -> None:
    changes, begins, mends = SWITCH_LACKS[lacks]
    text = machines.switch
    for old, new in changes:
        text = changed(text, old, new)
    (problem,) = machines.problems(text)
    assert problem.startswith(begins) and mends in problem


def test_a_port_for_a_gateway_demands_the_certificate_of_that_gateway(machines: Machines) -> None:
    (line,) = [line for line in machines.switch.splitlines() if line.startswith("tls")]
    unpinned = line[: line.index(", pins")] + " }"
    (problem,) = machines.problems(changed(machines.switch, "tls", unpinned))
    assert problem.startswith("acquirer[gateway].tls.pins: name the certificate of the gateway")
    anybody = unpinned.replace(" }", ", require_client_certificate = false }")
    (problem,) = machines.problems(changed(machines.switch, "tls", anybody))
    assert problem.startswith("acquirer[gateway].tls.require_client_certificate: must be true")


def test_every_link_with_surrogates_is_a_gateway_s(machines: Machines) -> None:
    other = '[[acquirer]]\nname = "shop"\nlisten = "127.0.0.1:5031"\ndialect = "iso87-ascii"\nsurrogate = true\n'
    (problem,) = machines.problems(machines.switch + other)
    assert problem.startswith("acquirer[shop].listen: anybody who reaches 127.0.0.1:5031 could send as the gateway")


GATEWAY_LACKS: dict[str, tuple[str, str, str, str]] = {
    "tls": ("tls", "", "gateway.switch.tls: ", "tls = { certificate"),
    "certificate": ("tls", 'tls = { pins = ["' + "ab" * 32 + '"] }', "gateway.switch.tls.certificate: ", "private_key"),
    "MAC": ("mac_key", "", "gateway.switch.mac_key: ", 'name a [[key]] with usage = "mac"'),
    "key": ("mac_key", 'mac_key = "zak-x"', "gateway.switch.mac_key: there is no [[key]]", "'zak-x'"),
    "unix": ("address", 'address = "unix:a.sock"', "gateway.switch.address: ", "leave it out"),
    "port": ("address", 'address = "switch.example"', "gateway.switch.address: ", "expected host:port"),
    "dialect": ("address", 'address = "a:1"\ndialect = "iso99"', "gateway.switch.dialect: ", "iso99"),
}


@pytest.mark.parametrize("lacks", GATEWAY_LACKS)
def test_a_gateway_on_another_machine_demands_tls_and_mac(machines: Machines, lacks: str) -> None:
    old, new, begins, mends = GATEWAY_LACKS[lacks]
    (problem,) = machines.problems(changed(machines.gateway, old, new))
    assert problem.startswith(begins) and mends in problem


def test_a_gateway_believes_no_switch_without_ca_or_pins(machines: Machines) -> None:
    (line,) = [line for line in machines.gateway.splitlines() if line.startswith("tls")]
    (problem,) = machines.problems(changed(machines.gateway, "tls", line[: line.index(", ca")] + " }"))
    assert problem == "gateway.switch.tls: ca or pins must say which peer is the right one"


def test_both_ends_have_one_key_and_one_kind_of_link(machines: Machines) -> None:
    gateway = machines.gateway[: machines.gateway.index(KEY)].replace("[hsm]\nvault = false\n", "")
    both = machines.switch.replace('[gateway]\nlink = "gateway"\n', gateway)
    assert machines.load(both).runs_gateway
    (problem,) = machines.problems(both.replace('mac_key = "zak-gateway"', 'mac_key = "zak-other"', 1) + KEY.replace(
        "zak-gateway", "zak-other"
    ))  # fmt: skip
    assert problem.startswith("gateway.switch.mac_key: is zak-other, acquirer[gateway].mac_key is zak-gateway")
    socket = changed(changed(changed(both, "listen", 'listen = "unix:g.sock"'), "mac_management", ""), "tls", "")
    assert any(
        problem.startswith("gateway.switch: acquirer[gateway] listens on") for problem in machines.problems(socket)
    )


def test_without_a_vault_there_is_nothing_but_a_gateway(machines: Machines) -> None:
    (problem,) = machines.problems(machines.switch + "[hsm]\nvault = false\n")
    assert problem.startswith("hsm.vault: false is for a machine with nothing but a gateway")
    links = machines.switch.replace(KEY, "").replace('[gateway]\nlink = "gateway"\n', "")
    (problem,) = machines.problems(machines.gateway + links)
    assert problem.startswith("hsm.vault: the links of this file need a switch")


def test_doctor_says_the_same(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    for text, setting in ((machines.switch, "acquirer[gateway].tls"), (machines.gateway, "gateway.switch.tls")):
        assert cli.run(["doctor", "--json", "--config", str(machines.file(changed(text, "tls", "")))]) == 1
        checks: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["checks"]
        (found,) = [check["detail"] for check in checks if check["check"] == "configuration"]
        assert f"{setting}: " in found
    assert "TLS with a pinned certificate, MAC" in gateway_finding(machines.load(machines.switch)).detail
    assert "to 127.0.0.1:5030: TLS" in gateway_finding(machines.load(machines.gateway)).detail


@pytest.mark.parametrize(
    "command", [("link", "list"), ("link", "show", "gateway"), ("saf", "list"), ("ledger", "verify"), ("prove",)]
)
def test_commands_for_the_switch_say_which_machine_to_use(
    machines: Machines, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    file, state = machines.file(machines.gateway), machines.directory / "state"
    assert cli.run([*command, "--config", str(file), "--state", str(state)]) == 2
    assert capsys.readouterr().err == (
        "cardswitch: this machine runs no switch ([hsm] vault = false); run this on the switch's machine\n"
    )


def test_doctor_warns_before_the_gateway_s_certificate_ends(machines: Machines) -> None:
    short = machines.forge.make("short", machines.ca, days=(-1.0, 13.0))
    (line,) = [line for line in machines.gateway.splitlines() if line.startswith("tls")]
    (own,) = re.findall(r'certificate = "([^"]+)"', line)
    text = machines.gateway.replace(own, short.certificate).replace(own.replace(".crt", ".key"), short.private_key)
    finding = gateway_finding(machines.load(text))
    assert finding.state == WARNING and short.certificate in finding.detail


def test_doctor_asks_the_database_as_the_gateway_alone(machines: Machines) -> None:
    config = machines.load(machines.gateway + '[postgresql]\ndsn = "postgresql://127.0.0.1:1/cardswitch"\n')
    roles = config.state_path / "postgresql" / "roles.json"
    roles.parent.mkdir(parents=True)
    roles.write_text('{"owner": ""}')
    (found,) = database_findings(config)
    assert found.detail.startswith("postgresql/roles.json has no password of cardswitch_gateway")
    roles.write_text('{"owner": "", "cardswitch_gateway": "x"}')
    (found,) = database_findings(config)
    assert found.state == MISSING and "127.0.0.1/cardswitch: " in found.detail


def test_each_machine_runs_what_is_its_own(machines: Machines) -> None:
    switch, gateway = machines.load(machines.switch), machines.load(machines.gateway)
    assert not switch.runs_gateway and gateway.runs_gateway
    assert "gateway" not in [spec.name for spec in child_specs(switch, True, {})]
    assert [spec.name for spec in child_specs(gateway, True, {})] == ["hsm", "gateway"]
    assert set(gateway.listeners()) == {"gateway.listen"} and "gateway.listen" not in switch.listeners()
    with pytest.raises(StartError, match="for a gateway on another machine"):
        run_gateway(switch, {})


def test_the_hsm_lets_the_gateway_use_its_mac_key_and_nothing_else(machines: Machines) -> None:
    config = machines.load(machines.gateway)
    named = {caller.name: caller for caller in callers(config.hsm_config().callers, config.hsm.socket)}
    assert named["gateway"].keys == {"zak-gateway"}
    assert {kind.__struct_config__.tag for kind in named["gateway"].commands} == {"status", "mac", "verify_mac"}  # type: ignore[attr-defined]
    assert config.caller_socket("gateway") in config.hsm_sockets()
    own = machines.load(machines.gateway + '[[caller]]\nname = "gateway"\nusers = ["root"]\nsocket = "g.sock"\n')
    (entry,) = own.hsm_config().callers
    assert (entry.keys, entry.users, own.caller_socket("gateway").name) == (("zak-gateway",), ("root",), "g.sock")
    other = machines.load(machines.switch)
    assert other.caller_socket("gateway") not in other.hsm_sockets()


def test_free_ports_keep_a_gateway_and_its_switch_together(machines: Machines) -> None:
    gateway = machines.gateway[: machines.gateway.index(KEY)].replace("[hsm]\nvault = false\n", "")
    both = on_free_ports(machines.load(machines.switch.replace('[gateway]\nlink = "gateway"\n', gateway)), True)
    assert both.gateway.switch is not None and both.gateway.switch.address == both.acquirer[0].listen
    alone = machines.load(machines.gateway)
    moved = on_free_ports(alone, True)
    assert moved.gateway.switch == alone.gateway.switch and moved.gateway.listen != alone.gateway.listen
    assert moved.gateway.tokenizer_url == "https://tokens.example"
