"""The control socket of a worker, over a real unix socket: its lists, its refusals, its limits."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from hsm.commands import HsmUnavailable
from hsm.key_commands import KeyInfo
from hsm.keys.attributes import ROLES
from switch.control import MAX_COMMAND_BYTES, ControlServer, ask
from switch.errors import ControlError, KeyExchangeFailed
from switch.links.key_exchange import Exchanged
from switch.links.management import Told
from switch.links.permissions import Permissions
from switch.links.settings import AcquirerLink
from switch.links.state import LinkState

KCV = "ABC123"
NAMES = {"pin": "zpk-alpha", "mac": "zak-alpha"}


class FakeSession:
    state = LinkState.SIGNED_ON
    echoed_at: float | None = None

    def __init__(self) -> None:
        self.heard_at = trio.current_time() - 5.0


class FakeConnections:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def suspend(self) -> None:
        self.asked.append("suspend")

    def resume(self) -> None:
        self.asked.append("resume")

    async def echo(self) -> list[Told]:
        return [Told("near:1", "00", 0.0123456789, "signed_on"), Told("far:1", "", 3.0, "signed_on")]

    async def sign_off(self) -> list[Told]:
        return [Told("near:1", "00", 0.001, "signed_off")]

    async def sign_on(self) -> list[Told]:
        return []


class FakePart:
    in_flight = 3
    link = AcquirerLink(
        name="pos", listen="unix:pos.sock", dialect="iso87-ascii", permissions=Permissions(messages=("0200",))
    )

    def __init__(self) -> None:
        self.connections = FakeConnections()

    @property
    def session(self) -> FakeSession:
        return FakeSession()

    @property
    def sessions(self) -> tuple[FakeSession, ...]:
        return (self.session,)


class FakeSender:
    backlog = 7


class FakeExchange:
    keys = NAMES

    def __init__(self) -> None:
        self.failure: Exception | None = None

    async def infos(self, kind: str) -> tuple[KeyInfo, ...]:
        if self.failure is not None:
            raise self.failure
        attributes = ROLES["pin"].algorithms["TDES"]
        return tuple(
            KeyInfo(name=NAMES[kind], version=version, role=kind, attributes=attributes, kcv=KCV, status=status)
            for version, status in ((1, "retired"), (2, "previous"), (3, "active"))
        )

    async def start(self, kind: str) -> Exchanged:
        if self.failure is not None:
            raise self.failure
        return Exchanged("alpha", kind, NAMES[kind], 4, KCV)


def on_socket(tmp_path: Path, work: Callable[[Path, FakeExchange], Any], part: FakePart | None = None) -> Any:
    """Run blocking `work` in a thread beside a control server."""
    path = tmp_path / "switch-0.sock"

    async def main() -> Any:
        exchange, sender = FakeExchange(), FakeSender()
        served = part or FakePart()
        server = ControlServer(0, {"alpha": served}, {}, {"alpha": sender}, {"alpha": exchange})  # type: ignore[dict-item]
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run, path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            found = await trio.to_thread.run_sync(work, path, exchange)
            nursery.cancel_scope.cancel()
        assert not path.exists()
        return found

    return trio.run(main)


def test_links_with_their_keys(tmp_path: Path) -> None:
    (row,) = on_socket(tmp_path, lambda path, exchange: ask(path, "links"))
    assert (row["link"], row["side"], row["state"], row["worker"]) == ("alpha", "issuer", "signed_on", 0)
    assert (row["connections"], row["in_flight"], row["backlog"], row["echo_s"]) == (1, 3, 7, None)
    assert 4.9 < row["heard_s"] < 60
    assert [(key["kind"], key["version"], key["status"], key["kcv"]) for key in row["keys"]] == [
        (kind, version, status, KCV) for kind in ("pin", "mac") for version, status in ((2, "previous"), (3, "active"))
    ]


def test_links_are_listed_while_the_hsm_is_away(tmp_path: Path) -> None:
    def work(path: Path, exchange: FakeExchange) -> Any:
        exchange.failure = HsmUnavailable("away")
        return ask(path, "links")

    (row,) = on_socket(tmp_path, work)
    assert row["keys"] is None and row["state"] == "signed_on"


def test_a_link_is_suspended_and_resumed(tmp_path: Path) -> None:
    part = FakePart()

    def work(path: Path, exchange: FakeExchange) -> Any:
        return [ask(path, what, link="alpha") for what in ("suspend", "resume")]

    for (row,) in on_socket(tmp_path, work, part):
        assert (row["link"], row["state"]) == ("alpha", "signed_on")
    assert part.connections.asked == ["suspend", "resume"]


def test_network_management_of_an_operator_shows_each_connection(tmp_path: Path) -> None:
    def work(path: Path, exchange: FakeExchange) -> Any:
        return [ask(path, what, link="alpha") for what in ("echo", "sign-off", "sign-on")]

    echoed, off, on = on_socket(tmp_path, work)
    assert [(row["peer"], row["code"], row["elapsed_s"]) for row in echoed] == [
        ("near:1", "00", 0.012346),
        ("far:1", "", 3.0),
    ]
    assert [(row["worker"], row["link"], row["state"]) for row in off] == [(0, "alpha", "signed_off")]
    assert on == []


def test_an_exchange_and_its_failure(tmp_path: Path) -> None:
    def work(path: Path, exchange: FakeExchange) -> Any:
        done = ask(path, "exchange-key", link="alpha", kind="pin")
        exchange.failure = KeyExchangeFailed("no_answer", "the peer of alpha did not answer")
        with pytest.raises(ControlError, match="did not answer") as caught:
            ask(path, "exchange-key", link="alpha", kind="pin")
        return done, caught.value.code

    done, code = on_socket(tmp_path, work)
    assert done == [{"link": "alpha", "kind": "pin", "name": "zpk-alpha", "version": 4, "kcv": KCV}]
    assert code == "no_answer"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"cmd": "exchange-key", "link": "beta", "kind": "pin"}', "no_link"),
        (b'{"cmd": "suspend", "link": "beta"}', "no_link"),
        (b'{"cmd": "echo"}', "no_link"),
        (b'{"cmd": "shutdown"}', "unknown"),
        (b"{}", "unknown"),
        (b"[1]", "malformed"),
        (b"nonsense", "malformed"),
        (b"", "malformed"),
        (b"x" * (2 * MAX_COMMAND_BYTES), "malformed"),
    ],
)
def test_what_is_no_command_is_answered_and_the_socket_stays(tmp_path: Path, line: bytes, code: str) -> None:
    def work(path: Path, exchange: FakeExchange) -> Any:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            sock.sendall(line + b"\n")
            answer = sock.makefile("rb").readline()
        return answer, ask(path, "links")

    answer, rows = on_socket(tmp_path, work)
    assert f'"code":"{code}"'.encode() in answer and b'"ok":false' in answer
    assert len(rows) == 1


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        ask(tmp_path / "switch-0.sock", "links")
    assert caught.value.code == "away"
