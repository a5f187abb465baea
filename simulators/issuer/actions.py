"""Actions of a core, messages to send and connections to close; the shell does them. And what faults make of it."""

from __future__ import annotations

import msgspec

from messages.message import Message
from simulators.faults import Fault


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message to send, `delay_s` >= 0 from now, on the connection that the request came from.

    `spoiled` is what is wrong with it on purpose, one of: `wrong-mac`, `missing-mac`, `garbage`, `half-frame`,
    `byte-at-a-time` (over `delay_s`), `reorder` (after the next answer, or after `delay_s`); "" for nothing.
    """

    message: Message
    delay_s: float = 0.0
    spoiled: str = ""


class Disconnect(msgspec.Struct, frozen=True):
    """Close the connection that the request came from, after what was to be sent at once.

    `refuse_s`: time in which no new connection is taken; `listening`: they are closed at once instead of refused.
    """

    refuse_s: float = 0.0
    listening: bool = True


Action = Send | Disconnect
OF_APPROVALS = (38, 54, 55)  # elements that a decline does not have


def _other(kind: str, elements: dict[int, str]) -> dict[int, str]:
    """A fault's replacement of a value of the request; nothing where the answer does not name it."""
    match kind:
        case "wrong-card" if 2 in elements:
            pan = elements[2]
            return {2: f"{pan[:-1]}{(int(pan[-1]) + 1) % 10}"}
        case "wrong-currency" if 49 in elements:
            return {49: "840" if elements[49] != "840" else "978"}
        case "wrong-processing-code" if 3 in elements:
            return {3: ("20" if elements[3][:2] != "20" else "00") + elements[3][2:]}
        case "wrong-amount" if 4 in elements:
            return {4: f"{(int(elements[4]) + 1) % 10**12:012d}"}
    return {}


def spoil(fault: Fault, answer: Message) -> list[Action]:
    """The effect of a fault on an answer."""
    match fault.kind:
        case "silence":
            return []
        case "disconnect-before":
            return [Disconnect()]
        case "disconnect-after":
            return [Send(answer), Disconnect()]
        case "refuse":
            return [Disconnect(fault.delay_s, fault.listening)]
        case "duplicate":
            return [Send(answer), Send(answer)]
        case "wrong-stan":
            stan = f"{(int(answer.elements[11]) + 500_000) % 1_000_000:06d}"  # far from those under way
            return [Send(Message(answer.mti, {**answer.elements, 11: stan}))]
        case "wrong-card" | "wrong-currency" | "wrong-processing-code" | "wrong-amount":
            return [Send(Message(answer.mti, {**answer.elements, **_other(fault.kind, answer.elements)}))]
        case "approve-after-decline":
            declined = {number: value for number, value in answer.elements.items() if number not in OF_APPROVALS}
            return [Send(Message(answer.mti, {**declined, 39: fault.response_code})), Send(answer)]
        case "wrong-mac" | "missing-mac" | "garbage" | "half-frame" | "byte-at-a-time" | "reorder":
            return [Send(answer, fault.delay_s, fault.kind)]
        case _:
            return [Send(answer, fault.delay_s)]
