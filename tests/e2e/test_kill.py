"""The switch's workers die at random moments under load, twenty times; the books agree in the end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from simulators.acquirer import Card
from tests.e2e.shop import Shop

pytestmark = pytest.mark.xdist_group("e2e")

DEATHS = 20
SEED = 20261122
CARDS = [Card(pan) for pan in ("4242424242424242", "5555555555554444", "4000056655665556", "5200828282828210")]


def test_twenty_deaths_of_a_worker_cost_no_cent(shop: Shop) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    stop = threading.Event()
    buyers = [shop.buyer(stop, CARDS, seed=SEED + number) for number in range(4)]
    for buyer in buyers:
        buyer.start()
    try:
        for death in range(DEATHS):
            time.sleep(rng.uniform(0.05, 0.5))
            name = f"switch-{death % shop.system.config.switch.workers}"
            pid = shop.system.pid(name)
            os.kill(pid, signal.SIGKILL)
            shop.system.wait_child(name, other_than=pid)
    finally:
        stop.set()
        for buyer in buyers:
            buyer.join(60)
    assert not any(buyer.is_alive() for buyer in buyers)
    errors = [buyer.error for buyer in buyers if buyer.error]
    assert not errors, errors
    assert sum(buyer.approved for buyer in buyers) > 50, "there was load while they died"
    shop.agree(timeout_s=60)
