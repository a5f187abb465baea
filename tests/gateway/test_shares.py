"""Webhooks are shared out: no merchant's slow receivers keep another's waiting."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from gateway.shares import Limits, Shares, Waiting

LIMITS = Limits(total=64, account=8, endpoint=4, host=16)


def waiting(number: int, account: str, endpoint: str = "e", host: str = "") -> Waiting:
    return Waiting(number, account, f"{account}/{endpoint}", host or f"{account}.{endpoint}")


def test_accounts_take_turns_and_the_one_with_the_fewest_comes_first() -> None:
    shares = Shares(Limits(total=6, account=4, endpoint=4, host=4))
    due = [waiting(number, "a") for number in range(10)] + [waiting(10, "b"), waiting(11, "c")]
    assert [(each.account, each.id) for each in shares.pick(due)] == [
        *(("a", 0), ("b", 10), ("c", 11)),
        *(("a", 1), ("a", 2), ("a", 3)),
    ]
    assert shares.room == 0 and shares.pick(due) == [] and shares.full_accounts() == ["a"]


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda number: waiting(number, "a", str(number)), LIMITS.account),
        (lambda number: waiting(number, "a"), LIMITS.endpoint),
        (lambda number: waiting(number, str(number), host="same"), LIMITS.host),
        (lambda number: waiting(number, str(number)), LIMITS.total),
    ],
)
def test_each_limit_holds_and_what_is_over_makes_room(make: object, most: int) -> None:
    shares = Shares(LIMITS)
    due = [make(number) for number in range(200)]  # type: ignore[operator]
    first = shares.pick(due)
    assert len(first) == most and shares.pick(due[most:]) == []
    shares.release(first[0])
    assert len(shares.pick(due[most:])) == 1


@pytest.mark.parametrize("seed", range(20))
def test_tarpits_keep_nobody_else_waiting(seed: int) -> None:
    """Simulated seconds: one merchant's sixteen endpoints hold every delivery for 10 s, twenty others' take 0.1 s."""
    dice, shares = random.Random(seed), Shares(LIMITS)
    number, now_s = 0, 0.0
    backlog: list[tuple[float, Waiting]] = []
    for _ in range(500):
        backlog.append((0.0, waiting(number, "tarpit", str(dice.randrange(16)))))
        number += 1
    for merchant in range(20):
        for _ in range(20):
            backlog.append((dice.uniform(0, 30), waiting(number, f"shop{merchant}")))
            number += 1
    backlog.sort(key=lambda each: (each[0], each[1].id))
    running: list[tuple[float, int, Waiting]] = []
    waited: list[float] = []
    held: Counter[str] = Counter()
    while now_s < 60:
        due_at = {each.id: at for at, each in backlog if at <= now_s}
        for picked in shares.pick([each for at, each in backlog if at <= now_s]):
            held[picked.account] += 1
            assert held["tarpit"] <= LIMITS.account
            if picked.account != "tarpit":
                waited.append(now_s - due_at[picked.id])
            heapq.heappush(running, (now_s + (10.0 if picked.account == "tarpit" else 0.1), picked.id, picked))
            backlog = [each for each in backlog if each[1].id != picked.id]
        now_s += 0.05
        while running and running[0][0] <= now_s:
            _, _, over = heapq.heappop(running)
            held[over.account] -= 1
            shares.release(over)
    assert len(waited) == 400 and max(waited) < 1.0
