"""Stand-in on a whole switch in memory: decisions for an issuer, its advices, and that the books agree."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from hsm.commands import Dispatch, HsmUnavailable
from ledger.journal import CARD_BLOCKED, Decision, Intent, JournalUnavailable, Kind, Layer, Outcome
from messages.message import Message
from simulators.acquirer import Card
from simulators.acquirer.book import Request
from simulators.faults import FaultRule
from tests.simulation.agreement import differences
from tests.simulation.world import World
from tests.switch.desk import NOW, VISA, in_world, surrogate
from tests.switch.outage import configured, down, heard, up

OPEN_S = 20.0  # of a breaker's rest in these tests


def standing_in(*, breaker: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A world whose issuer alpha is stood in for up to 50.00 EUR."""
    entry = {"issuer": "alpha", "floor_minor": {"EUR": 5000}, **settings}
    return configured(stand_in=[entry], breaker=[breaker or {"failures": 0, "ratio": 0.0}])


async def pay(world: World, amount_minor: int = 2500, kind: str = "purchase", **fields: Any) -> Request:
    client = world.clients["gateway"]
    ask = client.acquirer.purchase if kind == "purchase" else client.acquirer.authorization
    return await client.perform(ask(Card(surrogate(world)), amount_minor, "EUR", world.clock.now(), **fields))


async def settled(world: World, seconds: float = 90.0) -> None:
    """Wait until every advice was sent."""
    up(world, "alpha")
    await trio.sleep(seconds)
    assert await world.journal.advices("alpha", 0, 10) == []


def outcomes(world: World) -> list[tuple[Decision, str, str]]:
    return [(o.decision, o.response_code, o.reason) for o in world.journal._outcomes.values()]


def posted(world: World) -> int:
    """The posted amount on the issuer's receivable."""
    lines = [p for p in world.journal.postings() if p.account == "issuer:alpha:receivable" and p.layer is Layer.POSTED]
    return sum(line.amount_minor for line in lines)


def types(messages: list[Message]) -> list[str]:
    return [message.mti for message in messages]


@pytest.mark.parametrize(("kind", "mti"), [("purchase", "0220"), ("authorization", "0120")])
def test_an_issuer_that_is_down_is_spoken_for_and_told(kind: str, mti: str) -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        down(world, "alpha")
        await trio.sleep(1.0)
        paid = await pay(world, kind=kind)
        assert paid.response_code == "00"
        assert paid.response is not None and paid.response.elements[38] == "S00001"
        assert outcomes(world) == [(Decision.APPROVED, "00", "stand_in")]
        (advice,) = await world.journal.advices("alpha", 0, 10)
        assert advice.draft.mti == mti
        assert 2 not in advice.draft.elements, "the card number is put in when it is sent"
        await settled(world)
        (told,) = messages
        assert told.mti == mti
        expected = {2: VISA.pan, 4: "000000002500", 38: "S00001", 39: "00", 49: "978"}
        assert {number: told.elements[number] for number in expected} == expected
        assert differences(world) == []
        entry = world.issuers["alpha"].issuer.entries.entries()[0]
        assert (entry.held_minor, entry.posted_minor) == ((0, 2500) if kind == "purchase" else (2500, 0))

    in_world(script, config=standing_in())


def test_the_advice_tells_the_issuer_what_the_request_would_have_told_it() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        down(world, "alpha")
        await trio.sleep(1.0)
        client = world.clients["pos"]
        asked = client.acquirer.purchase(VISA, 4000, "EUR", world.clock.now(), cashback_minor=1500)
        assert (await client.perform(asked)).response_code == "00"
        await settled(world)
        (told,) = messages
        same = (2, 3, 4, 12, 13, 18, 32, 37, 41, 42, 49, 54)
        assert {n: told.elements.get(n) for n in same} == {n: asked.message.elements[n] for n in same}
        assert differences(world) == []

    in_world(script, config=standing_in())


def test_the_advice_commits_with_the_approval_and_outlives_the_worker() -> None:
    async def script(world: World) -> None:
        down(world, "alpha")
        await trio.sleep(1.0)
        await pay(world)
        world.crash_worker(0)
        await world.start_worker(0)
        await settled(world)
        assert differences(world) == []
        assert posted(world) == 2500

    in_world(script, config=standing_in())


