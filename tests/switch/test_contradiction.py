"""Follow-up messages that contradict the payment which they name: the table by row, and through the whole switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from hsm.vault_commands import ChangeNetworkToken, ProvisionNetworkToken
from ledger.journal import Change, Intent, Kind, Original, state
from ledger.lifecycle import RULES, Situation
from messages.exchange import original_data
from messages.message import Message
from messages.mti import repeat_mti
from simulators.faults import FaultRule
from switch.config import switch_config
from switch.stages.contradiction import FOLLOW_UPS, ORIGINAL_AMOUNTS, contradiction, over_limit
from switch.stages.identify import compared_pan
from tests.ledger.samples import intent, original
from tests.simulation.world import TABLE, World
from tests.switch.desk import MASTERCARD, VISA, in_world, purchase, surrogate, told
from tests.switch.test_issuer_requests import changed, ruled
from tests.switch.test_message_set import Till
from tests.switch.test_network_tokens import WORLD as NETWORK_TOKENS
from tests.switch.test_network_tokens import code, made, paying, provisioned

MINE, OTHER = b"m" * 16, b"o" * 16
CAPTURED_A_PART = Change(Kind.CAPTURE, 2_000, final=False)
GROWN = Change(Kind.INCREMENT, 5_000, final=False)
S = Situation


def paid(kind: Kind = Kind.AUTHORIZATION, *changes: Change, approved: int | None = None, **state_: Any) -> Original:
    """A payment of 100.00 EUR with card MINE."""
    made = original(kind, changes=changes, **state_)
    stored = msgspec.structs.replace(made.stored, intent=msgspec.structs.replace(made.stored.intent, fingerprint=MINE))
    outcome = made.outcome and msgspec.structs.replace(made.outcome, amount_minor=approved)
    return msgspec.structs.replace(made, stored=stored, outcome=outcome)


def follow_up(kind: Kind, said: int = 0, card: bytes = MINE, currency: str = "EUR") -> Intent:
    """A follow-up that says that its payment had the amount `said`."""
    row = FOLLOW_UPS[kind]
    text = f"{said:012d}{0:012d}" if row.stated == ORIGINAL_AMOUNTS else f"{said:012d}"
    amount = said if kind is Kind.REVERSAL else 100
    return intent(kind=kind, fingerprint=card, currency=currency, amount_minor=amount, stated=state({row.stated: text}))


@pytest.mark.parametrize("kind", FOLLOW_UPS)
def test_card_and_currency_are_those_of_the_payment(kind: Kind) -> None:
    of = paid()
    assert contradiction(follow_up(kind), of) is None
    assert contradiction(follow_up(kind, card=OTHER), of) is S.OTHER_CARD
    assert contradiction(follow_up(kind, card=b""), of) is None  # DE 2 is absent, blank or masked
    assert contradiction(follow_up(kind, currency="USD"), of) is S.WRONG_CURRENCY
    assert contradiction(follow_up(kind, currency=""), of) is None  # DE 49 is absent
    assert contradiction(follow_up(kind, card=OTHER), original()) is None  # recorded while the hsm was away
    assert contradiction(follow_up(kind, card=OTHER), of, booked=False) is S.OTHER_CARD


# Kind, payment, its amounts as the follow-up may state them, and others.
AMOUNTS: list[tuple[Kind, Original, tuple[int, ...], tuple[int, ...]]] = [
    *((kind, paid(), (0, 10_000), (1, 9_999, 10_001)) for kind in FOLLOW_UPS),
    *((kind, paid(approved=6_000), (0, 10_000, 6_000), (4_000, 16_000)) for kind in FOLLOW_UPS),
    *(
        (kind, paid(Kind.AUTHORIZATION, GROWN, CAPTURED_A_PART), (0, 10_000, 13_000), (15_000, 2_000, 8_000))
        for kind in (Kind.REVERSAL, Kind.REDUCTION, Kind.CAPTURE, Kind.INCREMENT)
    ),
    *(
        (kind, paid(Kind.AUTHORIZATION, GROWN, CAPTURED_A_PART), (0, 10_000, 2_000), (15_000, 13_000))
        for kind in (Kind.REFUND, Kind.CHARGEBACK)
    ),
    (Kind.REVERSAL, paid(decision=None), (0, 10_000), (9_999,)),
    (Kind.REVERSAL, paid(Kind.PURCHASE, approved=6_000), (0, 10_000, 6_000), (4_000,)),
    (Kind.REVERSAL, paid(Kind.REFUND), (0, 10_000), (9_999,)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "of", "right", "wrong"), AMOUNTS)
def test_a_stated_amount_is_one_of_the_payment(
    kind: Kind, of: Original, right: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    for said in right:
        assert contradiction(follow_up(kind, said), of) is None, said
    for said in wrong:
        assert contradiction(follow_up(kind, said), of) is S.OTHER_AMOUNT, said
        assert contradiction(follow_up(kind, said), of, booked=False) is None


def test_a_reversal_of_an_increment_states_the_increment() -> None:
    hold, increment = paid(Kind.AUTHORIZATION, GROWN), paid(Kind.INCREMENT, amount_minor=5_000)
    for said, expected in ((0, None), (5_000, None), (10_000, S.OTHER_AMOUNT), (15_000, S.OTHER_AMOUNT)):
        assert contradiction(follow_up(Kind.REVERSAL, said), hold, increment) is expected


def test_the_currency_in_de_30_of_2003_is_that_of_the_payment() -> None:
    for text, expected in (
        ("9782000000010000" + "0" * 16, None),
        ("8402000000010000" + "0" * 16, S.WRONG_CURRENCY),
        ("9782000000010001" + "0" * 16, S.OTHER_AMOUNT),
        ("0" * 32, None),
    ):
        message = msgspec.structs.replace(follow_up(Kind.CAPTURE), stated=state({ORIGINAL_AMOUNTS: text}))
        assert contradiction(message, paid()) is expected, text


@pytest.mark.parametrize("kind", FOLLOW_UPS)
def test_each_contradiction_has_its_answer(kind: Kind) -> None:
    answers = {at: (RULES[kind, at].response_code, RULES[kind, at].reason) for at in (S.OTHER_CARD, S.WRONG_CURRENCY)}
    assert answers == {S.OTHER_CARD: ("12", "other_card"), S.WRONG_CURRENCY: ("12", "wrong_currency")}
    assert (RULES[kind, S.OTHER_AMOUNT].response_code, RULES[kind, S.OTHER_AMOUNT].reason) == (
        "13", "wrong_original_amount",
    )  # fmt: skip


def test_messages_that_name_no_payment_contradict_none() -> None:
    for kind in set(Kind) - set(FOLLOW_UPS):
        assert contradiction(intent(kind=kind, fingerprint=OTHER, currency="USD", amount_minor=1), paid()) is None


def test_increments_count_in_all() -> None:
    grown = paid(Kind.AUTHORIZATION, GROWN, CAPTURED_A_PART)  # 130.00 held, 20.00 captured
    more = intent(kind=Kind.INCREMENT, amount_minor=1_000)
    assert not over_limit(more, grown, 16_000)
    assert over_limit(more, grown, 15_999)
    assert not over_limit(more, grown, None)


# Through the whole switch

FOLLOWING: dict[str, tuple[str, str, Mapping[str, str]]] = {
    "reversal": ("0400", "0100", {}),
    "reversal_advice": ("0420", "0100", {}),
    "repeated_reversal": ("0401", "0100", {}),
    "repeated_advice": ("0421", "0100", {}),
    "reversal_of_a_purchase": ("0400", "0200", {}),
    "reduction": ("0400", "0100", {"de95": "000000001000".ljust(42, "0")}),
    "reduction_advice": ("0420", "0100", {"de95": "000000001000".ljust(42, "0")}),
    "capture": ("0220", "0100", {"de3": ""}),
    "increment": ("0100", "0100", {}),
    "refund": ("0200", "0200", {"de3": "200000"}),
    "refund_advice": ("0220", "0200", {"de3": "200000", "de39": "00"}),
}
STATING = tuple(
    name for name in FOLLOWING if "re" in name[:2] and "refund" not in name
)  # they state DE 4 of the payment


async def _payment(world: World, name: str, link: str = "pos") -> Message:
    card = surrogate(world) if link == "gateway" else VISA.pan
    message = purchase("000001", mti=FOLLOWING[name][1], de4="000000005000", de2=card)
    answer = await told(world, message, link)
    assert answer is not None and answer.elements[39] == "00"
    return message


def _following(name: str, of: Message, stan: str = "000002", **changes: str) -> Message:
    mti, _, more = FOLLOWING[name]
    reference = original_data(of.mti, of.elements[11], of.elements[7], of.elements[32])
    return purchase(
        stan, **{"mti": mti, "de2": of.elements[2], "de4": "000000005000", "de90": reference, **more, **changes}
    )


async def _refused(world: World, message: Message, code: str, text: str, link: str = "pos") -> None:
    answer = await told(world, message, link)
    assert answer is not None
    assert (answer.elements[39], answer.elements[44].rstrip()) == (code, text)
    repeated = Message(message.mti if message.mti[3] == "1" else repeat_mti(message.mti), message.elements)
    again = await told(world, repeated, link)
    assert again is not None
    assert (again.elements[39], again.elements[44]) == (code, answer.elements[44])


async def _books_are_untouched(world: World) -> None:
    await trio.sleep(5.0)
    assert sum(line.posted_minor + line.held_minor for line in world.journal.book()) == 5_000
    entries = [entry for server in world.issuers.values() for entry in server.issuer.book()]
    assert sum(entry.held_minor + entry.posted_minor for entry in entries) == 5_000
    assert world.counted("advices_sent") == 0


@pytest.mark.parametrize("name", FOLLOWING)
def test_another_card_than_the_payments_is_refused_and_noted(name: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name)
        with capture_logs() as logs:
            await _refused(world, _following(name, of, de2=MASTERCARD.pan), "12", "DE 2: another card")
        noted = [line for line in logs if line["event"] == "original_contradicted"]
        assert [line["reason"] for line in noted] == ["other_card"]
        assert MASTERCARD.pan not in str(logs)
        kind = next(i.kind for i in world.journal._intents.values() if i.stan == "000002")
        assert world.counted("originals_contradicted", "pos", kind, "other_card") == 1
        await _books_are_untouched(world)
        right = await told(world, _following(name, of, "000003"), "pos")
        assert right is not None and right.elements[39] == "00"

    in_world(script)


@pytest.mark.parametrize("name", FOLLOWING)
def test_another_track_than_the_payments_card_is_refused(name: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name)
        track = f"{MASTERCARD.pan}=30121010000000000000"
        await _refused(world, _following(name, of, de2="", de14="", de35=track), "12", "DE 2: another card")
        await _books_are_untouched(world)

    in_world(script)


@pytest.mark.parametrize("name", FOLLOWING)
def test_another_currency_than_the_payments_is_refused_and_noted(name: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name)
        await _refused(world, _following(name, of, de49="840"), "12", "DE 49: another currency")
        assert world.counted("originals_contradicted") == 1
        await _books_are_untouched(world)

    in_world(script)


@pytest.mark.parametrize("name", STATING)
@pytest.mark.parametrize("amount", ["000000004999", "000000005001", "000000000001"])
def test_a_reversal_that_states_another_amount_than_the_payments_is_refused(name: str, amount: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name)
        await _refused(world, _following(name, of, de4=amount), "13", "not the original amount")
        assert world.counted("originals_contradicted") == 1
        await _books_are_untouched(world)

    in_world(script)


@pytest.mark.parametrize("name", STATING)
@pytest.mark.parametrize("amount", ["", "000000000000", "000000005000"])
def test_a_reversal_without_an_amount_or_with_the_payments_is_taken(name: str, amount: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name)
        answer = await told(world, _following(name, of, de4=amount, de49="978"), "pos")
        assert answer is not None and answer.elements[39] == "00"

    in_world(script)


@pytest.mark.parametrize("name", [name for name in FOLLOWING if "refund" not in name and name != "increment"])
@pytest.mark.parametrize("card", ["", "0000000000000000", "4242"])
def test_a_follow_up_may_leave_the_card_out(name: str, card: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name)
        answer = await told(world, _following(name, of, de2=card), "pos")
        assert answer is not None and answer.elements[39] == "00"

    in_world(script)


@pytest.mark.parametrize(
    ("elements", "pan"),
    [
        ({2: VISA.pan}, VISA.pan),
        ({35: f"{VISA.pan}=3012101"}, VISA.pan),
        ({2: "424242******4242"}, ""),
        ({2: "XXXXXXXXXXXX4242"}, ""),
        ({2: " " * 16}, ""),
        ({2: "0" * 16}, ""),
        ({2: "4242"}, ""),
        ({}, ""),
    ],
)
def test_a_card_that_is_blank_masked_or_cut_is_not_compared(elements: dict[int, str], pan: str) -> None:
    assert compared_pan(Message("0400", elements)) == pan


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_surrogate_of_another_card_is_refused(name: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name, "gateway")
        other = _following(name, of, de2=surrogate(world, MASTERCARD))
        await _refused(world, other, "12", "DE 2: another card", "gateway")
        await _books_are_untouched(world)

    in_world(script)


@pytest.mark.parametrize("name", ["reversal", "reversal_advice", "reduction", "capture"])
def test_the_payment_of_an_erased_card_comes_to_an_end(name: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name, "gateway")
        world.hsm._engine.cards.forget(next(i.token for i in world.journal._intents.values()))
        answer = await told(world, _following(name, of), "gateway")
        assert answer is not None and answer.elements[39] == "00"

    in_world(script)


@pytest.mark.parametrize("name", ["reversal", "reduction", "capture"])
def test_a_card_that_is_compared_is_not_stored(name: str) -> None:
    async def script(world: World) -> None:
        of = await _payment(world, name)
        cards = len(world.hsm._engine.cards)
        await _refused(world, _following(name, of, de2="4000056655665556"), "12", "DE 2: another card")
        assert len(world.hsm._engine.cards) == cards
        stored = repr((world.journal._intents, world.journal._outcomes))
        assert "4000056655665556" not in stored and "400005******5556" in stored

    in_world(script)


def test_a_reversal_that_contradicts_does_not_end_a_request_under_way() -> None:
    async def script(world: World) -> None:
        of = purchase("000001", de4="000000005000")
        answers: list[Message | None] = []

        async def pay() -> None:
            answers.append(await told(world, of, "pos"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay)
            await trio.sleep(0.5)
            for stan, changes, expected in (
                ("000002", {"de2": MASTERCARD.pan}, "12"),
                ("000003", {"de49": "840"}, "12"),
                ("000004", {"de4": "000000004000"}, "13"),
            ):
                answer = await told(world, _following("reversal_of_a_purchase", of, stan, **changes), "pos")
                assert answer is not None and answer.elements[39] == expected
            assert not answers
        assert answers[0] is not None and answers[0].elements[39] == "00"

    in_world(script, faults={"alpha": (FaultRule(kind="delay", delay_s=2.0),)})


def test_a_hold_is_reversed_by_what_was_asked_for_approved_or_held() -> None:
    """50.00 and an increment of 20.00; then 10.00 captured: 60.00 is held."""

    async def script(world: World) -> None:
        stan = 1
        for amount, expected in ((5_000, "00"), (6_000, "00"), (7_000, "13"), (1_000, "13"), (2_000, "13")):
            of = purchase(f"{stan:06d}", mti="0100", de4="000000005000")
            assert (await told(world, of, "pos")).elements[39] == "00"  # type: ignore[union-attr]
            for name, part in (("increment", "000000002000"), ("capture", "000000001000")):
                stan += 1
                change = _following(name, of, f"{stan:06d}", de4=part, de60="P")
                assert (await told(world, change, "pos")).elements[39] == "00"  # type: ignore[union-attr]
            stan += 1
            reversal = _following("reversal", of, f"{stan:06d}", de4=f"{amount:012d}")
            assert (await told(world, reversal, "pos")).elements[39] == expected, amount  # type: ignore[union-attr]
            stan += 1

    in_world(script)


def test_a_second_reversal_with_another_number_ends_whatever_amount_it_states() -> None:
    async def script(world: World) -> None:
        of = await _payment(world, "reversal")
        for stan, amount in (("000002", "000000005000"), ("000003", "000000007000")):
            answer = await told(world, _following("reversal", of, stan, de4=amount), "pos")
            assert answer is not None and answer.elements[39] == "00"

    in_world(script)


@pytest.mark.parametrize(
    ("changes", "ruling"),
    [
        ({"de2": MASTERCARD.pan}, ("12", "other_card")),
        ({"de2": "", "de35": f"{MASTERCARD.pan}=3012101"}, ("12", "other_card")),
        ({"de49": "840"}, ("12", "wrong_currency")),
        ({"de1030": f"{2_499:012d}" + "0" * 12}, ("13", "wrong_original_amount")),
        ({"de1030": f"{2_500:012d}" + "0" * 12}, ("00", "chargeback")),
        ({"de2": VISA.pan}, ("00", "chargeback")),
        ({"de2": "0" * 16}, ("00", "chargeback")),
        ({"de2": ""}, ("00", "chargeback")),
    ],
)
def test_a_chargeback_that_contradicts_its_payment_is_refused(changes: dict[str, str], ruling: tuple[str, str]) -> None:
    async def script(world: World) -> None:
        client = world.clients["pos"]
        await client.perform(client.acquirer.purchase(VISA, 2_500, "EUR", world.clock.now()))
        server = world.issuers["alpha"]
        message = server.chargeback(server.issuer.entries.entries()[0].key, 1_000)
        assert await server.answer_of(message) == "00"
        assert await ruled(world, changed(message, de11="999999", **changes)) == ruling
        refused = ruling[0] != "00"
        assert world.counted("originals_contradicted", "alpha", Kind.CHARGEBACK, ruling[1]) == refused

    in_world(script)


@pytest.mark.parametrize("change", ["suspend", "delete"])
def test_the_payment_of_a_network_token_that_is_out_of_use_comes_to_an_end(change: str) -> None:
    async def script(world: World) -> None:
        name = await provisioned(world)
        of = paying(await made(world, name), mti="0100")
        assert await code(world, of) == "00"
        await world.hsm.ask(ChangeNetworkToken(id=name, domain="acct_1", change=change))
        assert await code(world, _following("capture", of, "000003", de2=MASTERCARD.pan, de4="000000001000")) == "12"
        assert await code(world, _following("capture", of, "000004", de4="000000001000", de60="P")) == "00"
        assert await code(world, _following("reversal", of, "000005", de4="000000002500")) == "00"

    in_world(script, **NETWORK_TOKENS)


def test_a_network_token_of_another_card_is_refused() -> None:
    async def script(world: World) -> None:
        of = paying(await made(world, await provisioned(world)), mti="0100")
        assert await code(world, of) == "00"
        token: Any = await world.hsm.ask(ProvisionNetworkToken(pan=MASTERCARD.pan, domain="acct_1", expiry="3012"))
        for number, name in enumerate(("capture", "reversal", "reduction")):
            message = _following(name, of, f"{number + 3:06d}", de2=token.dpan, de4="000000002500")
            assert await code(world, message) == "12"

    in_world(script, **NETWORK_TOKENS)


@pytest.mark.parametrize(("amount", "answer"), [(2_500, "00"), (2_499, "13")])
def test_a_reversal_in_part_of_1993_has_the_payments_amount_in_de_30(amount: int, answer: str) -> None:
    pos = {**TABLE["acquirer"][0], "dialect": "iso93-ascii"}

    async def script(world: World) -> None:
        till = Till(world)
        held = await till.held(2_500)
        message = till.shop.reduction(held, 1_000, till.now()).message
        stated = Message(message.mti, {**message.elements, 4: f"{amount:012d}"})
        got = await told(world, stated, "pos")
        assert got is not None and got.elements[39] == answer

    in_world(script, config=switch_config({**TABLE, "acquirer": [pos, *TABLE["acquirer"][1:]]}))


@pytest.mark.parametrize("name", ["reversal", "reduction", "capture"])
def test_a_repeat_of_a_message_from_before_the_comparison_gets_its_answer(name: str) -> None:
    """Its intent has no card and no amount of the original."""

    async def script(world: World) -> None:
        of = await _payment(world, name)
        message = _following(name, of)
        first = await told(world, message, "pos")
        for number, known in list(world.journal._intents.items()):
            if known.stan == "000002":
                bare = msgspec.structs.replace(known, fingerprint=b"", masked_pan="", stated="")
                world.journal._intents[number] = bare
        again = await told(world, Message(repeat_mti(message.mti), message.elements), "pos")
        assert first is not None and again is not None
        assert first.elements[39] == again.elements[39] == "00"

    in_world(script)
