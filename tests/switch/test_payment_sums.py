"""Every running total of a payment, over all sequences of captures, refunds, reversals and chargebacks.

`tests.switch.payment_sums` is the model: the real decisions, journal and posting rules must come to the same sums.
"""

from __future__ import annotations

import asyncio
import random

import pytest
import trio

from console.database_roles import AUDITOR, LEDGER
from ledger.verify import Report, verify
from ledger.writer import open_journal
from tests.conftest import Database
from tests.ledger.store import connected
from tests.switch.payment_sums import (
    CURRENCIES,
    FOLLOWING,
    NOW,
    TERMS,
    Payment,
    Shop,
    Step,
    forked,
    shop_in_memory,
    shop_on,
)

# One message each; those that name the last or first of something do nothing where there is none.
STEPS: dict[str, Step] = {
    "capture a part": lambda shop, of: shop.capture(of, 37, final=False),
    "capture a part with cash": lambda shop, of: shop.capture(of, 20, final=False, cash=5),
    "capture a part and no more": lambda shop, of: shop.capture(of, 20),
    "capture all": lambda shop, of: shop.capture(of, of.held),
    "capture too much": lambda shop, of: shop.capture(of, of.held + 1),
    "increment": lambda shop, of: shop.increment(of, 900),
    "undo the increment": lambda shop, of: _undo_increment(shop, of),
    "reduce": lambda shop, of: shop.reduce(of, 10),
    "reverse": lambda shop, of: shop.reverse(of),
    "refund a little": lambda shop, of: shop.refund(of, 1),
    "refund a part": lambda shop, of: shop.refund(of, 23),
    "refund the rest": lambda shop, of: shop.refund(of, of.left),
    "refund too much": lambda shop, of: shop.refund(of, of.left + 1),
    "undo the last refund": lambda shop, of: _undo_refund(shop, of, -1),
    "undo the first refund": lambda shop, of: _undo_refund(shop, of, 0),
    "refund while the first one is undone": lambda shop, of: _race(shop, of),
    "charge back a part": lambda shop, of: shop.charge_back(of, 11),
    "charge back the rest": lambda shop, of: shop.charge_back(of, of.left),
    "contradict": lambda shop, of: _contradict(shop, of),
}
_OF_A_PURCHASE = ("reverse", "refund", "undo the l", "undo the f", "charge", "contradict")
OF_A_PURCHASE = [name for name in STEPS if name.startswith(_OF_A_PURCHASE)]
CONTRADICTIONS = ("card", "currency", "amount")


async def _undo_refund(shop: Shop, of: Payment, which: int) -> bool:
    refunds = of.refunds or of.undone_refunds
    return bool(refunds) and await shop.undo_refund(of, refunds[which])


async def _contradict(shop: Shop, of: Payment) -> bool:
    """One of the contradictions in turn."""
    every = [(kind, what) for kind in FOLLOWING for what in CONTRADICTIONS]
    return await shop.contradict(of, *every[shop.last % len(every)])


async def _race(shop: Shop, of: Payment) -> bool:
    return bool(of.refunds) and await shop.refund_while_another_is_undone(of, of.left, of.refunds[0])


async def _undo_increment(shop: Shop, of: Payment) -> bool:
    increments = of.increments or of.undone_increments
    return bool(increments) and await shop.undo_increment(of, increments[-1])


async def walk(shop: Shop, payment: Payment, steps: list[str], depth: int) -> int:
    """Every sequence of `depth` steps that are booked; steps that are not booked change nothing. Returns how many."""
    await shop.check([payment])
    count = 1
    if depth:
        for name in steps:
            on, one = forked(shop, payment)
            if await STEPS[name](on, one):
                count += await walk(on, one, steps, depth - 1)
            else:
                assert on.booked == shop.booked or one.refunds != payment.refunds
                await on.check([one])
    else:
        await shop.settle([payment])
    return count


@pytest.mark.parametrize(("merchant", "currency"), [("ODD", "EUR"), ("FIXED", "JPY")])
def test_every_sequence_of_steps_on_a_hold_keeps_every_total(merchant: str, currency: str) -> None:
    async def script() -> None:
        shop = shop_in_memory()
        payment = await shop.authorize(merchant, 101, cash=30, currency=currency)
        assert await walk(shop, payment, list(STEPS), 4) > 2_000

    trio.run(script)


