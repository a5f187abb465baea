"""A recorded request that comes again and again: few at once, a bounded number a second, the stored answer for each."""

from __future__ import annotations

import contextlib

import pytest
import trio

from ledger.journal import Begun, Intent
from messages.message import Message
from switch.errors import WireError
from switch.links.conduct import REPEATS_BURST, STRANGERS_PER_S, UNJUDGED
from tests.simulation.world import World
from tests.switch.desk import in_world, purchase, told

CONNECTIONS, COPIES, SECONDS = 3, 1000, 10.0


class Counted:
    """Counts the intents that the journal is asked to begin."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = self.all = 0
        begin = world.journal.begin

        async def counted(intent: Intent) -> Begun:
            self.all += 1
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await begin(intent)
            finally:
                self.now -= 1

        monkeypatch.setattr(world.journal, "begin", counted)


async def _flood(world: World, message: Message) -> list[Message]:
    """The same frame very often on one connection; the answers until that is cancelled."""
    acquirer = world.clients["pos"].acquirer
    link = next(link for link in world.config.acquirers if link.name == "pos")
    form = link.framed(acquirer.codec.dialect)
    wire = await world.network.dial("pos:1", 3.0)
    answers: list[Message] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, wire, form.encode(acquirer.encode(message)) * COPIES)
            decoder = form.decoder()
            with trio.move_on_after(SECONDS):
                while data := await wire.receive():
                    answers += [acquirer.decode(frame) for frame in decoder.receive(data)]
            nursery.cancel_scope.cancel()
    finally:
        wire.close()
    return answers


async def _send(wire: object, data: bytes) -> None:
    with contextlib.suppress(WireError):
        await wire.send(data)  # type: ignore[attr-defined]


def test_recorded_requests_reach_the_journal_few_at_once_and_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        recorded = purchase("000007")
        first = await told(world, recorded, "pos")
        assert first is not None and first.elements[39] == "00"
        before = len(world.journal._intents), world.journal.postings()
        counted = Counted(world, monkeypatch)
        answers: list[Message] = []

        async def flood() -> None:
            answers.extend(await _flood(world, recorded))

        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(flood)
        assert counted.most <= CONNECTIONS * UNJUDGED
        # All of them together, as fast as strangers may: so many at once, so many a second.
        assert REPEATS_BURST / 2 < counted.all <= STRANGERS_PER_S * (1 + SECONDS) + CONNECTIONS * UNJUDGED
        assert (len(world.journal._intents), world.journal.postings()) == before
        assert len(answers) > counted.all / 2
        assert {(answer.elements[39], answer.elements.get(38)) for answer in answers} == {
            ("00", first.elements.get(38))
        }

    in_world(script)


@pytest.mark.parametrize("away", [False, True], ids=["declined by a stage", "the journal is away"])
def test_requests_of_which_nobody_finds_out_do_not_stop_a_connection(away: bool) -> None:
    async def script(world: World) -> None:
        world.journal.available = not away
        acquirer = world.clients["pos"].acquirer
        link = next(link for link in world.config.acquirers if link.name == "pos")
        form = link.framed(acquirer.codec.dialect)
        wire = await world.network.dial("pos:1", 3.0)
        changes = {} if away else {"de49": "000"}
        count = 5 * UNJUDGED
        frames = [form.encode(acquirer.encode(purchase(f"{n:06d}", **changes))) for n in range(1, count + 1)]
        await wire.send(b"".join(frames))
        decoder, answers = form.decoder(), []
        with trio.move_on_after(SECONDS):
            while len(answers) < count:
                answers += [acquirer.decode(frame) for frame in decoder.receive(await wire.receive())]
        assert [answer.elements[39] for answer in answers] == ["96" if away else "30"] * count
        wire.close()

    in_world(script)


def test_new_requests_come_all_at_once_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one connection, with a slow journal: the limit is there only until something new came."""

    async def script(world: World) -> None:
        world.journal_delay_s = (0.5, 0.5)
        counted = Counted(world, monkeypatch)
        acquirer = world.clients["pos"].acquirer
        link = next(link for link in world.config.acquirers if link.name == "pos")
        form = link.framed(acquirer.codec.dialect)
        wire = await world.network.dial("pos:1", 3.0)
        await wire.send(b"".join(form.encode(acquirer.encode(purchase(f"{n:06d}"))) for n in range(1, 101)))
        await trio.sleep(0.9)
        assert counted.most == UNJUDGED
        await trio.sleep(0.5)
        assert counted.all == 100
        assert counted.most >= 100 - UNJUDGED
        wire.close()

    in_world(script)
