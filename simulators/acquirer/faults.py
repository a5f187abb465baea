"""Effects of a fault on an acquirer's message; data for `simulators.acquirer.client`.

The rules and their table are `simulators.faults`': the same kinds as an issuer's, seen from the sending side, and two
of an acquirer's own.
"""

from __future__ import annotations

from messages.message import Message
from messages.mti import is_repeat
from simulators.faults import Fault, FaultRule, FaultTable

CONTRADICTING = frozenset({"wrong-card", "wrong-currency", "wrong-amount"})
MAC_KINDS = frozenset({"wrong-mac", "missing-mac"})

# kind → what becomes of the message, for docs and scenario errors.
MEANINGS: dict[str, str] = {
    "delay": "sent after delay_s",
    "late": "sent after delay_s",
    "silence": "not sent at all, as if it were lost on its way",
    "disconnect-before": "not sent; the connection is closed",
    "disconnect-after": "sent, and the connection is closed at once",
    "duplicate": "sent twice",
    "reorder": "sent after the next message on its connection, or after delay_s",
    "wrong-mac": "sent with a wrong MAC; never a repeat, whose refusal would say nothing about its original",
    "missing-mac": "sent without its MAC; never a repeat",
    "garbage": "random bytes of its length are sent in its place",
    "half-frame": "its first half is sent, nothing more on this connection, which is closed after the time-out",
    "byte-at-a-time": "sent byte by byte, over delay_s",
    "refuse": "not sent; the connection is closed and not opened again for delay_s",
    "repeat": "sent, and its repeat after delay_s, whether it was answered or not",
    "wrong-card": "if it changes a payment, sent after a copy with a number of its own that names another card",
    "wrong-currency": "the same with another currency",
    "wrong-amount": "the same with an amount that the payment never had",
    "late-reversal": "sent, and its reversal after delay_s, whether it was answered or not",
}


def acquirer_fault_problems(rule: FaultRule) -> list[str]:
    """The faults of an acquirer's rule besides `simulators.faults.fault_problems`."""
    if rule.kind in MEANINGS:
        return []
    return [f"a {rule.kind} is an issuer's; an acquirer has {', '.join(MEANINGS)}"]


def decide(table: FaultTable | None, message: Message) -> Fault | None:
    """The fault of a message that is about to be sent."""
    fault = table.decide(message) if table else None
    if fault is not None and fault.kind in MAC_KINDS and is_repeat(message.mti):
        return None
    return fault