def test_without_a_stand_in_it_is_a_decline_and_the_issuer_hears_nothing() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "91"
        assert outcomes(world) == [(Decision.DECLINED, "91", "issuer_down")]
        await settled(world)
        assert messages == []
        assert differences(world) == []

    in_world(script)


def test_a_decline_of_stand_in_is_told_to_the_issuer_too_and_moves_no_money() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world, 5001)).response_code == "61"
        assert outcomes(world) == [(Decision.DECLINED, "61", "stand_in_floor")]
        await settled(world)
        assert [(m.mti, m.elements[39]) for m in messages] == [("0220", "61")]
        assert 38 not in messages[0].elements
        assert world.journal.postings() == []
        assert differences(world) == []

    in_world(script, config=standing_in(response_code="61"))


def test_what_stand_in_has_nothing_to_say_about_is_declined_as_ever() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "91"
        assert outcomes(world) == [(Decision.DECLINED, "91", "issuer_down")]
        await settled(world)
        assert messages == []

    in_world(script, config=standing_in(types=["authorization"], response_code="05"))


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"count_1h": 2}, "count_1h"),
        ({"count_24h": 2}, "count_24h"),
        ({"sum_1h_minor": {"EUR": 5000}}, "sum_1h"),
        ({"sum_24h_minor": {"EUR": 7499}}, "sum_24h"),
    ],
)
def test_velocity_counts_what_the_card_did_on_all_workers(limit: dict[str, Any], reason: str) -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        down(world, "alpha")
        await trio.sleep(1.0)
        answers = [(await pay(world)).response_code for _ in range(3)]
        assert answers == ["00", "00", "91"]
        assert outcomes(world)[-1] == (Decision.DECLINED, "91", f"stand_in_{reason}")
        await settled(world)
        assert posted(world) == 5000
        assert differences(world) == []

    in_world(script, config=standing_in(**limit))


def test_payments_at_the_same_moment_cannot_pass_a_limit_together() -> None:
    async def script(world: World) -> None:
        await world.start_worker(1)
        down(world, "alpha")
        await trio.sleep(1.0)
        answers: list[str] = []

        async def one() -> None:
            answers.append((await pay(world)).response_code)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert sorted(answers) == ["00"] * 3 + ["91"] * 7
        await settled(world)
        assert posted(world) == 7500
        assert differences(world) == []

    in_world(script, config=standing_in(count_1h=3))


def test_a_card_on_the_negative_list_is_declined() -> None:
    async def script(world: World) -> None:
        paid = await pay(world, 100)
        fingerprint = world.journal._intents[1].fingerprint
        await listed(world, fingerprint, "alpha")
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "04"
        assert outcomes(world)[-1] == (Decision.DECLINED, "04", "stand_in_blocked")
        await settled(world)
        assert paid.response_code == "00" and posted(world) == 100
        assert differences(world) == []

    in_world(script, config=standing_in(response_code="04"))


def test_where_the_negative_list_cannot_be_read_nothing_is_said_in_the_issuers_name() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")

        async def away(fingerprint: bytes, issuer: str) -> bool:
            raise JournalUnavailable("no answer")

        blocked, world.journal.blocked = world.journal.blocked, away  # type: ignore[method-assign]
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "91"
        assert outcomes(world) == [(Decision.DECLINED, "91", "issuer_down")]
        world.journal.blocked = blocked  # type: ignore[method-assign]
        assert (await pay(world)).response_code == "00"
        await settled(world)
        assert types(messages) == ["0220"]

    in_world(script, config=standing_in())


@pytest.mark.parametrize(("denied", "said"), [("42424242", "91"), ("42424243", "00"), ("42424242424", "91")])
def test_cards_are_denied_by_as_many_digits_as_the_limit_has(denied: str, said: str) -> None:
    async def script(world: World) -> None:
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == said
        assert outcomes(world)[-1][2] == ("stand_in" if said == "00" else "stand_in_denied")

    in_world(script, config=standing_in(denied=[denied]))


