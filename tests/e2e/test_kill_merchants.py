"""The gateway and the hsm die at random moments while merchants sell; nobody pays twice and the books agree."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

import pytest
import stripe

from tests.e2e.merchant import Merchant
from tests.e2e.shop import Shop

pytestmark = pytest.mark.xdist_group("e2e")

VICTIMS = ("gateway", "hsm", "gateway", "hsm", "gateway", "hsm")
SEED = 20261123
METHODS = ("pm_card_visa", "pm_card_mastercard", "pm_card_visa_debit", "pm_card_chargeDeclinedInsufficientFunds")
PATIENCE_S = 40.0
# Errors that a merchant's code tries again with the same idempotency key, as Stripe recommends.
PASSING = (stripe.APIConnectionError, stripe.APIError, stripe.RateLimitError, stripe.IdempotencyError)


class Seller(threading.Thread):
    """Sells without a pause until it is stopped, and asks about each sale until it knows the end."""

    def __init__(self, merchant: Merchant, stop: threading.Event, seed: int) -> None:
        super().__init__(daemon=True)
        self._merchant = merchant
        self._halt = stop
        self._random = random.Random(seed)
        self._name = f"seller-{seed}-{time.time_ns()}"
        self.sold: dict[str, int] = {}  # payment intent → amount in minor units
        self.declined = 0
        self.error = ""

    def run(self) -> None:
        try:
            number = 0
            while not self._halt.is_set():
                number += 1
                self._sell(f"{self._name}-{number}", self._random.randrange(100, 5_000))
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def _sell(self, key: str, amount_minor: int) -> None:
        method = self._random.choice(METHODS)
        body: Any = {"amount": amount_minor, "currency": "eur", "payment_method": method, "confirm": True}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                intent = self._merchant.stripe.v1.payment_intents.create(body, {"idempotency_key": key})
                while intent.status == "processing":
                    assert time.monotonic() < deadline, f"{intent.id} stays in processing"
                    time.sleep(0.1)
                    intent = self._merchant.stripe.v1.payment_intents.retrieve(intent.id)
            except stripe.CardError:
                self.declined += 1
                return
            except PASSING as error:
                assert time.monotonic() < deadline, error
                time.sleep(0.1)
                continue
            if intent.status == "succeeded":
                self.sold[intent.id] = amount_minor
            else:
                self.declined += 1
            return


def test_deaths_of_gateway_and_hsm_cost_no_cent(shop: Shop, merchant: Merchant) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    stop = threading.Event()
    before = posted_by_the_gateway(shop)
    sellers = [Seller(merchant, stop, SEED + number) for number in range(3)]
    for seller in sellers:
        seller.start()
    try:
        for victim in VICTIMS:
            time.sleep(rng.uniform(0.3, 0.8))
            pid = shop.system.pid(victim)
            os.kill(pid, signal.SIGKILL)
            shop.system.wait_child(victim, other_than=pid)
        time.sleep(0.5)
    finally:
        stop.set()
        for seller in sellers:
            seller.join(PATIENCE_S + 10)
    assert not any(seller.is_alive() for seller in sellers)
    assert not [seller.error for seller in sellers if seller.error]
    sold = {intent: amount for seller in sellers for intent, amount in seller.sold.items()}
    assert len(sold) > 20, "there was load while they died"
    shop.agree(timeout_s=40)
    assert posted_by_the_gateway(shop) - before == sum(sold.values()), "the ledger has each sale once, and no other"


def posted_by_the_gateway(shop: Shop) -> int:
    """Amounts of merchants' payments that the ledger has posted, minor units."""
    return sum(line.posted_minor for line in shop.book() if line.link == "gateway")
