"""Commands of a simulator's control socket, one by one, without the socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from messages.message import Message
from simulators.control_commands import _HANDLERS, _STARTERS, COMMANDS, results
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.serve import make_issuer
from simulators.issuer.server import IssuerServer
from simulators.network import MemberScenario, Network, NetworkScenario
from tests.simulators.samples import NOW, PAN, ZPK, request, told
from tests.simulators.test_fault_bytes import Peer

Say = Callable[..., Awaitable[list[dict[str, Any]]]]


def played(script: Callable[[Say, IssuerServer, Peer], Awaitable[None]], *, network: bool = False) -> None:
    """Run a script against a simulator with one connection, whose other end answers nothing by itself."""
    if network:
        member = MemberScenario(name="north", prefixes=("4",), default=AccountRule())
        made: Any = NetworkScenario(name="scheme", issuer=(member,), needs_sign_on=False, log_messages=False)
        server = IssuerServer(Network(made), made, clock=lambda: NOW)
    else:
        made = IssuerScenario(name="alpha", pin_key="zpk", default=AccountRule(), log_messages=False)
        server = IssuerServer(make_issuer(made, {"zpk": ZPK}), made, clock=lambda: NOW)

    async def say(command: str, **arguments: Any) -> list[dict[str, Any]]:
        data = b"".join([part async for part in results(msgspec.json.encode({"cmd": command, **arguments}), server)])
        return [msgspec.json.decode(line) for line in data.splitlines()]

    async def main() -> None:
        peer = Peer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, peer)
            nursery.start_soon(server.run_started)
            await trio.testing.wait_all_tasks_blocked()
            await script(say, server, peer)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_every_command_is_served() -> None:
    assert set(_HANDLERS) | set(_STARTERS) == set(COMMANDS)


def test_faults_come_and_go() -> None:
    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        assert await say("fault", rule={"kind": "silence", "name": "quiet"}) == [{"ok": True, "rules": 1}]
        assert (await say("faults"))[0]["kind"] == "silence"
        assert await say("clear", name="loud") == [{"ok": True, "cleared": 0}]
        assert await say("clear", name="quiet") == [{"ok": True, "cleared": 1}]
        for rule, text in (
            ({"kind": "rain"}, "kind: Invalid enum value 'rain'; there are delay, late, "),
            ({"kind": "silence", "amount": 5}, "amount: unknown; there are amount_minor, "),
            ({"kind": "delay"}, "needs delay_s"),
            ({"kind": "late-reversal", "delay_s": 1}, "acquirer's"),
            (None, "expected a table"),
        ):
            [last] = await say("fault", rule=rule)
            assert last["ok"] is False
            assert text in last["error"]

    played(script)


def test_accounts_are_masked_and_looked_at() -> None:
    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        assert told(server.issuer, request(1)) == "00"
        [account, last] = await say("accounts")
        assert (account["card"], account["used"], last) == ("424242******4242", {"EUR": 1_000}, {"ok": True})
        assert await say("accounts", set={"pan": PAN, "status": "stolen"}) == [{"ok": True, "accounts": 1}]
        assert told(server.issuer, request(2)) == "43"
        [last] = await say("accounts", set={"pan": "42", "pin": "x"})
        assert last["error"] == "pan must have 12–19 digits; pin must be 4–12 digits"

    played(script)


def test_the_book_comes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.control_commands.LINES_AT_ONCE", 2)

    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        for stan in range(1, 6):
            told(server.issuer, request(stan, stan))
        lines = await say("book")
        assert [line.get("held_minor") for line in lines] == [1, 2, 3, 4, 5, None]

    played(script)


def test_connections_are_dropped_and_refused() -> None:
    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        assert await say("drop") == [{"ok": True, "dropped": 1}]
        assert peer.closed_at == 0.0
        await trio.testing.wait_all_tasks_blocked()
        assert await say("refuse", seconds=30, listening=False) == [{"ok": True, "dropped": 0}]
        assert (server.refusing_until, server.listening) == (30.0, False)
        for seconds in (-1, 3601, "x", None):
            assert (await say("refuse", seconds=seconds))[0]["ok"] is False

    played(script)


@pytest.mark.parametrize(
    ("command", "arguments", "mti"),
    [
        ("list-card", {"pan": PAN, "action": "add"}, "0302"),
        ("manage", {"what": "cut-over", "day": "0305"}, "0800"),
        ("reconcile", {"day": "0304", "currency": "EUR"}, "0520"),
    ],
)
def test_what_is_started_tells_the_answer(command: str, arguments: dict[str, str], mti: str) -> None:
    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        said: list[list[dict[str, Any]]] = []

        async def ask() -> None:
            said.append(await say(command, **arguments))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            [message] = peer.messages
            assert message.mti == mti
            peer.say(Message(f"{int(mti) + 10:04d}", {**message.elements, 39: "25"}))
        assert said == [[{"ok": True, "response_code": "25"}]]
        assert await say(command, **arguments) == [{"ok": True, "response_code": ""}]  # nobody answers

    played(script)


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("list-card", {"pan": PAN, "action": "burn"}, "add, delete, inquire"),
        ("manage", {"what": "dance"}, "sign-on, sign-off, cut-over, echo"),
        ("manage", {"what": "cut-over", "day": "May"}, "MMDD"),
        ("reconcile", {"day": "0304", "currency": "XYZ"}, "currency"),
        ("chargeback", {"reference": "x"}, "no transaction 'x'"),
        ("exchange-key", {"kind": "mac"}, "no mac key"),
        ("member", {"name": "north"}, "is no network"),
        ("dance", {}, "unknown command 'dance'"),
    ],
)
def test_what_cannot_be_is_said(command: str, arguments: dict[str, str], text: str) -> None:
    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        [last] = await say(command, **arguments)
        assert last["ok"] is False
        assert text in last["error"]
        assert peer.segments == []

    played(script)


@pytest.mark.parametrize("line", [b"", b"rain", b"[]", b'{"cmd": 1}', b'{"cmd": "book"', b"\xff"])
def test_lines_that_are_no_command(line: bytes) -> None:
    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        parts = [msgspec.json.decode(part) async for part in results(line, server)]
        assert [part["ok"] for part in parts] == [False]

    played(script)


def test_members_totals_and_texts_of_a_network() -> None:
    async def script(say: Say, server: IssuerServer, peer: Peer) -> None:
        assert told(server.issuer, request(1, 700, "0200")) == "00"
        [line, _] = await say("totals")
        assert (line["issuer"], line["currency"], line["net_minor"]) == ("north", "EUR", 700)
        assert await say("member", name="north", available=False) == [{"ok": True, "available": False}]
        assert told(server.issuer, request(2)) == "91"
        told(server.issuer, Message("0620", {7: "0304050607", 11: "000001", 48: "hello"}))
        assert (await say("records"))[0] == {"text": "0304050607000001 hello"}
        [stats] = await say("stats")
        assert (stats["transactions"], stats["signed_on"], stats["counts"]["issuer away"]) == (1, False, 1)

    played(script, network=True)