def test_the_list_of_another_issuer_says_nothing() -> None:
    async def script(world: World) -> None:
        await pay(world, 100)
        await listed(world, world.journal._intents[1].fingerprint, "beta")
        down(world, "alpha")
        await trio.sleep(1.0)
        assert (await pay(world)).response_code == "00"

    in_world(script, config=standing_in())


async def listed(world: World, fingerprint: bytes, issuer: str) -> None:
    """The issuer's file update, as it stands in the journal."""
    begun = await world.journal.begin(
        Intent(
            key=f"{issuer}|0302|1", kind=Kind.FILE_UPDATE, link=issuer, mti="0302", processing_code="",
            transmitted_at=NOW, created_at=NOW, deadline_at=NOW, trace_id="t", fingerprint=fingerprint, issuer=issuer,
        )
    )  # fmt: skip
    await world.journal.decide(
        Outcome(intent_id=begun.stored.intent_id, decision=Decision.APPROVED, response_code="00", reason=CARD_BLOCKED)
    )


def test_a_pin_that_nobody_can_verify_is_declined() -> None:
    async def script(world: World) -> None:
        down(world, "alpha")
        await trio.sleep(1.0)
        client = world.clients["pos"]
        asked = client.acquirer.purchase(Card(VISA.pan, pin="1234"), 2500, "EUR", world.clock.now())
        assert (await client.perform(asked)).response_code == "91"
        assert outcomes(world)[-1][2] == "stand_in_pin"
        await settled(world)
        assert differences(world) == []

    in_world(script, config=standing_in())


# Other ways of being away


def test_an_issuer_that_has_signed_off_is_spoken_for() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].manage("sign-off")
        await trio.sleep(2.0)
        assert (await pay(world)).response_code == "00"
        assert outcomes(world) == [(Decision.APPROVED, "00", "stand_in")]
        world.issuers["alpha"].manage("sign-on")
        await settled(world)
        assert differences(world) == []

    in_world(script, config=standing_in())


def test_an_open_circuit_spares_the_issuer_and_stand_in_speaks_until_probes_pass() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        faults = world.issuers["alpha"].issuer.faults
        faults.add(FaultRule(kind="silence", name="mute", booked=False))
        assert [(await pay(world)).response_code for _ in range(2)] == ["91", "91"]
        faults.clear("mute")
        asked = types(messages).count("0200")
        assert [(await pay(world)).response_code for _ in range(3)] == ["00"] * 3
        assert types(messages).count("0200") == asked, "nothing is sent while the circuit is open"
        assert outcomes(world)[-1] == (Decision.APPROVED, "00", "stand_in")
        await trio.sleep(OPEN_S)
        await pay(world)
        assert types(messages).count("0200") == asked + 1
        assert outcomes(world)[-1][2] == "purchase"
        await settled(world)
        assert differences(world) == []
        assert posted(world) == 4 * 2500

    breaker = {"failures": 2, "ratio": 0.0, "open_s": OPEN_S, "probes": 1}
    in_world(script, config=standing_in(breaker=breaker))


def test_a_request_that_our_rules_decline_leaves_the_place_of_a_probe_to_the_next_one() -> None:
    async def script(world: World) -> None:
        faults = world.issuers["alpha"].issuer.faults
        faults.add(FaultRule(kind="silence", name="mute", booked=False))
        assert [(await pay(world)).response_code for _ in range(2)] == ["91", "91"]
        faults.clear("mute")
        await trio.sleep(OPEN_S)
        assert (await pay(world, 2_000_000)).response_code == "59"
        assert (await pay(world)).response_code == "00"
        assert (outcomes(world)[-1][2], world.workers[0][0].online.choice.levels()["alpha"]) == ("purchase", 0)

    breaker = {"failures": 2, "ratio": 0.0, "open_s": OPEN_S, "probes": 1}
    in_world(script, config=standing_in(breaker=breaker))


