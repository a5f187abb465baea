"""Issuers' answers about something else, and two answers to one request: the books of each side at the end."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ledger.journal import Decision, Kind
from messages.message import Message
from simulators.faults import FaultRule
from simulators.issuer.accounts import AccountRule
from simulators.issuer.actions import Action, Send
from switch.advices import log as advices_log
from switch.config import switch_config
from switch.online import log as online_log
from tests.simulation.agreement import differences
from tests.simulation.world import TABLE, World, play
from tests.switch.desk import VISA, in_world, purchase, told
from tests.switch.outage import heard
from tests.switch.test_message_set import Till

WRONG = {"wrong-card": "DE 2", "wrong-currency": "DE 49", "wrong-processing-code": "DE 3", "wrong-amount": "DE 4"}


def altered(world: World, *, of: str = "0210", count: int = 1, **changes: str) -> None:
    """Have the issuer alpha change its next answers: `de4="…"`, an empty value removes one."""
    issuer: Any = world.issuers["alpha"].issuer
    receive = issuer.receive
    left = [count]

    def changing(message: Message, now: Any) -> list[Action]:
        actions: list[Action] = receive(message, now)
        for at, action in enumerate(actions):
            if isinstance(action, Send) and action.message.mti == of and left[0] > 0:
                left[0] -= 1
                wanted = {int(name[2:]): value for name, value in changes.items()}
                elements = {n: v for n, v in {**action.message.elements, **wanted}.items() if v}
                actions[at] = Send(Message(of, elements))
        return actions

    issuer.receive = changing


def alarms(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for log in (online_log, advices_log):
        monkeypatch.setattr(log, "critical", lambda event, **rest: found.append((event, rest)), raising=False)
    return found


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("hold", [True, False])
def test_an_approval_of_something_else_is_none(kind: str, hold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """91 to the acquirer, a reversal to the issuer, an alarm and a metric; and the books agree."""
    found = alarms(monkeypatch)

    async def script(world: World) -> None:
        till = Till(world)
        messages = heard(world, "alpha")
        made = till.shop.authorization if hold else till.shop.purchase
        asked = await till.done(made(VISA, 2_500, "EUR", till.now()))
        assert asked.response_code == "91"
        await trio.sleep(5.0)
        assert [m.mti for m in messages] == ["0100" if hold else "0200", "0420"]
        [outcome] = world.journal._outcomes.values()
        assert (outcome.decision, outcome.reason) == (Decision.REVERSED, "answer_contradicts")
        assert world.counted("answers_contradicting", "alpha", WRONG[kind]) == 1
        assert [(event, rest["element"]) for event, rest in found] == [("answer_contradicts", WRONG[kind])]
        assert differences(world) == []

    in_world(script, faults={"alpha": (FaultRule(kind=kind, count=1),)})  # type: ignore[arg-type]


# Changes of an honest answer, and their results.
ANSWERS: dict[str, tuple[dict[str, str], str]] = {
    "a decline that names nothing": ({"de39": "05", "de4": "000000000000", "de38": ""}, "05"),
    "no element that could be compared": ({"de2": "", "de3": "", "de4": "", "de49": ""}, "00"),
    "in part, of more": ({"de39": "10", "de4": "000000002501"}, "91"),
    "in part, of nothing": ({"de39": "10", "de4": "000000000000"}, "91"),
    "in part, in another currency": ({"de39": "10", "de4": "000000001000", "de49": "840"}, "91"),
    "in part, of another card": ({"de39": "10", "de4": "000000001000", "de2": "4000056655665556"}, "91"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_what_becomes_of_an_answer(what: str) -> None:
    async def script(world: World) -> None:
        changes, code = ANSWERS[what]
        altered(world, **changes)
        till = Till(world)
        paid = await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        assert paid.response_code == code
        await trio.sleep(5.0)
        if code != "05":  # this one is in the issuer's book, who said no
            assert differences(world) == []

    in_world(script)


def test_a_surrogate_and_the_card_behind_it_are_one_card() -> None:
    async def script(world: World) -> None:
        request = purchase(de2=world.hsm.add_card(VISA.pan))
        answer = await told(world, request)
        assert answer is not None and (answer.elements[39], answer.elements[2]) == ("00", request.elements[2])
        assert world.counted("answers_contradicting") == 0

    in_world(script)


def test_an_approval_in_part_still_counts() -> None:
    async def script(world: World) -> None:
        world.issuers["alpha"].issuer.accounts._default = AccountRule(balance_minor=1_000, partial=True)
        till = Till(world)
        paid = await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        assert paid.response_code in ("10", "00")
        await trio.sleep(5.0)
        assert differences(world) == []

    in_world(script)


@pytest.mark.parametrize("kind", WRONG)
def test_an_acknowledgement_of_something_else_acknowledges_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = alarms(monkeypatch)

    async def script(world: World) -> None:
        till = Till(world)
        held = await till.held(5_000)
        messages = heard(world, "alpha")
        assert (await till.done(till.shop.capture(held, 2_000, till.now()))).response_code == "00"
        await trio.sleep(10.0)
        assert [m.mti for m in messages] == ["0220", "0221"], "it is sent again until it is answered"
        assert world.counted("answers_contradicting", "alpha", WRONG[kind]) == 1
        assert found[0][0] == "answer_contradicts"
        assert differences(world) == []

    rule = FaultRule(kind=kind, count=1, mti=("0220",))  # type: ignore[arg-type]
    in_world(script, faults={"alpha": (rule,)})


def test_an_approval_after_a_decline_is_undone() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        messages = heard(world, "alpha")
        paid = await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        assert paid.response_code == "51"
        await trio.sleep(10.0)
        assert [m.mti for m in messages] == ["0200", "0420"]
        kinds = [(world.journal._intents[n].kind, o.decision) for n, o in world.journal._outcomes.items()]
        assert sorted(kinds) == [(Kind.LATE_APPROVAL, Decision.APPROVED), (Kind.PURCHASE, Decision.DECLINED)]
        assert world.counted("approvals_after_decline", "alpha") == 1
        assert world.issuers["alpha"].issuer.entries.entries()[0].posted_minor == 0
        assert differences(world) == []

    # Without a MAC: two that are verified at once may be done in either order, and the first one counts.
    alpha = {name: value for name, value in TABLE["issuer"][0].items() if name != "mac_key"}
    config = switch_config({**TABLE, "issuer": [alpha, TABLE["issuer"][1]]})
    rule = FaultRule(kind="approve-after-decline", response_code="51", count=1)
    in_world(script, config=config, faults={"alpha": (rule,)})


def test_an_approval_after_a_decline_is_undone_once_the_journal_is_back() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        altered(world, de39="51", de38="")
        asked = till.shop.purchase(VISA, 2_500, "EUR", till.now())
        messages = heard(world, "alpha")
        assert (await till.done(asked)).response_code == "51"
        world.journal.available = False
        worker = world.workers[0][0]
        sent = messages[0].elements
        late = {**{n: sent[n] for n in (2, 3, 4, 7, 11, 32, 49)}, 39: "00"}
        worker.lines["alpha"].reception._answered(worker.lines["alpha"].sessions[0], Message("0210", late))
        await trio.sleep(3.0)
        assert worker.late_approvals.under_way == 1
        world.journal.available = True
        await trio.sleep(10.0)
        assert worker.late_approvals.under_way == 0
        assert [m.mti for m in messages] == ["0200", "0420"]
        # The same again is no second reversal.
        worker.lines["alpha"].reception._answered(worker.lines["alpha"].sessions[0], Message("0210", late))
        await trio.sleep(5.0)
        assert [m.mti for m in messages] == ["0200", "0420"]

    in_world(script)


@pytest.mark.parametrize("where", ["here", "another worker", "after a restart"])
def test_an_approval_after_a_decline_is_undone_whoever_has_the_decline(where: str) -> None:
    async def script(world: World) -> None:
        till = Till(world)
        altered(world, de39="51", de38="")
        messages = heard(world, "alpha")
        assert (await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))).response_code == "51"
        sent = messages[0].elements
        late = Message("0210", {**{n: sent[n] for n in (2, 3, 4, 7, 11, 32, 49)}, 39: "00"})
        lines = [worker.lines["alpha"] for worker, _ in world.workers.values()]
        line = next(line for line in lines if (line.reception._declined != {}) is (where != "another worker"))
        if where == "after a restart":
            line.reception._declined.clear()
        line.reception._answered(line.sessions[0], late)
        await trio.sleep(5.0)
        assert [m.mti for m in messages] == ["0200", "0420"]
        assert world.counted("approvals_after_decline", "alpha") == 1

    async def opened(world: World) -> None:
        await world.open(workers=2)
        await script(world)

    play(opened)


def test_a_late_approval_that_was_reversed_in_time_leaves_no_trace() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        messages = heard(world, "alpha")
        assert (await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))).response_code == "91"
        await trio.sleep(30.0)
        assert [m.mti for m in messages] == ["0200", "0420"]
        assert world.counted("late_answers", "alpha", "00") == 1
        assert world.counted("approvals_after_decline") == world.counted("approvals_not_undone") == 0
        assert {intent.kind for intent in world.journal._intents.values()} == {Kind.PURCHASE}
        assert differences(world) == []

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=8.0, count=1, mti=("0200",)),)})


def test_an_approval_that_comes_twice_is_one() -> None:
    async def script(world: World) -> None:
        till = Till(world)
        messages = heard(world, "alpha")
        paid = await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        assert paid.response_code == "00"
        await trio.sleep(5.0)
        assert [m.mti for m in messages] == ["0200"]
        assert world.counted("approvals_after_decline") == 0
        assert differences(world) == []

    in_world(script, faults={"alpha": (FaultRule(kind="duplicate"),)})


def test_what_is_kept_of_declines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switch.links.reception.MAX_DECLINED", 3)

    async def script(world: World) -> None:
        till = Till(world)
        for _ in range(5):
            await till.done(till.shop.purchase(VISA, 2_500, "EUR", till.now()))
        assert len(world.workers[0][0].lines["alpha"].reception._declined) == 3

    in_world(script, faults={"alpha": (FaultRule(kind="decline"),)})
