"""Totals of a link that several acquirers share: each gets its own (DE 32), nobody another's, and they add up."""

from __future__ import annotations

from typing import Any

import pytest

from messages.exchange import de7, original_data
from messages.message import Message
from messages.reconciliation import IN_BALANCE, OUT_OF_BALANCE
from switch.config import SwitchConfig, switch_config
from tests.simulation.world import TABLE, World
from tests.switch.desk import NOW, in_world, purchase, told

NO_PAYMENT = {"de2": "", "de3": "", "de4": "", "de14": "", "de41": "", "de42": ""}
# Numbers and amounts: debits (DE 76, 88), their reversals (77, 89), credits (74, 86).
COUNTED = (76, 77, 74, 88, 89, 86)
Sums = tuple[int, ...]
BOOKED: dict[str, Sums] = {
    "10001": (2, 1, 1, 2_500 + 900, 900, 1_000),
    "10002": (1, 0, 0, 7_000, 0, 0),
    "10003": (0, 0, 0, 0, 0, 0),
}
LINK: Sums = (3, 1, 1, 10_400, 900, 1_000)


def config(ids: list[str] | None) -> SwitchConfig:
    pos, *others = TABLE["acquirer"]
    permitted = {} if ids is None else {"permissions": {"acquirer_ids": ids}}
    return switch_config({**TABLE, "acquirer": [{**pos, **permitted}, *others]})


async def answered(world: World, message: Message) -> dict[int, str]:
    answer = await told(world, message, "pos")
    assert answer is not None
    return answer.elements


async def reconciled(
    world: World, number: int, acquirer: str, sums: Sums = (1,), *, mti: str = "0500"
) -> dict[int, str]:
    """The answer to the totals of an acquirer; "" names none."""
    stated = {f"de{n}": str(value).zfill(10 if n < 80 else 16) for n, value in zip(COUNTED, sums, strict=False)}
    message = purchase(f"{number:06d}", mti=mti, de15="0314", de32=acquirer, **NO_PAYMENT, **stated)
    return await answered(world, message)


def ours(answer: dict[int, str]) -> Sums:
    """The switch's own totals in an answer that is out of balance."""
    assert (answer[39], answer[66]) == ("00", OUT_OF_BALANCE)
    return tuple(int(answer[n]) for n in COUNTED)


async def book(world: World) -> None:
    """Two acquirers pay, reverse and refund over one link; DE 32 with and without leading zeros."""
    first, second = (original_data("0200", stan, de7(NOW), "10001") for stan in ("000001", "000002"))
    for message in (
        purchase("000001", de4="000000002500"),
        purchase("000002", de4="000000000900"),
        purchase("000003", mti="0400", de4="000000000900", de90=second),
        purchase("000004", de3="200000", de4="000000001000", de90=first, de32="00010001"),
        purchase("000005", de4="000000007000", de32="10002"),
    ):
        assert (await answered(world, message))[39] == "00", message.elements[11]


@pytest.mark.parametrize("ids", [["10001", "10002", "10003"], ["10000-10099"], None])
@pytest.mark.parametrize("mti", ["0500", "0520"])
def test_an_acquirer_gets_the_totals_of_its_own_payments(ids: list[str] | None, mti: str) -> None:
    async def script(world: World) -> None:
        await book(world)
        for number, (acquirer, sums) in enumerate(BOOKED.items(), 100):
            answer = await reconciled(world, number, acquirer, sums, mti=mti)
            assert (answer[39], answer[66]) == ("00", IN_BALANCE), acquirer
            assert ours(await reconciled(world, number + 100, f"000{acquirer}", (9,), mti=mti)) == sums

    in_world(script, config=config(ids))


def test_the_totals_of_all_acquirers_add_up_to_those_of_the_link() -> None:
    async def script(world: World) -> None:
        await book(world)
        parts = [ours(await reconciled(world, n, acquirer, (9,))) for n, acquirer in enumerate(BOOKED, 100)]
        link = ours(await reconciled(world, 200, "", (9,)))
        assert link == tuple(map(sum, zip(*parts, strict=True))) == LINK

    in_world(script, config=config(None))


@pytest.mark.parametrize(
    ("acquirer", "detail"),
    [("10003", "DE 32 not permitted"), ("0000", "DE 32 not permitted"), ("", "totals need DE 32")],
)
@pytest.mark.parametrize("ids", [["10001", "10002"], ["10001"], []])
def test_totals_of_an_acquirer_that_the_link_does_not_name_or_of_none_are_refused(
    ids: list[str], acquirer: str, detail: str
) -> None:
    async def script(world: World) -> None:
        for number, mti in enumerate(("0500", "0520")):
            answer = await reconciled(world, number, acquirer, mti=mti)
            assert (answer[39], answer[44]) == ("58", detail)
            assert not answer.keys() & {66, 74, 76, 86, 88, 97}

    in_world(script, config=config(ids))


def test_undecided_totals_are_those_of_their_acquirer_whichever_worker_decides() -> None:
    """A worker that takes up an undecided 0500 has nothing but the intent."""

    async def script(world: World) -> None:
        await book(world)
        worker = world.workers[0][0]
        taken: list[Any] = []

        async def crash(stored: Any) -> None:
            taken.append(stored)
            raise RuntimeError("crash")

        decide, worker.desk.decide = worker.desk.decide, crash  # type: ignore[method-assign]
        message = purchase("000100", mti="0500", de15="0314", de32="10002", **NO_PAYMENT)
        await told(world, message, "pos")
        worker.desk.decide = decide  # type: ignore[method-assign]
        outcome = await worker.desk.decide(taken[0])
        assert int(outcome.answer[88]) == 7_000

    in_world(script, config=config(["10001", "10002"]))


def test_an_issuers_totals_are_those_of_its_link_whatever_acquirer_it_names() -> None:
    async def script(world: World) -> None:
        await book(world)
        worker = world.workers[0][0]
        elements = {7: de7(NOW), 11: "000700", 15: "0314", 32: "10001", 49: "978"}
        answer, _ = await worker.issuer_requests._told(worker.lines["alpha"], Message("0520", elements), "t")
        assert ours(answer) == LINK

    in_world(script, config=config(None))
