"""Keys exchanged over links: by us, by the peer, while traffic flows, and when anything goes wrong on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from hsm.commands import HsmRefused, HsmUnavailable
from hsm.key_commands import AcceptLinkKey, KeyInfo
from messages.key_change import key_request
from messages.message import Message
from simulators.acquirer import Card
from simulators.faults import FaultRule
from simulators.link_keys import LinkKeys
from switch.errors import KeyExchangeFailed
from switch.links.key_exchange import LEASE_S, OPEN_RETRY_S, OPEN_S, KeyExchange
from tests.simulation.agreement import differences
from tests.simulation.world import World
from tests.switch.desk import MASTERCARD, VISA, in_world, told
from tests.switch.links.test_link_mac import configured

LINKS = ("pos", "alpha", "beta")
KINDS = ("pin", "mac")
ISSUERS = {"alpha": Card(VISA.pan, pin="1234"), "beta": Card(MASTERCARD.pan, pin="1234")}


def exchange_of(world: World, link: str, worker: int = 0) -> KeyExchange:
    return world.workers[worker][0].exchanges[link]


def keys_of(world: World, link: str) -> LinkKeys:
    """The keys as the other end has them."""
    return world.clients[link].acquirer.keys if link in world.clients else world.issuers[link].issuer.keys


def by_peer(world: World, link: str) -> Callable[[str], Awaitable[bool]]:
    return world.clients[link].exchange_key if link in world.clients else world.issuers[link].exchange_key


async def versions(world: World, link: str, kind: str, status: str = "active") -> list[KeyInfo]:
    return [info for info in await exchange_of(world, link).infos(kind) if info.status == status]


def forget_older(world: World, link: str, kind: str) -> None:
    """The other end takes its newest key only, as after the grace time: an end that uses an older one is detected."""
    del keys_of(world, link)._versions[kind][1:]


async def pay(world: World, link: str) -> str:
    """A purchase with a PIN that passes over the link, on it or to it; its DE 39."""
    client = world.clients["pos"]
    card = ISSUERS.get(link, ISSUERS["alpha"])
    return (await client.perform(client.acquirer.purchase(card, 1000, "EUR", world.clock.now()))).response_code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("link", LINKS)
def test_we_give_the_peer_a_new_key(link: str, kind: str) -> None:
    async def script(world: World) -> None:
        before = keys_of(world, link).check_value(kind)
        done = await exchange_of(world, link).start(kind)
        (active,) = await versions(world, link, kind)
        assert (done.version, done.kcv, done.link) == (active.version, active.kcv, link) and done.version == 2
        assert keys_of(world, link).check_value(kind) == done.kcv != before
        forget_older(world, link, kind)
        assert await pay(world, link) == "00"
        assert world.counted("key_exchanges", link, kind, "ok") == 1
        assert world.counted("mac_failures") == 0

    in_world(script)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("link", LINKS)
def test_the_peer_gives_us_a_new_key(link: str, kind: str) -> None:
    async def script(world: World) -> None:
        assert await by_peer(world, link)(kind)
        (active,) = await versions(world, link, kind)
        assert active.version == 2 and active.kcv == keys_of(world, link).check_value(kind)
        forget_older(world, link, kind)
        assert await pay(world, link) == "00"
        assert world.counted("key_exchanges", link, kind, "ok") == 1

    in_world(script)


def test_an_issuer_gives_us_keys_of_both_kinds_at_once() -> None:
    async def script(world: World) -> None:
        done: dict[str, bool] = {}

        async def exchange(kind: str) -> None:
            done[kind] = await by_peer(world, "alpha")(kind)

        async with trio.open_nursery() as nursery:
            for kind in KINDS:
                nursery.start_soon(exchange, kind)
        assert done == {"pin": True, "mac": True}
        for kind in KINDS:
            (active,) = await versions(world, "alpha", kind)
            assert active.kcv == keys_of(world, "alpha").check_value(kind)

    in_world(script)


def test_payments_under_way_do_not_notice() -> None:
    """Load on two workers, with every key of every link exchanged again and again, from both ends."""

    async def script(world: World) -> None:
        await world.start_worker(1)
        codes: list[str] = []
        done: list[str] = []
        ends_at = trio.current_time() + 12.0

        async def shop(link: str) -> None:
            while trio.current_time() < ends_at:
                codes.append(await pay(world, link))
                await trio.sleep(0.1)  # an acquirer's book in memory is slow to count a card's history

        async def exchange(link: str, kind: str, turn: int) -> None:
            while trio.current_time() < ends_at:
                await trio.sleep(0.2)
                with suppress(KeyExchangeFailed):  # the other end, or the other kind, was faster
                    if turn % 2:
                        await exchange_of(world, link, turn // 2 % 2).start(kind)
                        done.append("ours")
                    elif await by_peer(world, link)(kind):
                        done.append("theirs")
                turn += 1

        async with trio.open_nursery() as nursery:
            for number, link in enumerate(LINKS):
                for _ in range(4):
                    nursery.start_soon(shop, link)
                for kind in KINDS:
                    nursery.start_soon(exchange, link, kind, number)
        assert len(codes) > 500 and set(codes) == {"00"}
        assert done.count("ours") > 10 and done.count("theirs") > 10
        assert world.counted("mac_failures") == 0
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script, timeout_s=8.0)


@pytest.mark.parametrize("link", LINKS)
def test_a_peer_that_refuses_keeps_the_old_key_in_force(link: str) -> None:
    async def script(world: World) -> None:
        keys = keys_of(world, link)
        keys._zmk = bytes(32)  # another zone master key than ours
        before = keys.check_value("mac")
        with pytest.raises(KeyExchangeFailed, match="DE 39 = 63") as caught:
            await exchange_of(world, link).start("mac")
        assert caught.value.outcome == "refused"
        (active,) = await versions(world, link, "mac")
        assert (active.version, active.kcv) == (1, before)
        assert world.counted("key_exchanges", link, "mac", "refused") == 1
        assert await pay(world, link) == "00"

    in_world(script)


def test_a_wrong_check_value_keeps_the_old_key_in_force() -> None:
    async def script(world: World) -> None:
        keys = keys_of(world, "alpha")
        accept = keys.accept
        keys.accept = lambda kind, block: "000000"  # type: ignore[method-assign,misc]
        with pytest.raises(KeyExchangeFailed) as caught:
            await exchange_of(world, "alpha").start("pin")
        assert caught.value.outcome == "wrong_kcv"
        assert (await versions(world, "alpha", "pin"))[0].version == 1
        assert await pay(world, "alpha") == "00"
        keys.accept = accept  # type: ignore[method-assign]
        assert (await exchange_of(world, "alpha").start("pin")).kcv == keys.check_value("pin")

    in_world(script)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_answer_breaks_nothing_and_the_same_key_is_offered_again(kind: str) -> None:
    """The peer has the new key in force, we have not: both take what the other makes, and it mends by itself."""

    async def script(world: World) -> None:
        keys, exchange = keys_of(world, "alpha"), exchange_of(world, "alpha")
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="silence", mti=("0800",), count=3))
        with pytest.raises(KeyExchangeFailed) as caught:
            await exchange.start(kind)
        assert caught.value.outcome == "no_answer"
        theirs = keys.check_value(kind)
        (pending,) = await versions(world, "alpha", kind, "pending")
        assert pending.kcv == theirs
        for _ in range(3):
            assert await pay(world, "alpha") == "00"
        await trio.sleep(OPEN_RETRY_S + 60.0)
        (active,) = await versions(world, "alpha", kind)
        assert active.kcv == theirs == keys.check_value(kind)
        forget_older(world, "alpha", kind)
        assert await pay(world, "alpha") == "00"
        assert world.counted("mac_failures") == 0

    in_world(script)


def test_an_offer_left_by_a_worker_that_died_is_finished_by_the_next() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="silence", mti=("0800",), count=1))
        with trio.move_on_after(1.0):
            await exchange_of(world, "alpha").start("mac")
        world.crash_worker(0)
        await world.start_worker(0)
        await trio.sleep(LEASE_S + 40.0)
        (active,) = await versions(world, "alpha", "mac")
        assert active.version == 2 and active.kcv == keys_of(world, "alpha").check_value("mac")

    in_world(script)


def test_an_offer_that_was_cancelled_is_finished() -> None:
    async def script(world: World) -> None:
        await trio.sleep(40.0)
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="silence", mti=("0800",), count=1))
        with trio.move_on_after(0.5) as scope:
            await exchange_of(world, "alpha").start("mac")
        assert scope.cancelled_caught
        await trio.sleep(60.0)
        (active,) = await versions(world, "alpha", "mac")
        assert active.version == 2 and active.kcv == keys_of(world, "alpha").check_value("mac")

    in_world(script)


def test_an_offer_left_by_a_worker_that_died_is_finished_by_another() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(40.0)
        world.issuers["alpha"].issuer.faults.add(FaultRule(kind="silence", mti=("0800",), count=1))
        with trio.move_on_after(0.5):
            await exchange_of(world, "alpha").start("mac")
        world.crash_worker(0)
        await trio.sleep(LEASE_S + 40.0)
        active = [info for info in await exchange_of(world, "alpha", 1).infos("mac") if info.status == "active"]
        assert [info.version for info in active] == [2]
        assert active[0].kcv == keys_of(world, "alpha").check_value("mac")

    in_world(script)


def test_what_the_peer_refused_is_not_offered_for_ever() -> None:
    """Once more by each worker that has not received the refusal, and after an hour by nobody; no other key is made."""

    async def script(world: World) -> None:
        await world.start_worker(1)
        keys_of(world, "alpha")._zmk = bytes(32)
        with pytest.raises(KeyExchangeFailed, match="DE 39 = 63"):
            await exchange_of(world, "alpha").start("mac")
        await trio.sleep(OPEN_S + 60.0)
        assert world.counted("key_exchanges", "alpha", "mac", "refused") == 2
        world.crash_worker(0)
        await world.start_worker(0)
        await trio.sleep(300.0)
        assert world.counted("key_exchanges", "alpha", "mac", "refused") <= 2
        assert [info.version for info in await exchange_of(world, "alpha").infos("mac")] == [1, 2]

    in_world(script)


def test_one_worker_exchanges_at_a_time() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        outcomes: list[str] = []

        async def start(worker: int, kind: str) -> None:
            try:
                await exchange_of(world, "alpha", worker).start(kind)
                outcomes.append("ok")
            except KeyExchangeFailed as failed:
                outcomes.append(failed.outcome)

        async with trio.open_nursery() as nursery:
            for worker in (0, 1, 0):
                nursery.start_soon(start, worker, "mac")
        assert sorted(outcomes) == ["busy", "busy", "ok"]
        assert (await versions(world, "alpha", "mac"))[0].version == 2

    in_world(script)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after_s", [0.0, 0.5])
def test_who_is_cancelled_leaves_no_lease_behind(after_s: float, kind: str) -> None:
    async def script(world: World) -> None:
        if after_s:
            world.issuers["alpha"].issuer.faults.add(FaultRule(kind="silence", mti=("0800",), count=1))
        with trio.move_on_after(after_s) as scope:
            await exchange_of(world, "alpha").start(kind)
        assert scope.cancelled_caught
        await exchange_of(world, "alpha").start(kind)
        assert (await versions(world, "alpha", kind))[0].version == 2

    in_world(script)


def test_a_pause_that_does_not_end_leaves_no_lease_behind() -> None:
    async def script(world: World) -> None:
        assert await world.journal.lease("keys:alpha:mac:pause", "another", 5.0)
        with pytest.raises(KeyExchangeFailed) as caught:
            await exchange_of(world, "alpha").start("mac")
        assert caught.value.outcome == "journal"
        await trio.sleep(1.0)
        await exchange_of(world, "alpha").start("mac")

    in_world(script)


def test_a_key_is_renewed_by_schedule_once_over_all_workers() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        await trio.sleep(600.0 - 60.0)
        assert (await versions(world, "alpha", "pin"))[0].version == 1
        await trio.sleep(120.0)
        for kind in KINDS:
            (active,) = await versions(world, "alpha", kind)
            assert active.version == 2 and active.kcv == keys_of(world, "alpha").check_value(kind)
            forget_older(world, "alpha", kind)
        assert (await versions(world, "beta", "pin"))[0].version == 1  # has no schedule
        assert await pay(world, "alpha") == "00"
        await trio.sleep(600.0)
        assert (await versions(world, "alpha", "pin"))[0].version == 3

    in_world(script, config=configured(alpha={"key_exchange_hours": 1 / 6}))


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({48: "D0144P0TB00E0000", 53: "1" + "0" * 15, 70: "101"}, "63"),
        ({48: "nonsense", 53: "2" + "0" * 15, 70: "101"}, "63"),
        ({48: "nonsense", 53: "3" + "0" * 15, 70: "101"}, "30"),
        ({53: "1" + "0" * 15, 70: "101"}, "30"),
        ({48: "nonsense", 70: "101"}, "30"),
    ],
)
def test_what_is_no_key_for_this_link_is_refused(elements: dict[int, str], code: str) -> None:
    async def script(world: World) -> None:
        answer = await told(world, Message("0800", {7: "0314092653", 11: "000099", **elements}), "pos")
        assert answer is not None
        assert (answer.mti, answer.elements[39], answer.elements.get(48)) == ("0810", code, None)
        assert (await versions(world, "pos", "mac"))[0].version == 1
        assert await pay(world, "pos") == "00"

    in_world(script)


def test_a_key_for_another_use_is_refused() -> None:
    async def script(world: World) -> None:
        offer = keys_of(world, "pos").offer("mac")
        message = Message("0800", {7: "0314092653", 11: "000099", **key_request("pin", offer.block)})
        answer = await told(world, message, "pos")
        assert answer is not None and answer.elements[39] == "63"
        assert (await versions(world, "pos", "pin"))[0].version == 1

    in_world(script)


def test_a_repeat_is_answered_as_the_first_and_a_replay_is_refused() -> None:
    async def script(world: World) -> None:
        acquirer = world.clients["pos"].acquirer
        first = acquirer.key_change("mac", world.clock.now())
        answers = [await told(world, first, "pos"), await told(world, Message("0801", first.elements), "pos")]
        assert [answer.elements[39] for answer in answers if answer is not None] == ["00", "00"]
        assert (await versions(world, "pos", "mac"))[0].version == 2
        assert answers[0] is not None
        acquirer.receive(answers[0], world.clock.now())
        second = acquirer.key_change("mac", world.clock.now())
        answer = await told(world, second, "pos")
        assert answer is not None and answer.elements[39] == "00"
        acquirer.receive(answer, world.clock.now())
        replayed = await told(world, Message("0800", {**first.elements, 11: "000555"}), "pos")
        assert replayed is not None and replayed.elements[39] == "63"
        assert (await versions(world, "pos", "mac"))[0].version == 3
        forget_older(world, "pos", "mac")
        assert await pay(world, "pos") == "00"

    in_world(script)


def test_a_replay_is_refused_by_every_worker() -> None:
    """The first worker has taken a key that another one has replaced since: only the hsm knows."""

    async def script(world: World) -> None:
        await world.start_worker(1)
        acquirer = world.clients["pos"].acquirer
        taken: list[Message] = []
        for worker in (0, 1):
            taken.append(acquirer.key_change("mac", world.clock.now()))
            for message in (taken[-1], Message("0801", taken[-1].elements)):
                answer = await exchange_of(world, "pos", worker).answer(message)
                assert answer is not None and answer.elements[39] == "00"
                acquirer.receive(answer, world.clock.now())
        for worker in (0, 1):
            answer = await exchange_of(world, "pos", worker).answer(taken[0])
            assert answer is not None and (answer.elements[39], answer.elements.get(48)) == ("63", None)
            answer = await exchange_of(world, "pos", worker).answer(taken[1])
            assert answer is not None and answer.elements[48] == keys_of(world, "pos").check_value("mac")
        (active,) = await versions(world, "pos", "mac")
        assert active.version == 3 and active.kcv == keys_of(world, "pos").check_value("mac")
        with pytest.raises(HsmRefused) as caught:
            await world.hsm.accept_link_key(AcceptLinkKey(name=active.name, block=taken[0].elements[48]))
        assert caught.value.code == "key_exists"  # as the real one says

    in_world(script)


def test_nothing_is_taken_while_hsm_or_journal_are_away() -> None:
    async def script(world: World) -> None:
        for part in (world.hsm, world.journal):
            part.available = False
            message = world.clients["pos"].acquirer.key_change("mac", world.clock.now())
            answer = await told(world, message, "pos")
            if part is world.hsm:
                assert answer is None  # a key that it took, and did not say so, would be in force here
            else:
                assert answer is not None and answer.elements[39] == "96"
            with pytest.raises(KeyExchangeFailed) as caught:
                await exchange_of(world, "alpha").start("mac")
            assert caught.value.outcome in ("hsm", "journal")
            part.available = True
        assert await world.clients["pos"].exchange_key("mac")
        await exchange_of(world, "alpha").start("mac")

    in_world(script)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("link", LINKS)
def test_a_key_that_the_hsm_took_without_saying_so_is_no_refusal(link: str, kind: str) -> None:
    """The peer gets nothing, so it repeats the same key, and both ends end with it."""

    async def script(world: World) -> None:
        accept, late = world.hsm.accept_link_key, [True]

        async def lost(request: Any) -> Any:
            taken = await accept(request)
            if late:
                late.pop()
                raise HsmUnavailable("no answer in time")
            return taken

        world.hsm.accept_link_key = lost  # type: ignore[method-assign]
        assert await by_peer(world, link)(kind)
        (active,) = await versions(world, link, kind)
        assert active.version == 2 and active.kcv == keys_of(world, link).check_value(kind)
        assert world.counted("key_exchanges", link, kind, "unanswered") == 1

    in_world(script)


def test_a_repeat_is_not_refused_while_the_key_is_busy_in_another_worker() -> None:
    async def script(world: World) -> None:
        first = world.clients["pos"].acquirer.key_change("mac", world.clock.now())
        assert await world.journal.lease("keys:pos:mac", "another", 5.0)
        answer = await told(world, first, "pos")
        assert answer is not None and answer.elements[39] == "96"
        assert await told(world, Message("0801", first.elements), "pos") is None
        answer = await told(world, Message("0801", first.elements), "pos")  # told waits for 30 s
        assert answer is not None and answer.elements[39] == "00"

    in_world(script)


def test_what_is_refused_for_now_is_offered_again_with_the_same_key() -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        offered = client.acquirer.keys.offer("mac").kcv
        assert await world.journal.lease("keys:pos:mac", "another", 5.0)
        assert not await client.exchange_key("mac")
        assert client.acquirer.key_changes == [("mac", "96")]
        await trio.sleep(5.0)
        assert await client.exchange_key("mac")
        assert keys_of(world, "pos").check_value("mac") == offered

    in_world(script)


def test_an_hsm_that_does_not_put_the_key_in_force_raises_the_alarm() -> None:
    """The peer has it; payments go on, because both still take both."""

    async def script(world: World) -> None:
        activate = world.hsm.activate_key

        async def refuse(request: Any) -> Any:
            raise HsmRefused("overloaded", "not now")

        world.hsm.activate_key = refuse  # type: ignore[method-assign]
        with pytest.raises(KeyExchangeFailed) as caught:
            await exchange_of(world, "alpha").start("mac")
        assert caught.value.outcome == "not_activated"
        assert await pay(world, "alpha") == "00"
        world.hsm.activate_key = activate  # type: ignore[method-assign]
        await trio.sleep(60.0)
        assert (await versions(world, "alpha", "mac"))[0].version == 2

    in_world(script)


def test_a_link_without_such_a_key_or_connection_says_so() -> None:
    async def script(world: World) -> None:
        with pytest.raises(KeyExchangeFailed) as caught:
            await exchange_of(world, "alpha").start("bdk")
        assert caught.value.outcome == "no_key"
        assert "gateway" not in world.workers[0][0].exchanges
        world.network.refusing.add("alpha:1")
        world.network.cut("alpha:1")
        await trio.sleep(1.0)
        with pytest.raises(KeyExchangeFailed) as caught:
            await exchange_of(world, "alpha").start("mac")
        assert caught.value.outcome == "link_down"

    in_world(script)


def test_a_link_without_keys_answers_12_to_a_key() -> None:
    async def script(world: World) -> None:
        message = Message("0800", {7: "0314092653", 11: "000099", **key_request("pin", "D0144P0TB00E0000")})
        answer = await told(world, message, "gateway")
        assert answer is not None and answer.elements[39] == "12"

    in_world(script)


def test_an_offer_is_repeated_on_another_connection() -> None:
    """The one that was opened last belongs to nobody who listens."""

    async def script(world: World) -> None:
        deaf = await world.network.dial("pos:1", 3.0)
        await trio.sleep(1.0)
        done = await exchange_of(world, "pos").start("mac")
        assert done.kcv == keys_of(world, "pos").check_value("mac")
        deaf.close()

    in_world(script)