@pytest.mark.parametrize("taker", ["repeat", "advice", "journal away", "hsm away", "original refused"])
def test_what_is_not_sent_to_a_half_open_link_leaves_the_place_of_a_probe_to_the_next_one(taker: str) -> None:
    async def script(world: World) -> None:
        client, faults = world.clients["gateway"], world.issuers["alpha"].issuer.faults
        shop, card, now = client.acquirer, Card(surrogate(world)), world.clock.now
        paid = await pay(world, 100)
        faults.add(FaultRule(kind="silence", name="mute", booked=False))
        assert [(await pay(world)).response_code for _ in range(2)] == ["91", "91"]
        faults.clear("mute")
        await trio.sleep(OPEN_S)
        match taker:
            case "repeat":
                assert await world.send_aside(client, Message("0201", paid.message.elements))
            case "advice":
                assert (await client.perform(shop.advice(card, 100, "EUR", now()))).response_code == "00"
            case "journal away":
                world.journal.lost_answers = 1
                assert (await pay(world)).response_code == "96"
            case "hsm away":
                dispatch = world.hsm.dispatch

                async def away(command: Dispatch) -> Any:
                    raise HsmUnavailable("away")

                world.hsm.dispatch = away  # type: ignore[method-assign]
                assert (await pay(world)).response_code == "96"
                world.hsm.dispatch = dispatch  # type: ignore[method-assign]
            case "original refused":
                assert (await client.perform(shop.refund(card, 101, now(), paid))).response_code == "13"
        await pay(world)
        assert (outcomes(world)[-1][2], world.workers[0][0].online.choice.levels()["alpha"]) == ("purchase", 0)

    breaker = {"failures": 2, "ratio": 0.0, "open_s": OPEN_S, "probes": 1}
    in_world(script, config=standing_in(breaker=breaker))


# Originals that timed out


def test_a_silent_issuer_is_told_to_undo_the_request_before_it_hears_the_approval() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        assert (await pay(world)).response_code == "00"
        assert outcomes(world) == [(Decision.APPROVED, "00", "stand_in")]
        await settled(world)
        assert types(messages) == ["0200", "0420", "0220"]
        request, reversal, advice = messages
        assert reversal.elements[90][:20] == "0200" + request.elements[11] + request.elements[7]
        assert (advice.elements[11], advice.elements[7]) == (request.elements[11], request.elements[7])
        first, second = world.issuers["alpha"].issuer.entries.entries()
        assert (first.reversed, first.posted_minor) == (True, 0)
        assert (second.reversed, second.posted_minor) == (False, 2500)
        assert posted(world) == 2500
        assert differences(world) == []

    in_world(script, config=standing_in(on_timeout=True), faults={"alpha": (FaultRule(kind="silence", count=1),)})


def test_a_late_approval_is_reversed_once_and_never_booked_twice() -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        assert (await pay(world)).response_code == "00"
        await trio.sleep(10.0)
        assert world.counted("late_answers", "alpha", "00") == 1
        await settled(world)
        assert types(messages) == ["0200", "0420", "0220"]
        assert posted(world) == 2500
        assert differences(world) == []

    late = (FaultRule(kind="late", delay_s=5.0, count=1),)
    in_world(script, config=standing_in(on_timeout=True), faults={"alpha": late})


@pytest.mark.parametrize("on_timeout", [False, True])
def test_beyond_its_limits_a_timeout_stays_a_timeout(on_timeout: bool) -> None:
    async def script(world: World) -> None:
        messages = heard(world, "alpha")
        assert (await pay(world, 5001 if on_timeout else 2500)).response_code == "91"
        assert outcomes(world) == [(Decision.REVERSED, "91", "issuer_timeout")]
        await settled(world)
        assert types(messages) == ["0200", "0420"]
        assert posted(world) == 0
        assert differences(world) == []

    silence = (FaultRule(kind="silence", count=1),)
    in_world(script, config=standing_in(on_timeout=on_timeout), faults={"alpha": silence})


# Later messages about an approval of ours


@pytest.mark.parametrize("told_first", [False, True])
def test_a_hold_of_ours_is_captured(told_first: bool) -> None:
    async def script(world: World) -> None:
        client = world.clients["gateway"]
        down(world, "alpha")
        await trio.sleep(1.0)
        held = await pay(world, 4000, "authorization")
        if told_first:
            await settled(world)
        await client.perform(client.acquirer.capture(held, 1500, world.clock.now(), final=True))
        await settled(world)
        assert posted(world) == 1500
        assert differences(world) == []

    in_world(script, config=standing_in())


