"""A simulated issuer, pure: messages of the switch go in, answers go out, and a book is kept.

Called by the shell in `simulators.issuer.server` and by simulations of the switch. Verifies PINs for real, answers
repeats from its book, remembers reversals of requests that it has not seen, and starts chargebacks. Faults on
purpose come from `simulators.faults`. Time is an argument.
"""

from __future__ import annotations

import hmac
import secrets
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from hsm.errors import PinBlockError
from messages.card import pan_of
from messages.errors import DecodeError, MoneyError
from messages.exchange import de7, network_key, original_data, pairing_key, parse_original_data
from messages.key_change import BLOCK, KEY_CHANGE, key_request, offered_key
from messages.message import Message
from messages.money import alpha_currency, numeric_currency
from messages.mti import canonical_mti, is_response, repeat_mti, response_mti
from simulators.book import BookLine
from simulators.errors import LinkKeyError, SimulatorError
from simulators.faults import Fault, FaultTable
from simulators.issuer.accounts import Account, Accounts
from simulators.issuer.actions import Action, Disconnect, Send
from simulators.issuer.book import Entry, IssuerBook
from simulators.issuer.scenario import IssuerScenario
from simulators.link_keys import LinkKeys, Offer

MAX_CHARGEBACKS = 1_000  # waiting for the switch's acknowledgement

# What each message needs (an answer with DE 39 = 30 where something is missing) and who answers it.
# Source: ISO 8583:1987 table 4, reduced to what this issuer reads.
REQUESTS: dict[str, tuple[tuple[int, ...], str]] = {
    "0100": ((2, 4, 7, 11, 49), "authorize"),
    "0200": ((2, 3, 4, 7, 11, 49), "pay"),
    "0220": ((4, 7, 11, 49, 90), "capture"),
    "0400": ((7, 11, 90), "reverse"),
    "0420": ((7, 11, 90), "reverse"),
    "0800": ((7, 11, 70), "manage"),
}

# Elements that an answer carries back unchanged where the request had them.
# Source: ISO 8583:1987 table 4, "mandatory echo"; DE 63 by agreement (trace id).
ECHOED = (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 63, 70)

# The checks of a request that asks for money, in their order: name → DE 39 when it fails.
CHECKS: dict[str, str] = {
    "reversed before it arrived": "12",
    "no such card": "14",
    "account blocked": "(the account's)",
    "PIN tries exceeded": "75",
    "wrong PIN": "55",
    "currency not of this account": "57",
    "payment of zero": "13",
    "not enough money": "51",
}


