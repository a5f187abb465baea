"""Connections of a link: dialled or accepted in either role, several, signed on, suspended, and never given up."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from messages.framing import framing
from switch.errors import WireError
from switch.links.acquirer_port import AcquirerPort
from switch.links.connections import Connections
from switch.links.issuer_line import IssuerLine
from switch.links.management import Told
from switch.links.memory_network import MemoryNetwork
from switch.links.network import Wire
from switch.links.state import LinkState
from tests.switch.links.peers import Desk, Peer, management, request, run, until

LINES: list[Callable[[Desk], AcquirerPort | IssuerLine]] = [
    lambda desk: desk.line(),
    lambda desk: desk.line(listen="issuer:1"),
    lambda desk: desk.port(address="port:1", sign_on=True),
    lambda desk: desk.port(sign_on=True),
]
IDS = ["issuer-we-dial", "issuer-it-dials", "acquirer-we-dial", "acquirer-it-dials"]


async def opened(desk: Desk, end: AcquirerPort | IssuerLine, nursery: trio.Nursery) -> Callable[[], object]:
    """Run a link; returned is what gives the next connection, seen from the peer."""
    acceptor = await desk.memory.listen(end.link.address) if end.link.dials else None
    await end.listen()
    nursery.start_soon(end.run)

    async def peer() -> Peer:
        wire = await (acceptor.accept() if acceptor is not None else desk.memory.dial(end.link.listen, 1.0))
        return Peer(wire)

    return peer


@pytest.mark.parametrize("make", LINES, ids=IDS)
def test_either_side_may_dial_in_either_role(make: Callable[[Desk], AcquirerPort | IssuerLine]) -> None:
    """The peer is signed on to, asks an echo, sends a request, and is asked something itself."""

    async def script() -> None:
        desk = Desk()
        end = make(desk)
        async with trio.open_nursery() as nursery:
            peer = await (await opened(desk, end, nursery))()  # type: ignore[operator]
            signing = await peer.receive()
            assert (signing.mti, signing.elements[70]) == ("0800", "001")
            assert end.session is None
            await peer.answer(signing)
            await until(lambda: end.session)
            assert desk.ups == 1
            echoed = await peer.asked(management("301"))
            assert (echoed.mti, echoed.elements[39]) == ("0810", "00")
            await peer.send(request(5, "0422"))
            await until(lambda: desk.served)
            desk.answer()
            answered = await peer.receive()
            assert (answered.mti, answered.elements[11], answered.elements[39]) == ("0432", "000005", "00")

            async def exchange() -> None:
                told = await end.session.exchange(request(7), trio.current_time() + 3.0)
                assert told.elements[39] == "51"

            async with trio.open_nursery() as asking:
                asking.start_soon(exchange)
                await peer.answer(await peer.receive(), "51")
            nursery.cancel_scope.cancel()

    run(script)


@pytest.mark.parametrize("make", LINES, ids=IDS)
def test_a_peer_that_refuses_the_sign_on_loses_its_connection_and_is_asked_again(
    make: Callable[[Desk], AcquirerPort | IssuerLine],
) -> None:
    async def script() -> None:
        desk = Desk()
        end = make(desk)
        async with trio.open_nursery() as nursery:
            connect = await opened(desk, end, nursery)
            for code in ("58", "", "00"):
                peer = await connect()  # type: ignore[operator]
                signing = await peer.receive()
                if code:
                    await peer.answer(signing, code)
                if code != "00":
                    assert await peer.receive() is None  # closed; "" was not answered in time
            await until(lambda: end.session)
            nursery.cancel_scope.cancel()

    run(script)


def test_several_connections_take_requests_in_turn() -> None:
    async def script() -> None:
        desk = Desk()
        line = desk.line(connections=3)
        async with trio.open_nursery() as nursery:
            connect = await opened(desk, line, nursery)
            peers = [await connect() for _ in range(3)]  # type: ignore[operator]
            for peer in peers[:2]:
                await peer.answer(await peer.receive())
            await until(lambda: sum(session.carries_traffic for session in line.sessions) == 2)
            assert len({line.session for _ in range(10)}) == 2  # the third has not signed on
            await peers[2].answer(await peers[2].receive())
            await until(lambda: sum(session.carries_traffic for session in line.sessions) == 3)
            turns = [line.session for _ in range(6)]
            assert len(set(turns[:3])) == 3 and turns[:3] == turns[3:]
            peers[0].wire.close()
            await until(lambda: len(line.sessions) == 2)
            assert len({line.session for _ in range(10)}) == 2 and line.fit
            again = await connect()  # type: ignore[operator]
            await again.answer(await again.receive())
            await until(lambda: len({line.session for _ in range(10)}) == 3)
            nursery.cancel_scope.cancel()

    run(script)


def test_workers_share_the_connections_that_a_peer_makes() -> None:
    """With `connections` a worker leaves to the others what is above its share."""

    async def script() -> None:
        desk = Desk(seed=3)
        lines = [desk.line(listen="issuer:1", connections=1, sign_on=False) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for line in lines:
                await line.listen()
                nursery.start_soon(line.run)
            waiting: list[Wire] = []
            while not all(line.fit for line in lines):
                waiting.append(await desk.memory.dial("issuer:1", 1.0))
                await trio.sleep(1.0)
                assert all(len(line.sessions) <= 1 for line in lines)
            nursery.cancel_scope.cancel()

    run(script)


def test_connections_above_the_limit_are_closed() -> None:
    async def script() -> None:
        desk = Desk()
        port = desk.port(max_connections=2, max_per_address=3)
        async with trio.open_nursery() as nursery:
            await port.listen()
            nursery.start_soon(port.run)
            wires = [await desk.memory.dial("port:1", 1.0) for _ in range(3)]
            assert await wires[2].receive() == b""
            await until(lambda: len(port.sessions) == 2)
            assert desk.meters.value("connections_refused", "pos", "too_many") == 1
            wires[0].close()
            await until(lambda: len(port.sessions) == 1)
            fourth = Peer(await desk.memory.dial("port:1", 1.0))
            assert (await fourth.asked(management("301"))) is not None
            nursery.cancel_scope.cancel()

    run(script)


def test_a_peer_that_must_sign_on_gets_nothing_and_may_send_nothing_before() -> None:
    async def script() -> None:
        desk = Desk()
        line = desk.line(listen="issuer:1", sign_on=False, must_sign_on=True)
        async with trio.open_nursery() as nursery:
            peer = await (await opened(desk, line, nursery))()  # type: ignore[operator]
            await until(lambda: line.sessions)
            assert line.session is None and line.sessions[0].state is LinkState.SIGNED_OFF
            assert (await peer.asked(management("001"))).elements[39] == "00"
            assert line.session is not None
            assert (await peer.asked(management("002"))).elements[39] == "00"
            assert line.session is None
            nursery.cancel_scope.cancel()

    run(script)


def test_an_operator_suspends_and_resumes() -> None:
    async def script() -> None:
        desk = Desk()
        line = desk.line(connections=2)
        async with trio.open_nursery() as nursery:
            connect = await opened(desk, line, nursery)
            first = await connect()  # type: ignore[operator]
            await first.answer(await first.receive())
            await until(lambda: line.session)
            line.connections.suspend()
            line.connections.suspend()
            assert line.session is None and not line.fit
            assert line.sessions[0].state is LinkState.SUSPENDED
            assert (await first.asked(management("301"))).elements[39] == "00"  # echoes go on
            second = await connect()  # type: ignore[operator]
            await second.answer(await second.receive())  # later connections are suspended, too
            await until(lambda: line.sessions[1].state is LinkState.SUSPENDED)
            ups = desk.ups
            line.connections.resume()
            assert line.session is not None and desk.ups == ups + 1
            assert [session.state for session in line.sessions] == [LinkState.SIGNED_ON] * 2
            nursery.cancel_scope.cancel()

    run(script)


def test_an_operator_signs_off_echoes_and_signs_on() -> None:
    async def script() -> None:
        desk = Desk()
        line = desk.line(deadline_s=2.0, reconnect_cap_s=1.0)
        told: list[Told] = []

        async def ask(what: Callable[[], object]) -> None:
            told[:] = await what()  # type: ignore[misc]

        async with trio.open_nursery() as nursery:
            connect = await opened(desk, line, nursery)
            peer = await connect()  # type: ignore[operator]
            await peer.answer(await peer.receive())
            await until(lambda: line.session)
            connections: Connections = line.connections
            for what, code, answer, state in (
                (connections.echo, "301", "00", "signed_on"),
                (connections.sign_off, "002", "00", "signed_off"),
                (connections.sign_on, "001", "58", "signed_off"),
                (connections.sign_on, "001", "", "signed_off"),
                (connections.sign_on, "001", "00", "signed_on"),
                (connections.sign_off, "002", "", "signed_off"),
            ):
                async with trio.open_nursery() as asking:
                    asking.start_soon(ask, what)
                    asked = await peer.receive()
                    assert asked.elements[70] == code
                    if answer:
                        await peer.answer(asked, answer)
                assert [(row.code, row.state) for row in told] == [(answer, state)]
                assert answer or told[0].elapsed_s == pytest.approx(2.0)
            # Signed off by an operator: a new connection does not sign on by itself.
            peer.wire.close()
            peer = await connect()  # type: ignore[operator]
            await until(lambda: line.sessions)
            echo = await peer.receive()
            assert echo.elements[70] == "301" and line.session is None
            nursery.cancel_scope.cancel()

    run(script)


def test_a_link_without_connections_has_nothing_to_sign_on() -> None:
    async def script() -> None:
        port = Desk().port()
        assert await port.connections.sign_on() == []

    run(script)


def test_pauses_double_up_to_the_cap_and_are_jittered() -> None:
    async def script() -> None:
        desk = Desk()
        line = desk.line(reconnect_s=0.5, reconnect_cap_s=8.0)
        dialled: list[float] = []

        async def dial(address: str, timeout_s: float) -> Wire:
            dialled.append(trio.current_time())
            raise WireError(f"{address}: nobody")

        desk.memory.dial = dial  # type: ignore[method-assign]
        with trio.move_on_after(600.0):
            await line.run()
        pauses = [later - earlier for earlier, later in itertools.pairwise(dialled)]
        for number, pause in enumerate(pauses):
            longest = min(8.0, 0.5 * 2**number)
            assert longest / 2 <= pause <= longest
        assert len({round(pause, 3) for pause in pauses[5:]}) > 50
        assert desk.meters.value("dials_failed", "alpha") == len(dialled)

    run(script)


class HostileWire:
    """A connection that breaks in one way or another after some calls."""

    peer = "hostile"

    def __init__(self, rng: random.Random, error: BaseException | None, calls: int) -> None:
        self._rng = rng
        self._error = error
        self._calls = calls
        self._closed = trio.Event()

    async def _call(self) -> None:
        await trio.sleep(self._rng.uniform(0.0, 0.5))
        self._calls -= 1
        if self._calls < 0 and self._error is not None:
            raise self._error

    async def receive(self) -> bytes:
        await self._call()
        if self._calls < 0 or self._closed.is_set():
            return b""
        return self._rng.choice([b"\x00\x00", b"\x00\x04abcd", b"\xff\xff", framing().encode(b"0810" + bytes(30))])

    async def send(self, data: bytes) -> None:
        await self._call()

    @property
    def unread(self) -> bool:
        return False

    async def end(self) -> None:
        await self._call()

    def close(self) -> None:
        self._closed.set()


class Hostile(MemoryNetwork):
    """Each connection that is dialled fails in its own way, until there are no more ways."""

    def __init__(self, seed: int, ways: list[tuple[str, int]]) -> None:
        super().__init__(random.Random(seed))
        self.rng = random.Random(seed)
        self.ways = ways

    async def dial(self, address: str, timeout_s: float) -> Wire:  # type: ignore[override]
        if not self.ways:
            return await super().dial(address, timeout_s)
        where, calls = self.ways.pop(0)
        error = ERRORS[calls % len(ERRORS)]
        if where == "dial":
            raise error
        return HostileWire(self.rng, error if where == "wire" else None, calls)


ERRORS: list[Exception] = [
    WireError("gone"),
    OSError(104, "reset"),
    ValueError("a bug"),
    RuntimeError("another"),
    ExceptionGroup("several", [KeyError("one"), ZeroDivisionError()]),
    TimeoutError(),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "no"),
]


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    ways=st.lists(st.tuples(st.sampled_from(["dial", "wire", "end"]), st.integers(0, 20)), max_size=12),
)
def test_whatever_goes_wrong_in_a_connection_is_followed_by_another_dial(
    seed: int, ways: list[tuple[str, int]]
) -> None:
    async def script() -> None:
        desk = Desk(seed, network=Hostile(seed, list(ways)))
        line = desk.line(deadline_s=1.0, echo_s=2.0, reconnect_cap_s=5.0)
        acceptor = await MemoryNetwork.listen(desk.network, "issuer:1")  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            with trio.fail_after(60.0 + 30.0 * len(ways)):
                peer = Peer(await acceptor.accept())
            await peer.answer(await peer.receive())
            await until(lambda: line.session)
            assert len(line.sessions) == 1
            nursery.cancel_scope.cancel()

    with capture_logs():  # tracebacks are slow to render
        run(script)


def test_an_address_that_is_lost_is_taken_again() -> None:
    async def script() -> None:
        desk = Desk()
        port = desk.port(reconnect_s=1.0)
        async with trio.open_nursery() as nursery:
            await port.listen()
            nursery.start_soon(port.run)
            first = Peer(await desk.memory.dial("port:1", 1.0))
            with capture_logs() as events:
                for failure in (WireError("the descriptor is gone"), RuntimeError("a bug")):
                    (acceptor,) = desk.memory._acceptors["port:1"]
                    acceptor.break_with(failure)
                    await trio.sleep(3.0)
            errors = [event["event"] for event in events if event["log_level"] == "error"]
            assert errors == ["address_lost", "accepting_failed"]
            second = Peer(await desk.memory.dial("port:1", 1.0))
            for peer in (first, second):  # connections that were there have noticed nothing
                assert (await peer.asked(management("301"))) is not None
            nursery.cancel_scope.cancel()

    run(script)


@settings(deadline=None, max_examples=50)
@given(ways=st.lists(st.tuples(st.sampled_from(["wire", "end"]), st.integers(0, 20)), max_size=12))
def test_whatever_goes_wrong_in_an_accepted_connection_the_next_is_taken(ways: list[tuple[str, int]]) -> None:
    async def script() -> None:
        desk = Desk()
        port = desk.port(echo_s=2.0)
        async with trio.open_nursery() as nursery:
            await port.listen()
            (acceptor,) = desk.memory._acceptors["port:1"]
            nursery.start_soon(port.run)
            for where, calls in ways:
                error = ERRORS[calls % len(ERRORS)]
                acceptor.offer(HostileWire(desk.rng, error if where == "wire" else None, calls))  # type: ignore[arg-type]
            await trio.sleep(120.0)
            assert not port.sessions
            peer = Peer(await desk.memory.dial("port:1", 1.0))
            assert (await peer.asked(management("301"))) is not None
            nursery.cancel_scope.cancel()

    with capture_logs():  # tracebacks are slow to render
        run(script)


@pytest.mark.parametrize("by_operator", [False, True])
def test_a_sign_on_that_is_answered_after_a_sign_off_changes_nothing(by_operator: bool) -> None:
    """Signing on takes as long as the peer likes; the operator's last command counts."""

    async def script() -> None:
        desk = Desk()
        line = desk.line()
        async with trio.open_nursery() as nursery:
            peer = await (await opened(desk, line, nursery))()  # type: ignore[operator]
            signing = await peer.receive()
            if by_operator:
                await peer.answer(signing)
                await until(lambda: line.session)
                nursery.start_soon(line.connections.sign_on)
                signing = await peer.receive()
            nursery.start_soon(line.connections.sign_off)
            leaving = await peer.receive()
            assert (signing.elements[70], leaving.elements[70]) == ("001", "002")
            await peer.answer(signing)
            await peer.answer(leaving)
            await trio.sleep(1.0)
            assert line.session is None and line.sessions[0].state is LinkState.SIGNED_OFF
            nursery.cancel_scope.cancel()

    run(script)
