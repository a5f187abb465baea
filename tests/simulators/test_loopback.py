"""Issuer server and acquirer client on real loopback sockets: without a switch between them the book keys are equal
but for the acquirer's year and id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.book import State
from simulators.acquirer.client import AcquirerClient, open_acquirer
from simulators.control import ask, ask_book
from simulators.errors import ControlError, Unanswered
from simulators.faults import FaultRule
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.serve import serve_issuer

ZPK = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
CARD = Card("4242424242424242", pin="1234")
DIALECTS = ("iso87-ascii", "iso87-bcd", "iso87-ebcdic", "iso93-ascii", "iso93-binary", "iso2003-ascii")


def scenario(**changes: object) -> IssuerScenario:
    values: dict[str, object] = {
        "name": "alpha",
        "pin_key": "zpk",
        "prefixes": ("4",),
        "default": AccountRule(balance_minor=100_000),
    }
    return IssuerScenario(**{**values, **changes})  # type: ignore[arg-type]


def play(
    tmp_path: Path,
    script: Callable[[AcquirerClient, Path], Awaitable[None]],
    timeout_s: float = 5.0,
    attempts: int = 20,
    book_path: Path | None = None,
    **changes: object,
) -> None:
    """Run `script` with a client that is connected to an issuer; the control socket is its second argument."""
    control = tmp_path / "control.sock"
    played = scenario(**changes)

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def start(*, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED) -> None:
                await serve_issuer(
                    played, keys={"zpk": ZPK}, control_path=control, book_path=book_path, task_status=task_status
                )

            address = await nursery.start(start)
            acquirer = Acquirer(AcquirerProfile(link="pos", dialect=played.dialect), pin_key=ZPK)
            async with open_acquirer(acquirer, address, timeout_s=timeout_s, attempts=attempts) as client:
                await script(client, control)
            nursery.cancel_scope.cancel()

    trio.run(main)


def now() -> datetime:
    return datetime.now(UTC)


async def book_of(control: Path) -> list[tuple[int, int, bool]]:
    lines = await trio.to_thread.run_sync(ask_book, control)
    return [(line.held_minor, line.posted_minor, line.settled) for line in lines]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_shop_day_ends_in_equal_books(tmp_path: Path, dialect: str) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        acquirer = client.acquirer
        paid = await client.perform(acquirer.purchase(CARD, 2500, "EUR", now()))
        held = await client.perform(acquirer.authorization(CARD, 10_000, "EUR", now()))
        assert (paid.response_code, held.response_code) == ("00", "00")
        await client.perform(acquirer.capture(held, 4_000, now(), final=False))
        await client.perform(acquirer.capture(held, 5_000, now()))
        await client.perform(acquirer.refund(CARD, 1_000, now(), paid))
        void = await client.perform(acquirer.authorization(CARD, 700, "EUR", now()))
        await client.perform(acquirer.reversal(void, now()))
        assert void.state is State.REVERSED
        poor = await client.perform(acquirer.purchase(Card("4000000000009995"), 100, "EUR", now()))
        assert (poor.state, poor.response_code) == (State.DECLINED, "51")
        expected = [(0, 2500, True), (0, 9_000, True), (0, -1_000, True), (0, 0, True), (0, 0, True)]
        assert await book_of(control) == expected
        assert [(line.held_minor, line.posted_minor, line.settled) for line in acquirer.book()] == expected

    play(tmp_path, script, dialect=dialect)


def test_wrong_pin_is_declined(tmp_path: Path) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        wrong = Card(CARD.pan, pin="4321")
        request = await client.perform(client.acquirer.purchase(wrong, 100, "EUR", now()))
        assert request.response_code == "55"
        assert await book_of(control) == [(0, 0, True)]

    play(tmp_path, script)


@pytest.mark.parametrize("kind", ["silence", "disconnect-before"])
def test_a_repeat_is_answered_from_the_book(tmp_path: Path, kind: str) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        request = await client.perform(client.acquirer.purchase(CARD, 100, "EUR", now()))
        assert (request.state, request.repeats) == (State.APPROVED, 1)
        assert await book_of(control) == [(0, 100, True)]

    play(tmp_path, script, timeout_s=0.3, fault=(FaultRule(kind=kind, count=1),))  # type: ignore[arg-type]


def test_what_is_never_answered_is_reversed(tmp_path: Path) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        request = await client.perform(client.acquirer.authorization(CARD, 100, "EUR", now()))
        assert request.state is State.REVERSED
        assert await book_of(control) == [(0, 0, True)]
        assert [line.settled for line in client.acquirer.book()] == [True]

    faults = (FaultRule(kind="silence"), FaultRule(kind="silence", mti=("0420",), count=1))
    play(tmp_path, script, timeout_s=0.1, fault=faults)


def test_a_late_answer_does_not_stop_the_reversal(tmp_path: Path) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        request = await client.perform(client.acquirer.authorization(CARD, 100, "EUR", now()))
        await trio.sleep(0.3)  # until the late answers are there
        assert request.state is State.REVERSED
        assert [line.held_minor for line in client.acquirer.book()] == [0]

    play(tmp_path, script, timeout_s=0.1, fault=(FaultRule(kind="late", delay_s=0.4),))


def test_an_acquirer_gives_up_with_an_unsettled_line(tmp_path: Path) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        with pytest.raises(Unanswered):
            await client.perform(client.acquirer.authorization(CARD, 100, "EUR", now()))
        assert [line.settled for line in client.acquirer.book()] == [False]

    play(tmp_path, script, timeout_s=0.05, attempts=4, fault=(FaultRule(kind="silence", mti=("*",)),))


def test_a_chargeback_is_repeated_until_acknowledged(tmp_path: Path) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        paid = await client.perform(client.acquirer.purchase(CARD, 2500, "EUR", now()))
        rrn = paid.message.elements[37]
        told = await trio.to_thread.run_sync(lambda: ask(control, "chargeback", reference=rrn, amount_minor=2000))
        assert set(told[0]) == {"de7", "stan"}
        with trio.fail_after(5):
            while await book_of(control) != [(0, 500, True)]:  # noqa: ASYNC110 - the issuer is asked by a socket
                await trio.sleep(0.01)
        assert [line.posted_minor for line in client.acquirer.book()] == [500]
        with pytest.raises(ControlError, match="cannot be charged back"):
            await trio.to_thread.run_sync(lambda: ask(control, "chargeback", reference=rrn, amount_minor=501))

    play(tmp_path, script)


def test_faults_are_set_and_cleared_while_it_runs(tmp_path: Path) -> None:
    async def script(client: AcquirerClient, control: Path) -> None:
        def say(command: str, **arguments: Any) -> list[dict[str, Any]]:
            return ask(control, command, **arguments)

        rule = {"kind": "decline", "response_code": "61", "amount_minor": 777}
        assert await trio.to_thread.run_sync(lambda: say("fault", rule=rule)) == [{"rules": 1}]
        request = await client.perform(client.acquirer.purchase(CARD, 777, "EUR", now()))
        assert request.response_code == "61"
        assert await trio.to_thread.run_sync(lambda: say("clear")) == [{"cleared": 1}]
        request = await client.perform(client.acquirer.purchase(CARD, 777, "EUR", now()))
        assert request.response_code == "00"
        [stats] = await trio.to_thread.run_sync(lambda: say("stats"))
        assert stats["transactions"] == 2
        assert stats["counts"] == {"0800": 1, "0200": 2, "fault decline": 1}
        [account] = await trio.to_thread.run_sync(lambda: say("accounts"))
        assert account["card"] == "424242******4242"
        assert account["used"] == {"EUR": 777}
        for broken in ({"kind": "rain"}, {"kind": "delay"}, {"kind": "silence", "rate": 2.0}):
            with pytest.raises(ControlError):
                await trio.to_thread.run_sync(partial(say, "fault", rule=broken))
        with pytest.raises(ControlError, match="unknown command"):
            await trio.to_thread.run_sync(lambda: say("dance"))

    play(tmp_path, script)


def test_the_book_survives_a_restart(tmp_path: Path) -> None:
    async def first(client: AcquirerClient, control: Path) -> None:
        held = await client.perform(client.acquirer.authorization(CARD, 900, "EUR", now()))
        await client.perform(client.acquirer.capture(held, 400, now(), final=False))

    async def second(client: AcquirerClient, control: Path) -> None:
        assert await book_of(control) == [(500, 400, True)]

    path = tmp_path / "books" / "alpha.book"
    play(tmp_path, first, book_path=path)
    with path.open("ab") as file:
        file.write(b'["cut by a cra')
    play(tmp_path, second, book_path=path)
    assert CARD.pan.encode() not in path.read_bytes()


def test_a_broken_frame_behind_a_whole_one_ends_the_acquirers_connection() -> None:
    """In one segment, after which the switch says nothing more: the acquirer must not stay on a lost connection."""

    async def main() -> None:
        ended = trio.Event()

        async def switch(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(b"\x00\x041234" + b"\xff\xff")
            while await stream.receive_some():
                pass
            ended.set()

        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(partial(trio.serve_tcp, switch, 0, host="127.0.0.1"))
            acquirer = Acquirer(AcquirerProfile(link="pos", dialect="iso87-ascii"), pin_key=ZPK)
            async with open_acquirer(acquirer, listener.socket.getsockname()[:2]):
                with trio.fail_after(5):
                    await ended.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