@pytest.mark.parametrize(("merchant", "currency"), [("ODD", "JPY"), ("STANDARD", "KWD"), ("STANDARD", "HUF")])
def test_every_sequence_of_steps_on_a_purchase_keeps_every_total(merchant: str, currency: str) -> None:
    async def script() -> None:
        shop = shop_in_memory()
        payment = await shop.purchase(merchant, 101, cash=7, abroad=True, currency=currency)
        assert await walk(shop, payment, OF_A_PURCHASE, 4) > 500

    trio.run(script)


async def random_days(shop: Shop, rng: random.Random, days: int, steps: int) -> None:
    """Payments of several merchants, issuers and currencies at once; amounts from one cent to very large ones."""
    payments: list[Payment] = []
    for _ in range(days):
        merchant, currency, issuer = rng.choice(list(TERMS)), rng.choice(CURRENCIES), rng.choice(["alpha", "beta"])
        amount = rng.choice([rng.randrange(1, 40), rng.randrange(1, 10_000), rng.randrange(1, 10**12)])
        approved = rng.choice([None, None, rng.randrange(1, amount + 1)])
        terms = {"currency": currency, "issuer": issuer, "abroad": rng.random() < 0.3, "approved": approved}
        cash = rng.choice([0, rng.randrange(amount + 1)])
        start = rng.choice([shop.authorize, shop.authorize, shop.purchase])
        payments.append(await start(merchant, amount, cash=cash, **terms))
        for _ in range(steps):
            await random_step(shop, rng, rng.choice(payments))
        await shop.check(payments)
    await shop.settle(payments)


STEP_NAMES = (
    "capture", "capture", "increment", "reduce", "reverse", "refund", "refund", "undo", "race", "back", "up",
    "contradict", "contradict",
)  # fmt: skip


async def random_step(shop: Shop, rng: random.Random, of: Payment) -> None:
    held, left = rng.randrange(of.held + 2), rng.choice([rng.randrange(of.left + 2), of.left])
    name = rng.choice(STEP_NAMES)
    if name == "capture":
        await shop.capture(of, held, final=rng.random() < 0.2, cash=rng.choice([0, 0, rng.randrange(held + 1)]))
    elif name == "increment" and not of.purchase:
        await shop.increment(of, rng.randrange(1, 5_000))
    elif name == "reduce" and not of.purchase:
        await shop.reduce(of, held)
    elif name == "reverse" and rng.random() < 0.2:
        await shop.reverse(of)
    elif name == "refund":
        await shop.refund(of, left)
    elif name == "race" and of.refunds:
        await shop.refund_while_another_is_undone(of, left, rng.choice(of.refunds))
    elif name == "undo" and (refunds := of.refunds + of.undone_refunds):
        await shop.undo_refund(of, rng.choice(refunds))
    elif name == "up" and (increments := of.increments + of.undone_increments):
        await shop.undo_increment(of, rng.choice(increments))
    elif name == "contradict":
        await shop.contradict(of, rng.choice(FOLLOWING), rng.choice(CONTRADICTIONS))
    elif name == "back" and rng.random() < 0.5:
        await shop.charge_back(of, left)


@pytest.mark.parametrize("seed", range(20))
def test_random_days_keep_every_total(seed: int) -> None:
    async def script() -> None:
        await random_days(shop_in_memory(), random.Random(seed), days=10, steps=12)

    trio.run(script)


@pytest.mark.parametrize("seed", range(2))
def test_random_days_on_postgresql_keep_every_total_and_verify_whole(database: Database, seed: int) -> None:
    async def live() -> None:
        async with open_journal(database.dsn(LEDGER)) as journal:
            await random_days(shop_on(journal), random.Random(100 + seed), days=5, steps=10)

    async def audit() -> Report:
        async with connected(database.dsn(AUDITOR)) as connection:
            return await verify(connection, now=NOW.now())

    trio.run(live)
    report = asyncio.run(audit())
    assert report.whole, report
