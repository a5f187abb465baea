"""Our own slowness says nothing about the issuer: its circuit stays closed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from messages.message import Message
from switch.errors import ExchangeLost
from switch.links.pending import Pending
from switch.online import Online
from switch.routing.choice import Taken
from switch.stages.forward import Lost, _is_ours

DEADLINE_S = 3.0


def lost(late_s: float | None, had_s: float = DEADLINE_S, unread: bool = False) -> ExchangeLost:
    error = ExchangeLost("no answer in time", late_s)
    error.had_s, error.unread = had_s, unread
    return error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (lost(0.001), False),  # the issuer had all its time and said nothing
        (lost(0.001, unread=True), False),  # other answers come: this one does not
        (lost(0.5), True),  # the loop was late: the answer may have come meanwhile
        (lost(0.1, unread=True), True),
        (lost(0.001, had_s=1.0), True),  # the request waited in this worker for most of the deadline
        (lost(None), False),  # the connection broke
    ],
)
def test_a_timeout_counts_against_the_issuer_only_where_it_had_its_time(error: ExchangeLost, ours: bool) -> None:
    assert _is_ours(error, DEADLINE_S) is ours


@pytest.mark.parametrize("ours", [False, True])
def test_the_circuit_breaker_is_not_told_of_own_timeouts(ours: bool) -> None:
    ended: list[object] = []
    withdrawn: list[Taken] = []
    counted: list[tuple[str, ...]] = []
    online = cast(
        Any,
        SimpleNamespace(
            choice=SimpleNamespace(ended=lambda *a: ended.append(a), withdrawn=withdrawn.append),
            _meters=SimpleNamespace(count=lambda *labels: counted.append(labels)),
        ),
    )
    taken = Taken("alpha")

    async def script() -> None:
        Online._told(online, taken, Lost("no answer in time", ours))

    trio.run(script)
    assert (len(ended), withdrawn) == ((0, [taken]) if ours else (1, []))
    assert counted == ([("own_timeouts", "alpha")] if ours else [])


def test_a_deadline_that_is_seen_late_says_by_how_much() -> None:
    async def script() -> None:
        pending = Pending(10)
        future = pending.open(("key",), trio.current_time() - 2.0, Message("0100", {}))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pending.sweep)
            with pytest.raises(ExchangeLost) as caught:
                await future.wait()
            nursery.cancel_scope.cancel()
        assert caught.value.late_s is not None and caught.value.late_s >= 2.0

    trio.run(script)
