"""Senders of stored advices: in order, again and again, one worker at a time, put aside after too many repeats."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
import structlog
import trio

from hsm.commands import GeneratedMac, GenerateMac
from ledger.journal import Advice, AdviceDraft, Backlog, Decision, JournalUnavailable, Outcome
from messages.message import Message
from simulators.acquirer import Card
from simulators.faults import FaultRule
from switch.advices import LEASE_S, RETRY_CAP_S
from switch.errors import LinkUnavailable
from tests.ledger.samples import intent
from tests.simulation.agreement import differences
from tests.simulation.world import World
from tests.switch.desk import in_world, surrogate
from tests.switch.outage import configured, down, heard, up


def silent(mti: str = "0420", **fields: Any) -> FaultRule:
    return FaultRule(kind="silence", mti=(mti,), **fields)


def stans(messages: list[Message], *mtis: str) -> list[str]:
    return [message.elements[11] for message in messages if message.mti in mtis]


def without_mac(message: Message) -> dict[int, str]:
    return {number: value for number, value in message.elements.items() if number not in (64, 128)}


async def timed_out(world: World, *amounts: int) -> None:
    """Payments that the issuer does not answer, one after the other: each leaves a reversal."""
    client = world.clients["gateway"]
    world.issuers["alpha"].issuer.faults.add(FaultRule(kind="silence", name="mute"))
    for amount in amounts:
        asked = client.acquirer.purchase(Card(surrogate(world)), amount, "EUR", world.clock.now())
        assert (await client.perform(asked)).response_code == "91"
    world.issuers["alpha"].issuer.faults.clear("mute")


async def waiting(world: World, link: str = "alpha") -> int:
    return len(await world.journal.advices(link, 0, 1000))


def test_they_go_out_in_the_order_of_their_decision() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        await timed_out(world, 100, 200, 300)
        assert set(stans(messages, "0420", "0421")) == {messages[0].elements[11]}, "the first holds up the others"
        assert await waiting(world) == 3
        world.issuers["alpha"].issuer.faults.clear("deaf")
        await trio.sleep(15.0)
        asked = stans(messages, "0200")
        assert list(dict.fromkeys(stans(messages, "0420", "0421"))) == asked
        assert await waiting(world) == 0
        assert differences(world) == []

    in_world(script)


def test_what_is_sent_again_is_a_repeat_with_the_same_identification() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        await timed_out(world, 100)
        await trio.sleep(30.0)
        sent = [message for message in messages if message.mti in ("0420", "0421")]
        assert [message.mti for message in sent] == ["0420", "0421", "0421", "0421"]
        assert all(without_mac(message) == without_mac(sent[0]) for message in sent)

    in_world(script, faults={"alpha": (silent(count=3),)})


def test_an_issuer_that_does_not_listen_is_asked_less_and_less_often() -> None:
    async def script(world: World) -> None:
        sent_at: list[float] = []
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        receive: Any = world.issuers["alpha"].issuer.receive

        def timed(message: Message, now: datetime) -> Any:
            if message.mti in ("0420", "0421"):
                sent_at.append(trio.current_time())
            return receive(message, now)

        world.issuers["alpha"].issuer.receive = timed  # type: ignore[method-assign,assignment]
        await timed_out(world, 100)
        await trio.sleep(300.0)
        pauses = [after - before for before, after in pairwise(sent_at)]
        longest = RETRY_CAP_S + world.workers[0][0].lines["alpha"].link.advice_timeout_s + 1.0
        assert all(pause >= RETRY_CAP_S / 2 for pause in pauses[8:]), pauses
        assert all(pause <= longest for pause in pauses) and len(pauses) > 20, pauses

    in_world(script)


def test_an_issuer_that_is_down_gets_all_of_them_when_it_is_back() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        await timed_out(world, 100, 200)
        down(world, "alpha")
        await trio.sleep(120.0)
        assert await waiting(world) == 2
        world.issuers["alpha"].issuer.faults.clear("deaf")
        up(world, "alpha")
        await trio.sleep(60.0)
        assert await waiting(world) == 0
        assert len(set(stans(messages, "0420", "0421"))) == 2
        assert differences(world) == []

    in_world(script)


@pytest.mark.parametrize("repeats", [1, 3])
def test_after_its_repeats_it_is_parked_and_the_others_go_on(repeats: int) -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        world.issuers["alpha"].issuer.faults.add(silent(amount_minor=200, booked=False))
        with structlog.testing.capture_logs() as logs:
            await timed_out(world, 100, 200, 300)
            await trio.sleep(60.0)
        sent = [m.mti for m in messages if m.mti in ("0420", "0421") and m.elements[4].endswith("200")]
        assert sent == ["0420"] + ["0421"] * repeats
        assert await waiting(world) == 0
        (parked,) = world.journal._parked.values()
        assert parked.draft.elements[4] == "000000000200"
        assert world.counted("advices_parked", "alpha") == 1
        (alarm,) = [entry for entry in logs if entry["event"] == "advice_parked"]
        assert (alarm["log_level"], alarm["link"], alarm["sent"]) == ("critical", "alpha", repeats + 1)
        assert len(differences(world)) == 1, "the books show it until somebody acts"

        world.issuers["alpha"].issuer.faults.clear()
        world.journal.retry(parked.advice_id)
        await trio.sleep(5.0)
        assert await waiting(world) == 0 and not world.journal._parked
        assert differences(world) == []

    in_world(script, config=configured(saf={"repeats": repeats}))


def test_the_count_of_repeats_outlives_a_journal_that_is_away_when_it_is_put_aside() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        world.issuers["alpha"].issuer.faults.add(silent(amount_minor=200, booked=False))
        park, away = world.journal.park, [True]

        async def parked(advice_id: int, actor: str, reason: str) -> None:
            if away.pop(0) if away else False:
                raise JournalUnavailable("away")
            await park(advice_id, actor, reason)

        world.journal.park = parked  # type: ignore[method-assign]
        await timed_out(world, 200)
        await trio.sleep(60.0)
        assert not away
        assert [m.mti for m in messages if m.mti in ("0420", "0421")] == ["0420", "0421", "0421"]
        assert len(world.journal._parked) == 1

    in_world(script, config=configured(saf={"repeats": 1}))


def test_one_that_the_dialect_cannot_carry_is_put_aside_and_the_others_go_on() -> None:
    async def script(world: World) -> None:
        begun = await world.journal.begin(intent(link="pos", issuer="alpha", created_at=world.clock.now()))
        elements = {4: "no digits", 7: "0314092653", 11: "000001"}
        spoiled = AdviceDraft("alpha", "0420", elements, begun.stored.intent.token)
        await world.journal.decide(
            Outcome(
                intent_id=begun.stored.intent_id,
                decision=Decision.REVERSED,
                response_code="91",
                advices=(spoiled,),
            )
        )
        await timed_out(world, 100)
        await trio.sleep(10.0)
        (parked,) = world.journal._parked.values()
        assert parked.draft == spoiled, "its amount is not lost"
        assert world.counted("failures", "advice_encoding") == 1
        assert await waiting(world) == 0

    in_world(script)


def test_one_that_an_operator_drops_holds_up_nobody_any_more() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.faults.add(silent(amount_minor=100))
        messages = heard(world, "alpha")
        await timed_out(world, 100, 200)
        first = (await world.journal.advices("alpha", 0, 1))[0]
        world.journal.drop(first.advice_id)
        await trio.sleep(30.0)
        assert await waiting(world) == 0
        assert stans(messages, "0420")[-1] != first.draft.elements[11]

    in_world(script)


@pytest.mark.parametrize("code", ["91", "96"])
def test_an_answer_that_says_later_is_no_acknowledgement(code: str) -> None:
    async def script(world: World) -> None:
        issuer: Any = world.issuers["alpha"].issuer
        issuer.faults.add(FaultRule(kind="decline", mti=("0420",), response_code=code, count=2))
        await timed_out(world, 100)
        await trio.sleep(20.0)
        assert await waiting(world) == 0
        assert world.counted("advices_sent", "alpha", "0421") == 2
        assert differences(world) == []

    in_world(script)


def test_an_advice_that_is_refused_is_done_and_told() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="decline", mti=("0420",), response_code="12", count=1))
        with structlog.testing.capture_logs() as logs:
            await timed_out(world, 100)
            await trio.sleep(20.0)
        assert await waiting(world) == 0
        (refused,) = [entry for entry in logs if entry["event"] == "advice_refused"]
        assert (refused["log_level"], refused["response_code"]) == ("critical", "12")

    in_world(script)


def test_one_worker_sends_and_another_takes_over_when_it_dies() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(1.0)
        messages = heard(world, "alpha")
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        await timed_out(world, 100, 200)
        await trio.sleep(10.0)
        sending = [n for n, (worker, _) in world.workers.items() if worker.meters.value("advices_sent")]
        assert len(sending) == 1, "the lease keeps the other one quiet"
        world.crash_worker(sending[0])
        world.issuers["alpha"].issuer.faults.clear("deaf")
        await trio.sleep(20.0)
        assert await waiting(world) == 0
        (left,) = world.workers.values()
        assert left[0].meters.value("advices_acknowledged", "alpha", "00") == 2
        assert list(dict.fromkeys(stans(messages, "0420", "0421"))) == stans(messages, "0200")
        assert differences(world) == []

    in_world(script)


def test_a_worker_whose_link_is_away_leaves_them_to_another_at_once() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(1.0)
        await timed_out(world, 100)
        while await waiting(world):  # noqa: ASYNC110
            await trio.sleep(0.1)
        workers = [worker for worker, _ in world.workers.values()]
        (sending,) = [worker for worker in workers if worker.meters.value("advices_sent")]
        sending.lines["alpha"].connections.suspend()
        await trio.sleep(1.5)
        begun = await world.journal.begin(intent(issuer="alpha"))
        (other,) = [worker for worker in workers if worker is not sending]
        await other.decisions.reverse(begun.stored, "issuer_timeout")
        await trio.sleep(LEASE_S / 2)
        assert await waiting(world) == 0, "it did not wait for the lease to end"

    in_world(script)


def test_advices_outlive_every_worker() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        await timed_out(world, 100, 200)
        world.crash_worker(0)
        world.issuers["alpha"].issuer.faults.clear("deaf")
        await trio.sleep(60.0)
        assert await waiting(world) == 2
        await world.start_worker(0)
        await trio.sleep(20.0)
        assert await waiting(world) == 0
        assert differences(world) == []

    in_world(script)


def alarms(logs: list[Any], name: str) -> list[tuple[str, int]]:
    return [(entry["log_level"], entry["waiting"]) for entry in logs if entry["event"] == name]


def test_too_many_are_told_once_by_all_workers_together_and_their_end_too() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(1.0)
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        with structlog.testing.capture_logs() as logs:
            await timed_out(world, 100, 200, 300)
            await trio.sleep(30.0)
            assert alarms(logs, "saf_limit") == [("critical", 3)]
            assert world.counted("saf_alarms", "alpha", "saf_limit") == 2
            assert all(worker.senders["alpha"].full for worker, _ in world.workers.values())
            world.issuers["alpha"].issuer.faults.clear("deaf")
            await trio.sleep(30.0)
            assert {waiting for _, waiting in alarms(logs, "saf_limit_over")} == {0}
            assert len(alarms(logs, "saf_limit")) == 1
            assert not any(worker.senders["alpha"].full for worker, _ in world.workers.values())

    in_world(script, config=configured(saf={"limit": 2}))


def test_one_that_waits_too_long_is_told() -> None:
    async def script(world: World) -> None:
        down_at = trio.current_time()
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        with structlog.testing.capture_logs() as logs:
            await timed_out(world, 100)
            await trio.sleep(20.0)
            assert alarms(logs, "saf_max_age") == []
            await trio.sleep(60.0 - (trio.current_time() - down_at) + 12.0)
            assert alarms(logs, "saf_max_age") == [("critical", 1)]

    in_world(script, config=configured(saf={"max_age_s": 60}))


def test_the_gauges_tell_what_waits() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        await timed_out(world, 100, 200)
        await trio.sleep(10.0)
        text = world.workers[0][0].meters.exposition().decode()
        assert 'cardswitch_saf_waiting{link="alpha"} 2.0' in text
        assert 'cardswitch_saf_parked{link="alpha"} 0.0' in text
        assert 'cardswitch_saf_oldest_seconds{link="alpha"} ' in text

    in_world(script)


def test_no_decision_is_lost_while_the_journal_is_away_for_senders() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        await timed_out(world, 100)
        world.journal.available = False
        world.issuers["alpha"].issuer.faults.clear("deaf")
        await trio.sleep(20.0)
        world.journal.available = True
        await trio.sleep(20.0)
        assert await waiting(world) == 0
        assert [outcome.decision for outcome in world.journal._outcomes.values()] == [Decision.REVERSED]
        assert differences(world) == []

    in_world(script)


def test_none_leaves_on_a_link_that_was_suspended_while_it_was_made() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        connections = world.workers[0][0].lines["alpha"].connections
        world.issuers["alpha"].issuer.faults.add(silent(name="deaf"))
        await timed_out(world, 100)
        mac = world.hsm.mac

        async def slowly(command: GenerateMac) -> GeneratedMac:
            made = await mac(command)
            connections.suspend()
            return made

        before = len(messages)
        world.hsm.mac = slowly  # type: ignore[method-assign]
        await trio.sleep(30.0)
        assert connections.suspended and len(messages) == before
        world.hsm.mac = mac  # type: ignore[method-assign]
        world.issuers["alpha"].issuer.faults.clear("deaf")
        connections.resume()
        await trio.sleep(15.0)
        assert await waiting(world) == 0
        assert differences(world) == []

    in_world(script)


def test_what_is_acknowledged_while_the_backlog_is_read_is_not_sent_again() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        sender = world.workers[0][0].senders["alpha"]
        advices, acknowledge = world.journal.advices, world.journal.acknowledge

        async def reading(link: str, after_id: int, limit: int) -> list[Advice]:
            found = await advices(link, after_id, limit)
            if link == "alpha" and not after_id:
                await trio.sleep(1.0)
            return found

        async def acknowledging(advice_id: int, response_code: str) -> None:
            sender.wake()
            await trio.sleep(0.5)
            await acknowledge(advice_id, response_code)

        world.journal.advices = reading  # type: ignore[method-assign]
        world.journal.acknowledge = acknowledging  # type: ignore[method-assign]
        await timed_out(world, 100)
        await trio.sleep(15.0)
        assert [m.mti for m in messages if m.mti in ("0420", "0421")] == ["0420"]
        world.journal.advices = advices  # type: ignore[method-assign]
        assert await waiting(world) == 0

    in_world(script)


def test_what_did_not_leave_counts_as_no_repeat_and_is_sent_as_no_repeat() -> None:
    async def script(world: World) -> None:
        session = world.workers[0][0].lines["alpha"].session
        assert session is not None
        exchange, tried = session.exchange, 0

        async def full(*_: Any, **__: Any) -> Message:
            nonlocal tried
            tried += 1
            raise LinkUnavailable("too much in flight")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(timed_out, world, 2_500)
            await trio.sleep(1.0)  # the request has left
            session.exchange = full  # type: ignore[method-assign]
        messages = heard(world, "alpha")
        await trio.sleep(10.0)
        session.exchange = exchange  # type: ignore[method-assign]
        await trio.sleep(5.0)
        assert tried > 3
        assert [message.mti for message in messages] == ["0420"]
        assert await world.journal.backlog("alpha", 10) == Backlog()

    in_world(script, config=configured(saf={"repeats": 1}))


def forged(world: World, intent_id: int, mti: str, link: str = "alpha") -> int:
    """A row that somebody has written into the table of advices; its number."""
    journal = world.journal
    journal._advice_count += 1
    number, token = journal._advice_count, next(iter(journal._intents.values())).token
    elements = {3: "000000", 4: "000000009900", 7: "0314092653", 11: "000777", 49: "978"}
    journal._advised_at[number] = trio.current_time()
    journal._advices[number] = Advice(number, intent_id, "", AdviceDraft(link, mti, elements, token), "")
    return number


def test_a_row_that_no_outcome_calls_for_is_parked_unsent_and_the_others_go_on() -> None:
    async def script(world: World) -> None:
        client = world.clients["gateway"]
        paid = await client.perform(client.acquirer.purchase(Card(surrogate(world)), 2500, "EUR", world.clock.now()))
        assert paid.response_code == "00"
        messages = heard(world, "alpha")
        with structlog.testing.capture_logs() as logs:
            rows = [forged(world, 1, "0420"), forged(world, 1, "0220"), forged(world, 4711, "0420")]
            await timed_out(world, 100)
            await trio.sleep(20.0)
            assert [m.elements[4] for m in messages if m.mti in ("0420", "0421", "0220")] == ["000000000100"]
            assert list(world.journal._parked) == rows
            # Sent again by an operator, or by an action that was written like the row, it is parked again.
            world.journal.retry(rows[0])
            await trio.sleep(5.0)
        assert not [m for m in messages if m.elements.get(4) == "000000009900"]
        assert set(world.journal._parked) == set(rows) and await waiting(world) == 0
        assert world.counted("advices_not_demanded", "alpha") == 4 and world.counted("advices_parked", "alpha") == 0
        lines = [entry for entry in logs if entry["event"] == "advice_not_demanded"]
        assert [(line["log_level"], line["advice_id"]) for line in lines] == [
            ("critical", number) for number in [*rows, rows[0]]
        ]
        assert all("saf list" in line["look"] for line in lines)
        assert differences(world) == []

    in_world(script)
