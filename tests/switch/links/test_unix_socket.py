"""Unix sockets of links: whose they are, who may connect, and what may not be removed for them."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from hsm.peer_credentials import user_id
from switch.config import switch_config
from switch.errors import ConfigError, WireError
from switch.links.network import SocketNetwork
from switch.links.settings import AcquirerLink
from switch.links.unix_socket import bound, peer_of, users_of
from tests.simulation.world import TABLE
from tests.switch.links.peers import Desk, request, until


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A socket's path, in a directory of our own."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory / "gateway.sock"


@pytest.mark.parametrize(("shared", "mode"), [(False, 0o600), (True, 0o660)])
def test_a_socket_has_its_mode_whatever_the_umask(place: Path, shared: bool, mode: int) -> None:
    former = os.umask(0)
    try:
        with bound(place, shared):
            assert stat.S_IMODE(place.stat().st_mode) == mode
    finally:
        os.umask(former)


def test_a_directory_that_is_not_there_is_made_for_us_alone(place: Path) -> None:
    with bound(place.parent / "links" / "a.sock", False):
        assert stat.S_IMODE((place.parent / "links").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_can_write_is_refused(place: Path, mode: int) -> None:
    place.parent.chmod(mode)
    with pytest.raises(WireError, match="chmod go-w"):
        bound(place, False)


def test_a_stale_socket_is_replaced(place: Path) -> None:
    bound(place, False).close()
    assert place.exists()
    with bound(place, False):
        pass


def test_a_socket_that_somebody_listens_on_stays(place: Path) -> None:
    with bound(place, False), pytest.raises(WireError, match="another process listens"):
        bound(place, False)


def test_what_a_link_or_a_file_names_is_never_removed(place: Path) -> None:
    target = place.with_name("precious")
    target.write_text("precious")
    for make in (lambda: place.symlink_to(target), lambda: place.write_text("x")):
        make()
        with pytest.raises(WireError, match="no socket of ours"):
            bound(place, False)
        assert place.is_symlink() or place.read_text() == "x"
        assert target.read_text() == "precious"
        place.unlink()


def test_a_link_to_a_stale_socket_is_not_followed(place: Path) -> None:
    other = place.with_name("other.sock")
    bound(other, False).close()
    place.symlink_to(other)
    with pytest.raises(WireError):
        bound(place, False)
    assert other.exists() and place.is_symlink()


def test_the_kernel_says_who_is_at_the_other_end(place: Path) -> None:
    with bound(place, False) as listening, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dialled:
        dialled.connect(str(place))
        accepted, _ = listening.accept()
        with accepted:
            assert peer_of(accepted) == (os.getpid(), os.geteuid())
            assert peer_of(dialled) == (os.getpid(), os.geteuid())


def test_bytes_pass_and_both_ends_know_the_user(place: Path) -> None:
    async def main() -> None:
        network = SocketNetwork()
        acceptor = await network.listen(f"unix:{place}")
        assert acceptor.address == f"unix:{place}"
        dialled = await network.dial(f"unix:{place}", 1.0)
        accepted = await acceptor.accept()
        assert dialled.uid == accepted.uid == os.geteuid()
        assert accepted.peer == f"user {os.geteuid()} process {os.getpid()}"
        got = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialled.send, b"x" * 300_000)
            while got < 300_000:
                got += len(await accepted.receive())
        dialled.close()
        assert await accepted.receive() == b""
        accepted.close()
        acceptor.close()

    trio.run(main)


OWN, OTHER = str(os.geteuid()), "4242"


@pytest.mark.parametrize(("listening", "dialling"), [((), ()), ((OTHER, OWN), ()), ((), (OTHER, OWN))])
def test_a_link_carries_requests_of_its_users(
    place: Path, listening: tuple[str, ...], dialling: tuple[str, ...]
) -> None:
    async def script() -> None:
        async with _port_and_line(place, listening, dialling) as (here, port, line):
            await until(lambda: line.session)

            async def exchange() -> None:
                told = await line.session.exchange(request(7), trio.current_time() + 2.0)
                assert told.elements[39] == "51"

            async with trio.open_nursery() as asking:
                asking.start_soon(exchange)
                await until(lambda: here.served)
                here.answer(code="51")
            assert port.sessions[0].peer.startswith(f"user {OWN} process ")

    trio.run(script)


@pytest.mark.parametrize(("listening", "dialling"), [((OTHER,), ()), ((), (OTHER,))])
def test_a_connection_of_another_user_is_closed_by_either_end(
    place: Path, listening: tuple[str, ...], dialling: tuple[str, ...]
) -> None:
    async def script() -> None:
        async with _port_and_line(place, listening, dialling) as (here, port, line):
            refused = lambda: sum(  # noqa: E731
                end.connections._meters.value("connections_refused", end.name, "peer_user") for end in (port, line)
            )
            await until(lambda: refused() > 1)
            assert line.session is None and not here.served

    trio.run(script)


@asynccontextmanager
async def _port_and_line(
    place: Path, listening: tuple[str, ...], dialling: tuple[str, ...]
) -> AsyncIterator[tuple[Desk, Any, Any]]:
    """A link that listens on a unix socket, and one of another switch that dials it."""
    here, there = Desk(network=SocketNetwork()), Desk(network=SocketNetwork())
    async with trio.open_nursery() as nursery:
        port = here.port(listen=f"unix:{place}", peer_users=listening)
        await port.listen()
        nursery.start_soon(port.run)
        line = there.line(
            address=port.address, peer_users=dialling, sign_on=False, reconnect_s=0.05, reconnect_cap_s=0.05
        )
        nursery.start_soon(line.run)
        yield here, port, line
        nursery.cancel_scope.cancel()


def test_users_by_name_and_number() -> None:
    assert user_id("root") == 0 == user_id("0")
    assert user_id("no-such-user") is None
    assert users_of(()) == {os.geteuid()}
    assert users_of(("0", "no-such-user")) == {0}
    assert users_of(("no-such-user",)) == {os.geteuid()}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"listen": "unix:"}, "path of 1 to 107 bytes"),
        ({"listen": "unix:" + "x" * 108}, "path of 1 to 107 bytes"),
        ({"listen": "unix:a.sock", "peer_users": ["no-such-user"]}, "no user 'no-such-user'"),
        ({"listen": "127.0.0.1:5010", "peer_users": ["root"]}, "must begin with unix:"),
        ({"listen": "unix:a.sock", "tls": {"pins": ["0" * 64]}}, "a unix socket has none"),
    ],
)
def test_settings_that_no_unix_socket_can_have(changes: dict[str, object], problem: str) -> None:
    rows = [row if row["name"] != "pos" else {**row, **changes} for row in TABLE["acquirer"]]
    with pytest.raises(ConfigError) as raised:
        switch_config({**TABLE, "acquirer": rows})
    assert any(problem in line for line in raised.value.problems), raised.value.problems


@pytest.mark.parametrize(
    ("changes", "identity"),
    [
        ({}, ()),
        ({"mac_key": "zak"}, ("mac",)),
        ({"listen": "unix:a.sock"}, ("peer user",)),
        ({"listen": "unix:a.sock", "mac_key": "zak"}, ("peer user", "mac")),
    ],
)
def test_what_proves_the_identity_of_a_peer(changes: dict[str, str], identity: tuple[str, ...]) -> None:
    link = AcquirerLink(**{"name": "pos", "dialect": "iso87-ascii", "listen": "127.0.0.1:1", **changes})
    assert link.identity == identity