class Issuer:
    """One issuer with its accounts, faults and book.

    Args:
        scenario: see `simulators.issuer.scenario`.
        pin_key: its zone PIN key, TDES (AES for PIN blocks of format 4); b"" where it takes no PIN.
        book: an earlier book to go on with.
        mac_key: its zone authentication key; b"" where the link has no MAC.
        zmk: the zone master key that keys are exchanged under; b"" where none are.
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
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.name = scenario.name
        self.keys = LinkKeys(
            pin_key,
            mac_key,
            pin_format=scenario.pin_format,
            mac_algorithm=scenario.mac_algorithm,
            zmk=zmk,
            random_bytes=random_bytes,
        )
        self.key_changes: list[tuple[str, str]] = []  # kind and DE 39 of each exchange that this side has started
        self._offers: dict[tuple[str, ...], Offer] = {}
        self.accounts = Accounts(scenario.prefixes, scenario.account, scenario.default)
        self.faults = FaultTable(scenario.fault, scenario.seed)
        self.entries = IssuerBook(scenario.name) if book is None else book
        self.stats: dict[str, int] = {}
        self.last_fault: Fault | None = None
        self._pin_tries = scenario.pin_tries
        self._trace_element = scenario.trace_element
        self._stan = 0
        self._handlers: dict[str, Callable[[Message, str], dict[int, str]]] = {
            "authorize": self._authorize,
            "pay": self._pay,
            "capture": self._capture,
            "reverse": self._reverse,
            "manage": self._manage,
        }
        # One look-up a message: MTI → (answer's MTI, canonical MTI, needed elements, handler). Repeats included.
        self._routes: dict[str, tuple[str, str, tuple[int, ...], Callable[[Message, str], dict[int, str]]]] = {}
        for mti, (needed, handler) in REQUESTS.items():
            for seen in (mti, repeat_mti(mti)):
                self._routes[seen] = (response_mti(mti), mti, needed, self._handlers[handler])

    def receive(self, message: Message, now: datetime) -> list[Action]:
        """Take one message from the switch and say what happens next; [] for silence.

        Args:
            message: a request, an advice, a repeat, or the answer to a chargeback.
            now: aware UTC.
        """
        self.last_fault = None
        route = self._routes.get(message.mti)
        if route is None:
            return self._other(message)
        answer_mti, mti, needed, handler = route
        elements = message.elements
        self._count(message.mti)
        if any(number not in elements for number in needed):
            return [Send(self._answer(answer_mti, message, {39: "30"}))]
        fault = self.faults.decide(message) if self.faults else None
        if fault is None:
            return [Send(self._answer(answer_mti, message, handler(message, mti)))]
        return self._faulty(fault, message, mti, answer_mti, handler)

    def chargeback(self, reference: str, now: datetime, amount_minor: int | None = None) -> Message:
        """Start a chargeback: the 0422 to send until `receive` has seen its 0432.

        Args:
            reference: network key, RRN (DE 37) or trace id of a transaction that was posted.
            amount_minor: 1 … what is posted; None for all of it.
        Raises:
            SimulatorError: nothing to charge back, or one is under way already.
        """
        entry = self.entries.find(reference)
        if entry is None:
            raise SimulatorError(f"no transaction {reference!r} in the book of {self.name}")
        amount = entry.posted_minor if amount_minor is None else amount_minor
        if not 0 < amount <= entry.posted_minor:
            raise SimulatorError(f"{entry.key} has {entry.posted_minor} posted, {amount} cannot be charged back")
        if entry.chargeback is not None:
            raise SimulatorError(f"a chargeback of {entry.key} is under way")
        if len(self.open_chargebacks()) >= MAX_CHARGEBACKS:
            raise SimulatorError(f"{MAX_CHARGEBACKS} chargebacks are under way")
        self._stan = self._stan % 999_999 + 1
        entry.chargeback = (de7(now), f"{self._stan:06d}", amount)
        self.entries.note_chargeback(entry)
        self._count("0422")
        return self._chargeback_message(entry)

    def key_change(self, kind: str, now: datetime) -> Message:
        """Start a key exchange: the 0800 with DE 70 = 101 to send. Raises LinkKeyError where there is no such key."""
        offer = self.keys.offer(kind)
        self._stan = self._stan % 999_999 + 1
        message = Message("0800", {7: de7(now), 11: f"{self._stan:06d}", **key_request(kind, offer.block)})
        # One of a kind at a time: the last one counts.
        self._offers = {key: open_ for key, open_ in self._offers.items() if open_.kind != kind}
        self._offers[pairing_key(message)] = offer
        return message

    def refuse(self, message: Message) -> list[Action]:
        """What is said to a message whose MAC is missing or wrong: DE 39 = 63 to a request, nothing to an answer."""
        self._count("mac refused")
        try:
            if is_response(message.mti):
                return []
            return [Send(self._answer(response_mti(message.mti), message, {39: "63"}))]
        except DecodeError:
            return []

    def open_chargebacks(self) -> list[Message]:
        """The 0422 of each chargeback without acknowledgement; the shell repeats them as 0423."""
        return [self._chargeback_message(entry) for entry in self.entries.open_chargebacks()]

    def book(self) -> Iterator[BookLine]:
        """The book, one line a transaction, oldest first."""
        return self.entries.lines()

    def trace_id(self, message: Message) -> str:
        """The trace id that a message carries; "" where none is agreed."""
        return message.elements.get(self._trace_element, "") if self._trace_element else ""

    # Requests for money

    def _authorize(self, message: Message, mti: str) -> dict[int, str]:
        return self._money(message, mti, held=True, sign=1)

    def _pay(self, message: Message, mti: str) -> dict[int, str]:
        if message.elements[3].startswith("20"):
            return self._money(message, mti, held=False, sign=-1)
        return self._money(message, mti, held=False, sign=1)

    def _money(self, message: Message, mti: str, *, held: bool, sign: int, ruled: str = "") -> dict[int, str]:
        """Answer from the book or decide; `ruled` is a DE 39 that a fault has decided already."""
        elements = message.elements
        key = network_key(self.name, mti, elements[7], elements[11])
        entry = self.entries.get(key)
        try:
            amount, currency = int(elements[4]), alpha_currency(elements[49])
        except (ValueError, MoneyError):
            return {39: "13"}
        if entry is not None and entry.standing:
            if (entry.amount_minor, entry.currency) != (amount, currency):
                return {39: "94"}  # the same number for something else
            return _told(entry)  # a repeat
        if self.entries.full:
            return {39: "96"}
        account = self.accounts.find(elements[2])
        reversed_before = entry is not None
        entry = Entry(key, mti, elements[7], elements[11], elements.get(32, ""), elements.get(37, ""))
        entry.trace_id = self.trace_id(message)
        entry.currency, entry.amount_minor, entry.reversed = currency, amount, reversed_before
        entry.response_code = (
            "12" if reversed_before else ruled or self._judge(account, message, amount, currency, sign)
        )
        if entry.response_code == "00":
            entry.account = account
            entry.auth_code = f"{zlib.crc32(key.encode()) % 1_000_000:06d}"
            entry.move(amount if held else 0, 0 if held else sign * amount)
        self.entries.add(entry)
        return _told(entry)

    def _judge(self, account: Account | None, message: Message, amount: int, currency: str, sign: int) -> str:
        """DE 39 of a request that was not seen before; the order is that of `CHECKS`."""
        if account is None:
            return "14"
        if account.response_code:
            return account.response_code
        if 52 in message.elements:
            if self._pin_tries and account.wrong_pins >= self._pin_tries:
                return "75"
            if not self._pin_is_right(account, message):
                account.wrong_pins += 1
                return "55"
            account.wrong_pins = 0
        if account.currency and account.currency != currency:
            return "57"
        if amount == 0:
            return "00" if message.mti.startswith("01") else "13"  # zero authorized: a verification of the account
        if sign > 0 and account.available_minor(currency) < amount:
            return "51"
        return "00"

    def _pin_is_right(self, account: Account, message: Message) -> bool:
        if not self.keys.has_pin or not account.pin:
            return False
        try:
            pin = self.keys.pin(bytes.fromhex(message.elements[52]), pan_of(message))
        except (PinBlockError, ValueError):
            return False
        return hmac.compare_digest(pin, account.pin)

    # Advices

    def _capture(self, message: Message, mti: str) -> dict[int, str]:
        elements = message.elements
        advice_key = network_key(self.name, mti, elements[7], elements[11])
        told = self.entries.advice(advice_key)
        if told is not None:
            return {39: told}
        try:
            amount, currency = int(elements[4]), alpha_currency(elements[49])
            entry = self._original(message)
        except (DecodeError, MoneyError, ValueError):
            return {39: "30"}
        if not entry.standing and not entry.reversed:
            # A capture whose authorization is not in the book (it was lost, or stood in for) is posted all the same:
            # an advice tells what has happened.
            entry.currency, entry.amount_minor, entry.response_code = currency, amount, "00"
            entry.trace_id = self.trace_id(message)
        if entry.reversed or entry.response_code != "00" or entry.currency != currency:
            response_code = "12"
        else:
            final = not elements.get(60, "F").startswith("P")
            entry.move(0 if final else max(0, entry.held_minor - amount), entry.posted_minor + amount)
            response_code = "00"
        self.entries.add(entry)
        self.entries.note_advice(entry, advice_key, response_code)
        return {39: response_code}

    def _reverse(self, message: Message, mti: str) -> dict[int, str]:
        """Undo a request, whatever became of it; one that has not come yet will be declined. Twice is once."""
        try:
            entry = self._original(message)
        except DecodeError:
            return {39: "30"}
        if not entry.reversed:
            entry.reversed = True
            # What was captured of a hold stays: only the rest of it is given back.
            entry.move(0, entry.posted_minor if entry.mti == "0100" else 0)
            self.entries.add(entry)
        return {39: "00"}

    def _original(self, message: Message) -> Entry:
        """The entry that DE 90 names, or a new one that is not in the book yet."""
        original = parse_original_data(message.elements[90])
        mti = canonical_mti(original.mti)
        key = network_key(self.name, mti, original.transmitted, original.stan)
        found = self.entries.get(key)
        return found or Entry(key, mti, original.transmitted, original.stan, original.acquirer_id)

    # Everything else

    def _manage(self, message: Message, mti: str) -> dict[int, str]:
        if message.elements[70] != KEY_CHANGE:
            return {39: "00"}
        try:
            return {39: "00", BLOCK: self.keys.accept(*offered_key(message.elements))}
        except DecodeError:
            return {39: "30"}
        except LinkKeyError:
            return {39: "63"}

    def _other(self, message: Message) -> list[Action]:
        """Answers to chargebacks, and messages that this issuer does not know."""
        self._count(message.mti)
        elements = message.elements
        if message.mti == "0432":
            entry = self.entries.awaiting_acknowledgement(elements.get(7, ""), elements.get(11, ""))
            if entry is not None and elements.get(39) not in ("91", "96"):
                self._acknowledged(entry, elements.get(39, ""))
            return []
        try:
            if is_response(message.mti):
                self._key_answered(message)
                return []
            return [Send(self._answer(response_mti(message.mti), message, {39: "12"}))]
        except DecodeError:
            return []

    def _key_answered(self, message: Message) -> None:
        offer = self._offers.pop(pairing_key(message), None)
        if offer is not None:
            code = message.elements.get(39, "")
            settled = self.keys.settle(offer, code, message.elements.get(BLOCK, "").strip())
            self.key_changes.append((offer.kind, code if settled or code != "00" else "wrong check value"))

    def _acknowledged(self, entry: Entry, response_code: str) -> None:
        assert entry.chargeback is not None
        amount = entry.chargeback[2]
        entry.chargeback = None
        if response_code == "00":
            entry.move(entry.held_minor, entry.posted_minor - amount)
        else:
            self._count("chargeback refused")
        self.entries.note_chargeback(entry)

    def _chargeback_message(self, entry: Entry) -> Message:
        assert entry.chargeback is not None
        moment, stan, amount = entry.chargeback
        elements = {
            3: "000000",
            4: f"{amount:012d}",
            7: moment,
            11: stan,
            49: numeric_currency(entry.currency),
            90: original_data(entry.mti, entry.stan, entry.de7, entry.acquirer_id),
        }
        if entry.acquirer_id:
            elements[32] = entry.acquirer_id
        if entry.rrn:
            elements[37] = entry.rrn
        if self._trace_element and entry.trace_id:
            elements[self._trace_element] = entry.trace_id
        return Message("0422", elements)

    def _faulty(
        self,
        fault: Fault,
        message: Message,
        mti: str,
        answer_mti: str,
        handler: Callable[[Message, str], dict[int, str]],
    ) -> list[Action]:
        self.last_fault = fault
        self._count(f"fault {fault.kind}")
        if fault.kind == "decline" and mti in ("0100", "0200"):
            told = self._money(message, mti, held=True, sign=1, ruled=fault.response_code)
        elif fault.booked and fault.kind != "decline":
            told = handler(message, mti)
        else:
            told = {39: fault.response_code}
        answer = Send(self._answer(answer_mti, message, told), fault.delay_s)
        match fault.kind:
            case "silence":
                return []
            case "disconnect-before":
                return [Disconnect()]
            case "disconnect-after":
                return [answer, Disconnect()]
            case "duplicate":
                return [answer, answer]
            case "wrong-mac" | "missing-mac":
                return [msgspec.structs.replace(answer, spoiled=fault.kind)]
            case _:
                return [answer]

    def _answer(self, mti: str, request: Message, told: dict[int, str]) -> Message:
        given = request.elements
        elements = {number: given[number] for number in ECHOED if number in given}
        elements.update(told)
        return Message(mti, elements)

    def _count(self, name: str) -> None:
        self.stats[name] = self.stats.get(name, 0) + 1


def _told(entry: Entry) -> dict[int, str]:
    """What the acquirer is told about an entry; the same for each repeat."""
    if entry.auth_code:
        return {38: entry.auth_code, 39: entry.response_code}
    return {39: entry.response_code}
