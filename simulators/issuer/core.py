"""A simulated issuer, pure: messages of the switch go in, answers go out, and a book is kept.

Called by the shell in `simulators.issuer.server`, by a simulated network and by simulations of the switch. This module
knows which message is whose work: requests are `money`'s, advices `advices`', what the issuer starts itself
`started`'s. Faults on purpose come from `simulators.faults`. Time is an argument.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime

from messages.errors import DecodeError, MoneyError
from messages.key_change import BLOCK, KEY_CHANGE, offered_key
from messages.message import Message
from messages.money import alpha_currency
from messages.mti import is_response, repeat_mti, response_mti
from simulators.book import BookLine
from simulators.errors import LinkKeyError
from simulators.faults import Fault, FaultTable
from simulators.issuer.accounts import Accounts
from simulators.issuer.actions import Action, Disconnect, Send
from simulators.issuer.advices import Advices
from simulators.issuer.book import IssuerBook
from simulators.issuer.checks import Checks
from simulators.issuer.chip import Chip
from simulators.issuer.money import Money
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.started import Starter
from simulators.issuer.totals import Totals
from simulators.link_keys import LinkKeys

MAX_RECORDS = 10_000  # administrative messages kept; the oldest go first

# What each message needs (an answer with DE 39 = 30 where something is missing; the card may come as DE 2 or in DE 35)
# and who answers it.
# Source: ISO 8583:1987 table 4, reduced to what this issuer reads.
REQUESTS: dict[str, tuple[tuple[int, ...], str]] = {
    "0100": ((2, 7, 11, 49), "authorize"),
    "0120": ((2, 4, 7, 11, 49), "advised"),
    "0200": ((2, 3, 7, 11, 49), "pay"),
    "0220": ((4, 7, 11, 49), "completed"),
    "0400": ((7, 11, 90), "reverse"),
    "0420": ((7, 11, 90), "reverse"),
    "0500": ((7, 11, 15, 49), "reconcile"),
    "0520": ((7, 11, 15, 49), "reconcile"),
    "0600": ((7, 11), "administer"),
    "0620": ((7, 11), "administer"),
    "0800": ((7, 11, 70), "manage"),
    "0820": ((7, 11, 70), "manage"),
}
MONEY = frozenset({"0100", "0200"})  # whose answers a fault may decide

# Elements that an answer carries back unchanged where the request had them.
# Source: ISO 8583:1987 table 4, "mandatory echo"; DE 63 by agreement (trace id); above 1000 what later versions add.
ECHOED = (2, 3, 4, 7, 11, 12, 13, 15, 32, 37, 41, 42, 49, 63, 70, 1012)
CUT_OVER, SIGN_ON, SIGN_OFF = "201", "001", "002"
IN_BALANCE, OUT_OF_BALANCE = "1", "2"

Handler = Callable[[Message, str], dict[int, str]]


class Issuer:
    """One issuer with its accounts, faults and book.

    Args:
        scenario: see `simulators.issuer.scenario`.
        pin_key: its zone PIN key, TDES (AES for PIN blocks of format 4); b"" where it takes no PIN.
        book: an earlier book to go on with.
        mac_key: its zone authentication key; b"" where the link has no MAC.
        zmk: the zone master key that keys are exchanged under; b"" where none are.
        cvk: for card values; imk: for cryptograms; b"" each where it does not look at them.
        keys: of its link, where it shares them with others behind one network; instead of the keys above.
        random_bytes: for keys; a seeded one where a run must be repeatable.
    """

    def __init__(
        self,
        scenario: IssuerScenario,
        pin_key: bytes = b"",
        book: IssuerBook | None = None,
        *,
        mac_key: bytes = b"",
        zmk: bytes = b"",
        cvk: bytes = b"",
        imk: bytes = b"",
        keys: LinkKeys | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.name = scenario.name
        self.keys = keys or LinkKeys(
            pin_key,
            mac_key,
            pin_format=scenario.pin_format,
            mac_algorithm=scenario.mac_algorithm,
            zmk=zmk,
            random_bytes=random_bytes,
        )
        self.accounts = Accounts(scenario.prefixes, scenario.account, scenario.default)
        self.faults = FaultTable(scenario.fault, scenario.seed)
        self.entries = IssuerBook(scenario.name) if book is None else book
        self.totals = Totals()
        self.records: list[str] = []  # text of administrative messages
        self.signed_on = False
        self.stats: dict[str, int] = {}
        self.last_fault: Fault | None = None
        self.started = Starter(scenario.name, self.entries, self.keys, scenario.trace_element)
        self._trace_element = scenario.trace_element
        self._now = datetime.min
        chip = Chip(imk, scenario.chip_scheme) if imk else None
        checks = Checks(self.keys, scenario.pin_tries, chip, cvk, self._count)
        self._money = Money(self.name, self.entries, self.accounts, checks, self.totals, self.trace_id)
        self._advices = Advices(self.name, self.entries, self.accounts, self.totals, self.trace_id, self._count)
        handlers: dict[str, Handler] = {
            "authorize": lambda message, mti: self._money.authorize(message, mti, self._now),
            "pay": lambda message, mti: self._money.pay(message, mti, self._now),
            "advised": self._advices.advised,
            "completed": self._completed,
            "reverse": self._advices.reverse,
            "reconcile": self._reconcile,
            "administer": self._administer,
            "manage": self._manage,
        }
        # One look-up a message: MTI → (answer's MTI, canonical MTI, needed elements, handler). Repeats included.
        self._routes: dict[str, tuple[str, str, tuple[int, ...], Handler]] = {}
        for mti, (needed, handler) in REQUESTS.items():
            for seen in (mti, repeat_mti(mti)):
                self._routes[seen] = (response_mti(mti), mti, needed, handlers[handler])

    def receive(self, message: Message, now: datetime) -> list[Action]:
        """Take one message from the switch and say what happens next; [] for silence.

        Args:
            message: a request, an advice, a repeat, or the answer to what the issuer has started.
            now: aware UTC.
        """
        self.last_fault = None
        self._now = now
        route = self._routes.get(message.mti)
        if route is None:
            return self._other(message)
        answer_mti, mti, needed, handler = route
        elements = message.elements
        self._count(message.mti)
        missing = [number for number in needed if number not in elements and not (number == 2 and 35 in elements)]
        if missing:
            return [Send(answer_to(message, answer_mti, {39: "30", 44: f"DE {missing[0]}"}))]
        fault = self.faults.decide(message) if self.faults else None
        if fault is None:
            return [Send(answer_to(message, answer_mti, handler(message, mti)))]
        return self._faulty(fault, message, mti, answer_mti, handler)

    @property
    def transactions(self) -> int:
        """How many requests its book has."""
        return len(self.entries)

    @property
    def key_changes(self) -> list[tuple[str, str]]:
        """Kind and DE 39 of each key exchange that this side has started."""
        return self.started.key_changes

    def chargeback(self, reference: str, now: datetime, amount_minor: int | None = None) -> Message:
        """Start a chargeback: the 0422 to send until `receive` has seen its 0432.

        Args:
            reference: network key, RRN (DE 37) or trace id of a transaction that was posted.
            amount_minor: 1 … what is posted; None for all of it.
        Raises:
            SimulatorError: nothing to charge back, or one is under way already.
        """
        message = self.started.chargeback(reference, now, amount_minor)
        self._count("0422")
        return message

    def list_card(self, pan: str, action: str, now: datetime) -> Message:
        """Start a change of the negative list: the 0302 to send; `action` add, delete or inquire. SimulatorError."""
        return self.started.list_card(pan, action, now)

    def manage(self, what: str, now: datetime, day: str = "") -> Message:
        """Start network management: sign-on, sign-off, cut-over (with the new business `day`, MMDD) or echo."""
        if what == "cut-over":
            self.totals.cut_over(day)
        return self.started.manage(what, now, day)

    def key_change(self, kind: str, now: datetime) -> Message:
        """Start a key exchange: the 0800 with DE 70 = 101 to send. Raises LinkKeyError where there is no such key."""
        return self.started.key_change(kind, now)

    def refuse(self, message: Message) -> list[Action]:
        """What is said to a message whose MAC is missing or wrong: DE 39 = 63 to a request, nothing to an answer."""
        self._count("mac refused")
        try:
            if is_response(message.mti):
                return []
            return [Send(answer_to(message, response_mti(message.mti), {39: "63"}))]
        except DecodeError:
            return []

    def open_chargebacks(self) -> list[Message]:
        """The 0422 of each chargeback without acknowledgement; the shell repeats them as 0423."""
        return self.started.open_chargebacks()

    def open_messages(self) -> list[Message]:
        """All that was started and waits for its answer."""
        return self.started.open_messages()

    def answer_code(self, message: Message) -> str:
        """DE 39 of the answer to what was started; "" before it is there."""
        return self.started.answers.get((message.elements[7], message.elements[11]), "")

    def give_up(self, message: Message) -> None:
        """What was started is not answered at all: it is no more repeated."""
        self.started.give_up(message)

    def drain_records(self) -> bytes:
        """Records of the book that have changed since the last call."""
        return self.entries.drain_records()

    def book(self) -> Iterator[BookLine]:
        """The book, one line a transaction, oldest first."""
        return self.entries.lines()

    def trace_id(self, message: Message) -> str:
        """The trace id that a message carries; "" where none is agreed."""
        return message.elements.get(self._trace_element, "") if self._trace_element else ""

    # Who answers what

    def _completed(self, message: Message, mti: str) -> dict[int, str]:
        """0220: of a hold where DE 90 names one, else a payment that was decided offline."""
        return self._advices.capture(message, mti) if 90 in message.elements else self._advices.advised(message, mti)

    def _reconcile(self, message: Message, mti: str) -> dict[int, str]:
        elements = message.elements
        try:
            sums = self.totals.of(elements[15], alpha_currency(elements[49]))
            agrees = sums.agrees(elements)
        except (MoneyError, ValueError):
            return {39: "30"}
        if agrees:
            return {39: "00", 66: IN_BALANCE}
        self._count("out of balance")
        return {39: "00", 66: OUT_OF_BALANCE, **sums.elements()}

    def _administer(self, message: Message, mti: str) -> dict[int, str]:
        key = f"{message.elements[7]}{message.elements[11]} "
        if not any(record.startswith(key) for record in self.records[-100:]):  # a repeat is no second record
            self.records.append(key + message.elements.get(48, message.elements.get(44, "")))
            del self.records[:-MAX_RECORDS]
        return {39: "00"}

    def _manage(self, message: Message, mti: str) -> dict[int, str]:
        elements = message.elements
        match elements[70]:
            case code if code == KEY_CHANGE:
                return self._key_changed(elements)
            case code if code == CUT_OVER:
                self.totals.cut_over(elements.get(15, ""))
            case code if code in (SIGN_ON, SIGN_OFF):
                self.signed_on = code == SIGN_ON
        return {39: "00"}

    def _key_changed(self, elements: dict[int, str]) -> dict[int, str]:
        try:
            return {39: "00", BLOCK: self.keys.accept(*offered_key(elements))}
        except DecodeError:
            return {39: "30"}
        except LinkKeyError:
            return {39: "63"}

    def _other(self, message: Message) -> list[Action]:
        """Answers to what was started, and messages that this issuer does not know."""
        self._count(message.mti)
        try:
            if is_response(message.mti):
                if noticed := self.started.answered(message):
                    self._count(noticed)
                return []
            return [Send(answer_to(message, response_mti(message.mti), {39: "12"}))]
        except DecodeError:
            return []

    # Faults

    def _faulty(self, fault: Fault, message: Message, mti: str, answer_mti: str, handler: Handler) -> list[Action]:
        self.last_fault = fault
        self._count(f"fault {fault.kind}")
        if fault.kind == "decline" and mti in MONEY:
            decide = self._money.authorize if mti == "0100" else self._money.pay
            told = decide(message, mti, self._now, fault.response_code)
        elif fault.booked and fault.kind != "decline":
            told = handler(message, mti)
        else:
            told = {39: fault.response_code}
        return faulty(fault, answer_to(message, answer_mti, told))

    def _count(self, name: str) -> None:
        self.stats[name] = self.stats.get(name, 0) + 1


def answer_to(request: Message, mti: str, told: dict[int, str]) -> Message:
    """An answer: what is echoed, and what is told."""
    given = request.elements
    elements = {number: given[number] for number in ECHOED if number in given}
    elements.update(told)
    return Message(mti, elements)


def faulty(fault: Fault, answer: Message) -> list[Action]:
    """What a fault makes of an answer."""
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
        case "wrong-mac" | "missing-mac" | "garbage" | "half-frame" | "byte-at-a-time" | "reorder":
            return [Send(answer, fault.delay_s, fault.kind)]
        case _:
            return [Send(answer, fault.delay_s)]