@pytest.mark.parametrize("told_first", [False, True])
@pytest.mark.parametrize("kind", ["purchase", "authorization"])
def test_an_approval_of_ours_is_reversed(kind: str, told_first: bool) -> None:
    async def script(world: World) -> None:
        client = world.clients["gateway"]
        messages = heard(world, "alpha")
        down(world, "alpha")
        await trio.sleep(1.0)
        paid = await pay(world, kind=kind)
        if told_first:
            await settled(world)
        await client.perform(client.acquirer.reversal(paid, world.clock.now()))
        await settled(world)
        assert types(messages) == ["0220" if kind == "purchase" else "0120", "0420"]
        assert messages[1].elements[90][:4] == messages[0].mti
        assert posted(world) == 0
        assert differences(world) == []

    in_world(script, config=standing_in())


def test_a_purchase_of_ours_is_refunded_and_charged_back_by_the_issuer() -> None:
    async def script(world: World) -> None:
        client = world.clients["gateway"]
        down(world, "alpha")
        await trio.sleep(1.0)
        paid = await pay(world, 4000)
        await settled(world)
        back = await client.perform(client.acquirer.refund(Card(surrogate(world)), 1000, world.clock.now(), paid))
        assert back.response_code == "00"
        entry = next(e for e in world.issuers["alpha"].issuer.entries.entries() if e.mti == "0220")
        world.issuers["alpha"].chargeback(entry.key, 500)
        await trio.sleep(30.0)
        assert posted(world) == 2500
        assert differences(world) == []

    in_world(script, config=standing_in())


def test_a_refund_is_stood_in_for_where_that_is_allowed_and_never_above_what_was_paid() -> None:
    async def script(world: World) -> None:
        client = world.clients["gateway"]
        messages = heard(world, "alpha")
        paid = await pay(world, 4000)
        down(world, "alpha")
        await trio.sleep(1.0)
        card = Card(paid.message.elements[2])
        first = await client.perform(client.acquirer.refund(card, 3000, world.clock.now(), paid))
        second = await client.perform(client.acquirer.refund(card, 3000, world.clock.now(), paid))
        assert (first.response_code, second.response_code) == ("00", "13")
        await settled(world)
        assert types(messages) == ["0200", "0220"]
        assert posted(world) == 1000
        assert differences(world) == []

    in_world(script, config=standing_in(types=["refund"]))


def test_a_repeat_of_what_stand_in_approved_gets_the_same_answer() -> None:
    async def script(world: World) -> None:
        client = world.clients["gateway"]
        down(world, "alpha")
        await trio.sleep(1.0)
        paid = await pay(world)
        up(world, "alpha")
        await trio.sleep(30.0)
        frames = await world.send_aside(client, Message("0201", paid.message.elements))
        again = client.acquirer.decode(frames[0])
        assert (again.elements[39], again.elements[38]) == ("00", "S00001")
        await settled(world)
        assert posted(world) == 2500
        assert differences(world) == []

    in_world(script, config=standing_in())


def test_when_too_much_waits_for_the_issuer_stand_in_says_no_more() -> None:
    async def script(world: World) -> None:
        down(world, "alpha")
        await trio.sleep(1.0)
        for _ in range(3):
            assert (await pay(world, 100)).response_code == "00"
        await trio.sleep(10.0)
        assert (await pay(world, 100)).response_code == "91"
        assert outcomes(world)[-1] == (Decision.DECLINED, "91", "issuer_down")
        assert world.counted("stand_ins", "alpha", "saf_limit") == 1
        await settled(world)
        down(world, "alpha")
        await trio.sleep(10.0)
        assert (await pay(world, 100)).response_code == "00"
        await settled(world)
        assert posted(world) == 400
        assert differences(world) == []

    entry = {"issuer": "alpha", "floor_minor": {"EUR": 5000}}
    in_world(script, config=configured(stand_in=[entry], saf={"limit": 2}))
