"""A simulated acquirer, pure: payments in, messages to the switch out, answers in, and a book of what is known.

Called by the shell in `simulators.acquirer.client`, the load generator and simulations of the switch. Behaves as real
acquirers do: an unanswered request is repeated, then reversed until the reversal is acknowledged, so that every line of
its book gets a final state. Time is an argument.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from messages.canonical import canonical_codec
from messages.card import pan_of
from messages.dialect import load_dialect
from messages.errors import DecodeError, MessagesError
from messages.exchange import acquirer_key, pairing_key, parse_original_data, transmission_time
from messages.key_change import BLOCK, KEY_CHANGE, key_request, offered_key
from messages.message import Message
from messages.money import numeric_currency
from messages.mti import canonical_mti, is_response, repeat_mti, response_mti
from messages.trace import trace_id
from messages.translation import ECHOED as CARRIED
from simulators.acquirer import till
from simulators.acquirer.book import KINDS, Event, Request, abandon, answered
from simulators.acquirer.profile import AcquirerProfile, Card
from simulators.acquirer.till import Till
from simulators.acquirer.totals import DayTotals
from simulators.book import BookLine
from simulators.errors import LinkKeyError, MacError, SimulatorError
from simulators.link_keys import LinkKeys, Offer, Terminal
from simulators.sealing import Sealing

MAX_REQUESTS = 1_000_000
MAX_LOOKED_AT = 1_000  # requests, for another card
ECHOED = (3, 4, 7, 11, 32, 37, 41, 42, 49, 63, 70, *CARRIED)  # in answers to what the switch starts
SIGN_ON, SIGN_OFF, CUT_OVER, ECHO = "001", "002", "201", "301"


class Received(msgspec.Struct, frozen=True):
    """The result of a message from the switch: answers to send back, requests that have their final state."""

    answers: tuple[Message, ...] = ()
    settled: tuple[Request, ...] = ()


class Acquirer:
    """One acquirer on one link.

    Args:
        profile: its identity.
        pin_key: its zone PIN key, TDES (AES for format 4); with `ksn` the base derivation key of its terminals; b""
            where it sends no PINs.
        mac_key: its zone authentication key; b"" where the link has no MAC.
        zmk: the zone master key that keys are exchanged under; b"" where none are.
        ksn: key serial number that its terminal starts with, 10 bytes (TDES) or 12 (AES); b"" without DUKPT.
        random_bytes: for PIN blocks and keys; a seeded one where a run must be repeatable.
        clock: the time of day, aware UTC; asked where a dialect's dates have a year.
    """

    def __init__(
        self,
        profile: AcquirerProfile,
        *,
        pin_key: bytes = b"",
        mac_key: bytes = b"",
        zmk: bytes = b"",
        ksn: bytes = b"",
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.profile = profile
        self.keys = LinkKeys(
            b"" if ksn else pin_key,
            mac_key,
            pin_format=profile.pin_format,
            mac_algorithm=profile.mac_algorithm,
            zmk=zmk,
            terminal=Terminal(pin_key, ksn) if ksn else None,
            random_bytes=random_bytes,
        )
        self.codec = canonical_codec(load_dialect(profile.dialect), clock)
        self.requests: dict[str, Request] = {}
        self.totals = DayTotals()
        self.key_changes: list[tuple[str, str]] = []  # kind and DE 39 of each exchange that this side has started
        self.received = 0  # chargebacks, network messages and others that the switch has started
        self._till = Till(profile, self.keys)
        self._sealing = Sealing(self.codec, self.keys, management=profile.mac_management)
        self._offers: dict[tuple[str, ...], Offer] = {}
        self._waiting: dict[tuple[str, ...], Request] = {}
        self._by_number: dict[tuple[str, str, str], Request] = {}
        self._chargebacks: dict[tuple[str, str], str] = {}

    # Requests of a terminal. `fields`: terminal, merchant, mcc, country, trace_id to replace the profile's.

    def authorization(self, card: Card, amount_minor: int, currency: str, now: datetime, **fields: str) -> Request:
        """A hold, 0100."""
        elements = self._till.payment(till.PURCHASE, card, amount_minor, currency, now, fields)
        return self._register(Message("0100", elements), "authorization", None, now)

    def verification(self, card: Card, currency: str, now: datetime, **fields: str) -> Request:
        """Whether the account is good: 0100 of zero."""
        elements = self._till.payment(till.PURCHASE, card, 0, currency, now, fields)
        return self._register(Message("0100", elements), "verification", None, now)

    def increment(self, original: Request, card: Card, amount_minor: int, now: datetime, **fields: str) -> Request:
        """More of a hold: 0100 with DE 90; `amount_minor` is what is added."""
        place = _place_of(original) | fields
        elements = self._till.payment(
            till.PURCHASE, card, amount_minor, original.currency, now, place, original.message
        )
        return self._change(Message("0100", elements), "increment", original, now)

    def inquiry(self, card: Card, currency: str, now: datetime, **fields: str) -> Request:
        """The balance of the account: 0100 with processing code 31; the answer has it in DE 54."""
        elements = self._till.payment(till.INQUIRY, card, 0, currency, now, fields)
        return self._register(Message("0100", elements), "inquiry", None, now)

    def purchase(
        self, card: Card, amount_minor: int, currency: str, now: datetime, *, cashback_minor: int = 0, **fields: str
    ) -> Request:
        """A purchase, 0200; `cashback_minor` of the amount is given out in cash."""
        code = till.CASH_BACK if cashback_minor else till.PURCHASE
        elements = self._till.payment(code, card, amount_minor, currency, now, fields)
        if cashback_minor:
            elements[54] = till.cash(currency, cashback_minor)
        return self._register(Message("0200", elements), "purchase", None, now)

    def refund(
        self, card: Card, amount_minor: int, now: datetime, original: Request | None, currency: str = "", **fields: str
    ) -> Request:
        """A refund, 0200 with processing code 20; `currency` where there is no original."""
        code = original.currency if original else currency
        of = original.message if original else None
        elements = self._till.payment(till.REFUND, card, amount_minor, code, now, fields, of)
        return self._register(Message("0200", elements), "refund", original, now)

    def capture(self, original: Request, amount_minor: int, now: datetime, *, final: bool = True) -> Request:
        """The capture of a hold, 0220: `final` releases what is left of it."""
        elements = self._till.about(original.message, now)
        elements[4] = f"{amount_minor:012d}"
        elements[60] = "F" if final else "P"
        if self.codec.dialect.version != "1987":  # which has no DE 24
            elements[1024] = "201" if amount_minor == original.held_minor else "202"
        return self._change(Message("0220", elements), "capture", original, now)

    def reversal(self, original: Request, now: datetime, *, advice: bool = False) -> Request:
        """Take back a request in full: 0400, or 0420 where nobody waits for the answer."""
        message = Message("0420" if advice else "0400", self._till.about(original.message, now))
        return self._change(message, "reversal", original, now)

    def reduction(self, original: Request, left_minor: int, now: datetime, *, advice: bool = False) -> Request:
        """Take back a part of a hold: 0400 or 0420; DE 4 is the original's amount, DE 95 what is left, > 0.

        Where the hold has grown above the original's amount, DE 4 is what is held now.
        """
        elements = self._till.about(original.message, now)
        if max(original.held_minor, left_minor) > original.amount_minor:
            elements[4] = f"{max(original.held_minor, left_minor):012d}"
        elements[95] = till.replacement(left_minor)
        return self._change(Message("0420" if advice else "0400", elements), "reduction", original, now)

    def advice(
        self, card: Card, amount_minor: int, currency: str, now: datetime, *, hold: bool = False, **fields: str
    ) -> Request:
        """A payment that the terminal has approved by itself: 0220, or 0120 for a `hold`."""
        elements = self._till.payment(till.PURCHASE, card, amount_minor, currency, now, fields)
        elements[39] = "00"
        kind = "authorization advice" if hold else "purchase advice"
        return self._register(Message("0120" if hold else "0220", elements), kind, None, now)

    def reconciliation(self, currency: str, now: datetime, *, day: str = "", advice: bool = False) -> Request:
        """The totals of a business day (MMDD; the present one without): 0500 or 0520. The answer has DE 66."""
        sums = self.totals.of(day or self.totals.day, currency)
        elements = self._till.numbers(now)
        elements[15] = day or self.totals.day or elements[13]
        elements[32] = self.profile.acquirer_id
        elements[49] = numeric_currency(currency)
        elements.update(sums.elements())
        return self._register(Message("0520" if advice else "0500", elements), "reconciliation", None, now)

    def administrative(self, text: str, now: datetime, *, advice: bool = False) -> Request:
        """A text: 0600 or 0620, DE 48."""
        numbers = self._till.numbers(now)
        elements = {7: numbers[7], 11: numbers[11], 32: self.profile.acquirer_id, 48: text}
        return self._register(Message("0620" if advice else "0600", elements), "administrative", None, now)

    def cut_over(self, day: str, now: datetime) -> Request:
        """A business day (MMDD) begins: 0800 with DE 70 = 201; later requests count in it."""
        self.totals.cut_over(day)
        elements = {**self._till.management(CUT_OVER, now), 15: day}
        return self._register(Message("0800", elements), "cut-over", None, now)

    def sign_on(self, now: datetime) -> Message:
        """0800 with DE 70 = 001."""
        return Message("0800", self._till.management(SIGN_ON, now))

    def sign_off(self, now: datetime) -> Message:
        return Message("0800", self._till.management(SIGN_OFF, now))

    def echo(self, now: datetime) -> Message:
        return Message("0800", self._till.management(ECHO, now))

    def key_change(self, kind: str, now: datetime) -> Message:
        """0800 with DE 70 = 101 and a new key; it is in force once `receive` has seen that the switch has it.

        Raises:
            LinkKeyError: there is no such key, or no zone master key.
        """
        offer = self.keys.offer(kind)
        numbers = self._till.numbers(now)
        message = Message("0800", {7: numbers[7], 11: numbers[11], **key_request(kind, offer.block)})
        self._offers[pairing_key(message)] = offer
        return message

    def adopt(self, message: Message, kind: str, now: datetime, original: Request | None = None) -> Request:
        """Take over a request that somebody else has built (the load generator, a file); `kind` one of `KINDS`."""
        if original is not None and "changes" in KINDS[kind]:
            return self._change(message, kind, original, now)
        return self._register(message, kind, original, now)

    def contradicting(self, kind: str, message: Message, now: datetime) -> Message | None:
        """A copy of a message that changes an earlier one, with a number of its own, that contradicts it; nobody waits
        for its answer, and a right switch books nothing.

        Args:
            kind: `wrong-card`, `wrong-currency` or `wrong-amount`.

        Returns:
            None where the message changes no earlier one (a refund has a line of its own), or no other card is known.
        """
        elements = dict(message.elements)
        if 90 not in elements or (elements.get(3) == till.REFUND and message.mti[1] == "2"):
            return None
        if kind == "wrong-card":
            recent = itertools.islice(reversed(self.requests.values()), MAX_LOOKED_AT)
            mine = pan_of(message)
            other = next((pan for request in recent if (pan := pan_of(request.message)) not in ("", mine)), "")
            if not mine or not other:
                return None
            elements = {number: value for number, value in elements.items() if number not in till.OF_A_CARD} | {
                2: other
            }
        elif kind == "wrong-currency":
            elements[49] = numeric_currency("USD" if elements.get(49) != numeric_currency("USD") else "EUR")
        else:
            elements[4] = till.TOO_MUCH
        return Message(canonical_mti(message.mti), elements | self._till.numbers(now))

    def numbers(self, now: datetime) -> dict[int, str]:
        """DE 7, 11, 12, 13 and 37 of the next message."""
        return self._till.numbers(now)

    # The next message

    def receive(self, message: Message, now: datetime) -> Received:
        """Take a message from the switch: an answer, a chargeback or a network message."""
        try:
            if not is_response(message.mti):
                self.received += 1
                return Received(answers=(self._asked(message),))
            key = pairing_key(message)
        except DecodeError:
            return Received()
        request = self._waiting.get(key)
        if key in self._offers:
            elements = message.elements
            offer, code = self._offers.pop(key), elements.get(39, "")
            settled = self.keys.settle(offer, code, elements.get(BLOCK, "").strip())
            self.key_changes.append((offer.kind, code if settled or code != "00" else "wrong check value"))
        if request is None:
            return Received()  # a network message's answer, or a second answer
        ended = answered(request, message)
        self.totals.count(ended)
        return Received(settled=ended)

    def overdue(self, request: Request, now: datetime) -> Message | None:
        """The message after `request` was not answered in time: its repeat, or its reversal, or a repeat of that.

        None: nothing more, it has been given up.
        """
        if request.reversal is not None:
            return self.overdue(request.reversal, now)
        if request.is_("advice") or request.repeats < self.profile.repeats:
            request.repeats += 1
            return Message(repeat_mti(request.message.mti), request.message.elements)
        if request.is_("free"):
            abandon(request)
            return None
        return self.give_up(request, now).message

    def give_up(self, request: Request, now: datetime) -> Request:
        """Take back a request whose answer is no longer waited for, or came too late; returns its reversal."""
        request.move(Event.GIVEN_UP)
        request.reversal = self.reversal(request, now, advice=True)
        return request.reversal

    def book(self) -> Iterator[BookLine]:
        """One line for each authorization, verification, purchase, refund and advice of one, oldest first."""
        for request in list(self.requests.values()):
            if request.is_("line"):
                yield BookLine(
                    link=self.profile.link,
                    key=request.key,
                    currency=request.currency,
                    held_minor=request.held_minor,
                    posted_minor=request.posted_minor,
                    settled=request.settled,
                )

    # Bytes

    def encode(self, message: Message, *, spoiled: str = "") -> bytes:
        """A message as bytes, with a MAC where the link has one; `spoiled`: `wrong-mac` or `missing-mac`."""
        return self._sealing.encode(message, spoiled=spoiled)

    def decode(self, data: bytes) -> Message:
        """Bytes as a message.

        Raises:
            DecodeError: no message.
            MacError: the link has a MAC key and the MAC is wrong, or missing where there must be one.
        """
        message = self.codec.decode(data)
        if problem := self._sealing.problem(message, data):
            raise MacError(f"{self.profile.link}: {message.mti} {problem}")
        return message

    # Inside

    def _change(self, message: Message, kind: str, original: Request, now: datetime) -> Request:
        """A request that its original waits for."""
        request = self._register(message, kind, original, now)
        original.open_changes += 1
        if kind == "reversal" and original.kind == "increment" and original.original is not None:
            original.original.open_changes += 1  # the hold shrinks again
        return request

    def _register(self, message: Message, kind: str, original: Request | None, now: datetime) -> Request:
        if len(self.requests) >= MAX_REQUESTS:
            raise SimulatorError(f"the book of {self.profile.link} is full")
        elements = message.elements
        key = acquirer_key(
            self.profile.link,
            message.mti,
            transmission_time(elements[7], now),
            elements[11],
            elements.get(32, ""),
            elements.get(41, "").rstrip(),
        )
        if self.profile.trace_element:
            elements.setdefault(self.profile.trace_element, trace_id(_Digest(key)))
        request = Request(key, kind, message, original)
        self.requests[key] = request
        self._waiting[pairing_key(message)] = request
        self._by_number[(canonical_mti(message.mti), elements[7], elements[11])] = request
        return request

    def _asked(self, message: Message) -> Message:
        """Answer what the switch starts: chargebacks (0422) and network messages."""
        elements = message.elements
        answer: dict[int, str] = {number: elements[number] for number in ECHOED if number in elements}
        if elements.get(70) == KEY_CHANGE:
            answer.update(self._key_changed(elements))
        else:
            answer[39] = self._charged_back(message) if canonical_mti(message.mti) == "0422" else "00"
        return Message(response_mti(message.mti), answer)

    def _key_changed(self, elements: dict[int, str]) -> dict[int, str]:
        """Take the key that the switch sends."""
        try:
            return {39: "00", BLOCK: self.keys.accept(*offered_key(elements))}
        except DecodeError:
            return {39: "30"}
        except LinkKeyError:
            return {39: "63"}

    def _charged_back(self, message: Message) -> str:
        elements = message.elements
        number = (elements.get(7, ""), elements.get(11, ""))
        if number in self._chargebacks:
            return self._chargebacks[number]
        code = "00"
        try:
            data = parse_original_data(elements.get(90, ""))
            amount = int(elements[4])
        except (MessagesError, KeyError, ValueError):
            code = "30"
        else:
            request = self._by_number.get((canonical_mti(data.mti), data.transmitted, data.stan))
            if request is None:
                code = "25"
            else:
                request.posted_minor -= amount
        self._chargebacks[number] = code
        return code


def _place_of(original: Request) -> dict[str, str]:
    """The place of the original: an increment comes from the same till."""
    given = original.message.elements
    return {
        "terminal": given[41].rstrip(),
        "merchant": given[42].rstrip(),
        "mcc": given[18],
        "country": given[43][-2:],
    }


class _Digest:
    """Bits for the trace id of a payment: the same in every run, and no card data in them."""

    def __init__(self, key: str) -> None:
        self._text = key.encode()

    def __call__(self, bits: int) -> int:
        self._text = hashlib.blake2b(self._text, digest_size=bits // 8).digest()
        return int.from_bytes(self._text)
