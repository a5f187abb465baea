"""Callers: their sockets, users and commands, from the table and from `[[caller]]`."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from console.config import Config
from hsm import listener
from hsm.callers import CALLERS, COMMANDS, Caller, CallerConfig, Peer, callers, peer_of
from hsm.config import HsmConfig
from hsm.errors import ConfigurationError


def by_name(*configured: CallerConfig, socket_path: str = "hsm.sock") -> dict[str, Caller]:
    return {caller.name: caller for caller in callers(configured, socket_path)}


def test_every_command_has_a_caller() -> None:
    assert set(COMMANDS) == set().union(*CALLERS.values())


def test_without_configuration_everything_is_as_the_table_says() -> None:
    found = by_name()
    assert set(found) == set(CALLERS) - {"gateway"}  # which has no key yet, and so no socket
    for name, caller in found.items():
        assert caller.commands == {COMMANDS[tag] for tag in CALLERS[name]}
        assert caller.users == {os.getuid(), 0} and caller.mode == 0o600
        assert caller.socket == ("hsm.sock" if name == "switch" else f"hsm-{name}.sock")


@pytest.mark.parametrize(
    ("caller", "command"),
    [
        ("switch", "tokenize"), ("switch", "detokenize"), ("switch", "export_key"), ("switch", "card_value"),
        ("tokenizer", "screen"), ("tokenizer", "dispatch"), ("tokenizer", "detokenize"), ("tokenizer", "mac"),
        ("issuer", "dispatch"), ("issuer", "generate_key"), ("requestor", "detokenize"),
        ("gateway", "screen"), ("gateway", "dispatch"), ("gateway", "tokenize"), ("gateway", "list_keys"),
        ("officer", "dispatch"), ("officer", "screen"), ("officer", "verify_pin"), ("officer", "translate_pin"),
    ],
)  # fmt: skip
def test_what_a_role_must_not_do(caller: str, command: str) -> None:
    assert command in COMMANDS and command not in CALLERS[caller]


def test_sockets_stand_beside_the_switch_s() -> None:
    found = by_name(socket_path="/run/cards/payments.sock")
    assert found["switch"].socket == "/run/cards/payments.sock"
    assert found["officer"].socket == "/run/cards/payments-officer.sock"


def test_configuration_replaces_what_it_names() -> None:
    found = by_name(
        CallerConfig(name="tokenizer", users=("1234", "root")),
        CallerConfig(name="switch", socket="s.sock"),
        CallerConfig(name="issuer", commands=()),
        CallerConfig(name="officer", commands=("list_keys", "status")),
        CallerConfig(name="clearing", socket="clearing.sock", commands=("detokenize",)),
    )
    assert found["tokenizer"].users == {1234, 0} and found["tokenizer"].mode == 0o660
    assert found["tokenizer"].commands == {COMMANDS[tag] for tag in CALLERS["tokenizer"]}
    assert found["switch"].socket == "s.sock"
    assert "issuer" not in found  # with no commands there is no socket
    assert found["officer"].commands == {COMMANDS["list_keys"], COMMANDS["status"]}
    assert found["clearing"].commands == {COMMANDS["detokenize"]}


def test_a_gateway_has_the_keys_that_are_named_for_it_and_no_others() -> None:
    found = by_name(CallerConfig(name="gateway", keys=("zak-gateway",)), CallerConfig(name="switch", keys=()))
    assert found["gateway"].keys == {"zak-gateway"} and found["gateway"].socket == "hsm-gateway.sock"
    assert "switch" not in found  # with no keys there is no socket
    assert "gateway" not in by_name(CallerConfig(name="gateway", users=("root",)))
    assert all(caller.keys is None for caller in by_name().values())


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (CallerConfig(name="clearing", commands=("mac",)), "caller[clearing].socket: missing"),
        (CallerConfig(name="clearing", socket="c.sock"), "caller[clearing].commands: missing"),
        (CallerConfig(name="switch", commands=("nonsense",)), "there is no command 'nonsense'"),
        (CallerConfig(name="switch", users=("nobody-knows-him",)), "this machine has no user 'nobody-knows-him'"),
        (CallerConfig(name="x", socket="hsm.sock", commands=("mac",)), "hsm.sock is the socket of switch"),
        (CallerConfig(name="", socket="y", commands=("mac",)), "names are unique and not empty"),
    ],
)
def test_what_cannot_be_is_said(entry: CallerConfig, said: str) -> None:
    assert any(said in problem for problem in HsmConfig(callers=(entry,)).problems())
    with pytest.raises(ConfigurationError):
        callers((entry,), "hsm.sock")


def test_the_console_knows_the_sockets() -> None:
    config = Config(caller=(CallerConfig(name="officer", socket="/run/officer.sock"),))
    assert config.hsm_config().callers == config.caller
    assert config.hsm_socket.name == "hsm.sock"
    assert config.caller_socket("tokenizer").name == "hsm-tokenizer.sock"
    assert str(config.caller_socket("officer")) == "/run/officer.sock"


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    caller = by_name()["switch"]
    one, other = socket.socketpair()

    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return one

    with one, other:
        for peer in (peer_of(one, caller), listener.transport_peer(Transport(), caller)):
            assert (peer.uid, peer.gid, peer.pid) == (os.getuid(), os.getgid(), os.getpid())


def test_another_user_is_cut_off_and_taken_down(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Peer] = []

    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Queue:
        class service:
            refuse_connection = staticmethod(taken.append)

    caller = by_name()["tokenizer"]
    stranger = Peer(caller, os.getuid() + 1, 99, 98)
    monkeypatch.setattr(listener, "transport_peer", lambda transport, caller: stranger)
    queue: Any = Queue()
    transport: Any = Transport()
    connection = listener.Connection(queue, set(), 10, caller)
    connection.connection_made(transport)
    assert transport.aborted and connection.closed and taken == [stranger]


def test_sockets_have_the_mode_of_their_caller(tmp_path: Path) -> None:
    from hsm.server import bind_private

    for mode in (0o600, 0o660):
        with bind_private(tmp_path / f"{mode}.sock", mode):
            assert (tmp_path / f"{mode}.sock").stat().st_mode & 0o777 == mode
