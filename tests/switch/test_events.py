"""The log of payments: events that it cannot write are counted, and end nothing."""

from __future__ import annotations

import trio

from switch.events import FLUSH_S, EventLog, PaymentEvent
from switch.meters import Meters
from tests.switch.desk import run


def event(stan: str) -> PaymentEvent:
    return PaymentEvent(
        timestamp="", worker="0", trace_id="", link="pos", mti="0200", kind="purchase", stan=stan, response_code="00",
        elapsed_ms=1.0,
    )  # fmt: skip


def test_a_disk_that_is_full_for_a_while_costs_lines_and_no_payments() -> None:
    async def script() -> None:
        meters, written, full = Meters(), list[bytes](), [True]

        def write(lines: bytes) -> None:
            if full[0]:
                raise OSError(28, "No space left on device")
            written.append(lines)

        events = EventLog(write, meters)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.flush_all)
            events.payment(event("000001"))
            events.payment(event("000002"))
            await trio.sleep(2 * FLUSH_S)
            full[0] = False
            events.payment(event("000003"))
            await trio.sleep(2 * FLUSH_S)
            nursery.cancel_scope.cancel()
        assert meters.value("unwritten") == 2
        assert len(written) == 1 and b"000003" in written[0]

    run(script)
