"""One line an event, in JSON, cheap enough to write one for each payment.

Pipeline and links hand in facts that carry no card data; lines are collected and written together by `flush_all`,
which a worker runs. Rare events go to structlog as everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from switch.meters import Meters

MAX_LINES = 10_000  # collected; more than that between two flushes is dropped and counted
FLUSH_S = 0.1


class PaymentEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request in the operators' log; `amount_minor` in minor units, `elapsed_ms` from frame to answer."""

    event: str = msgspec.field(name="event", default="")
    timestamp: str
    level: str = ""
    worker: str
    trace_id: str
    link: str
    mti: str
    kind: str
    stan: str
    response_code: str
    reason: str = ""
    issuer: str = ""
    masked_pan: str = ""
    token: str = ""
    amount_minor: int = 0
    currency: str = ""
    merchant: str = ""
    intent_id: int = 0
    repeat: bool = False
    elapsed_ms: float


class EventLog:
    """A bounded buffer of encoded lines.

    Args:
        write: takes whole lines; called every 0.1 s at the most.
    """

    def __init__(self, write: Callable[[bytes], object], meters: Meters) -> None:
        self._write = write
        self._meters = meters
        self._encoder = msgspec.json.Encoder()
        self._lines: list[bytes] = []

    def payment(self, event: PaymentEvent) -> None:
        if len(self._lines) >= MAX_LINES:
            self._meters.count("unwritten")
            return
        self._lines.append(self._encoder.encode(event))

    def flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            try:
                self._write(b"\n".join(lines) + b"\n")
            except OSError:  # a full disk, a reader that is gone: no reason for payments to end
                for _ in lines:
                    self._meters.count("unwritten")

    async def flush_all(self) -> None:
        """Write what has been collected, until cancelled; then the rest."""
        try:
            while True:
                await trio.sleep(FLUSH_S)
                self.flush()
        finally:
            self.flush()
