"""Non-financial messages of a party's link: network management, keys, reconciliation, texts, unknown messages.

Messages of a core (an issuer's, a network's) go in, elements of the answer come out. One instance a link.

Source: ISO 8583:1987 0500, 0520 (DE 66, 74–77, 86–89, 97), 0600, 0620, 0800 (DE 70).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from messages.errors import DecodeError, MoneyError
from messages.key_change import BLOCK, KEY_CHANGE, offered_key
from messages.message import Message
from messages.money import alpha_currency
from messages.mti import is_response, response_mti
from messages.reconciliation import IN_BALANCE, OUT_OF_BALANCE, corrections
from messages.translation import ECHOED as LATER_ECHOED
from simulators.errors import LinkKeyError
from simulators.issuer.actions import Action, Send
from simulators.issuer.started import Starter
from simulators.issuer.totals import Sums
from simulators.link_keys import LinkKeys

MAX_RECORDS = 10_000  # texts kept; the oldest go first
REPEATS_WITHIN = 100  # texts that a repeat is looked for among

# Elements that an answer carries back unchanged where the request had them.
# Source: ISO 8583:1987 table 4, "mandatory echo"; DE 63 by agreement (trace id); elements that later versions add.
ECHOED = (2, 3, 4, 7, 11, 12, 13, 15, 32, 37, 41, 42, 49, 63, 70, *LATER_ECHOED)
CUT_OVER, SIGN_ON, SIGN_OFF = "201", "001", "002"

# Needed elements and the method, by MTI.
DESK_REQUESTS: dict[str, tuple[tuple[int, ...], str]] = {
    "0500": ((7, 11, 15, 49), "reconcile"),
    "0520": ((7, 11, 15, 49), "reconcile"),
    "0600": ((7, 11), "administer"),
    "0620": ((7, 11), "administer"),
    "0800": ((7, 11, 70), "manage"),
    "0820": ((7, 11, 70), "manage"),
}


class DayTotals(Protocol):
    """Totals that reconciliation is answered from."""

    def of(self, day: str, currency: str) -> Sums: ...
    def cut_over(self, day: str) -> None: ...


class Desk:
    """The non-financial messages of one link.

    Args:
        noticed: called with the name of what was noticed, for the counters.

    Attributes:
        signed_on: whether the peer has signed on, and not off since.
        records: texts of administrative messages, each with DE 7 and DE 11 before it.
    """

    def __init__(self, keys: LinkKeys, totals: DayTotals, started: Starter, noticed: Callable[[str], None]) -> None:
        self.signed_on = False
        self.records: list[str] = []
        self._keys = keys
        self._totals = totals
        self._started = started
        self._noticed = noticed

    def reconcile(self, message: Message, mti: str) -> dict[int, str]:
        """Whether the peer's totals of a day are ours; where not, ours."""
        elements = message.elements
        try:
            sums = self._totals.of(elements[15], alpha_currency(elements[49]))
            agrees = sums.agrees(elements)
        except (MoneyError, ValueError):
            return {39: "30"}
        if agrees:
            return {39: "00", 66: IN_BALANCE}
        self._noticed("out of balance")
        return {39: "00", 66: OUT_OF_BALANCE, **corrections(sums.elements(), elements)}

    def administer(self, message: Message, mti: str) -> dict[int, str]:
        """A text; a repeat is no second one."""
        key = f"{message.elements[7]}{message.elements[11]} "
        if not any(record.startswith(key) for record in self.records[-REPEATS_WITHIN:]):
            self.records.append(key + message.elements.get(48, message.elements.get(44, "")))
            del self.records[:-MAX_RECORDS]
        return {39: "00"}

    def manage(self, message: Message, mti: str) -> dict[int, str]:
        """Sign-on, sign-off, echo, cut-over (the day that opens is DE 15), a new key."""
        elements = message.elements
        match elements[70]:
            case code if code == KEY_CHANGE:
                return self._key_changed(elements)
            case code if code == CUT_OVER:
                self._totals.cut_over(elements.get(15, ""))
            case code if code in (SIGN_ON, SIGN_OFF):
                self.signed_on = code == SIGN_ON
        return {39: "00"}

    def other(self, message: Message) -> list[Action]:
        """Answers to what was started, and messages that this party does not know."""
        try:
            if is_response(message.mti):
                if noticed := self._started.answered(message):
                    self._noticed(noticed)
                return []
            return [Send(answer_to(message, response_mti(message.mti), {39: "12"}))]
        except DecodeError:
            return []

    def refuse(self, message: Message, response_code: str, reason: str = "") -> list[Action]:
        """Refuse a message before anybody has looked into it; nothing is said to an answer."""
        told = {39: response_code, 44: reason[:25]} if reason else {39: response_code}
        try:
            return [] if is_response(message.mti) else [Send(answer_to(message, response_mti(message.mti), told))]
        except DecodeError:
            return []

    def _key_changed(self, elements: dict[int, str]) -> dict[int, str]:
        try:
            return {39: "00", BLOCK: self._keys.accept(*offered_key(elements))}
        except DecodeError:
            return {39: "30"}
        except LinkKeyError:
            return {39: "63"}


def answer_to(request: Message, mti: str, told: dict[int, str]) -> Message:
    """An answer: echoed elements, and those of the reply."""
    given = request.elements
    elements = {number: given[number] for number in ECHOED if number in given}
    elements.update(told)
    return Message(mti, elements)
