"""A simulated acquirer, pure: payments in, messages to the switch out, answers in, and a book of what is known.

Called by the shell in `simulators.acquirer.client`, the load generator and simulations of the switch. Behaves as real
acquirers do: what is not answered is repeated, then reversed until the reversal is acknowledged, so that every line of
its book comes to an end. Time is an argument.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from hsm.algorithms.mac import AES_CMAC
from messages.codec import Codec
from messages.dialect import load_dialect
from messages.errors import DecodeError, MessagesError
from messages.exchange import acquirer_key, de7, original_data, pairing_key, parse_original_data, transmission_time
from messages.key_change import BLOCK, KEY_CHANGE, key_request, offered_key
from messages.message import Message
from messages.money import numeric_currency
from messages.mti import canonical_mti, is_response, repeat_mti, response_mti
from messages.trace import trace_id
from simulators.acquirer.book import Event, Request, answered
from simulators.book import BookLine
from simulators.errors import LinkKeyError, MacError, SimulatorError
from simulators.link_keys import LinkKeys, Offer, Terminal
from simulators.sealing import Sealing

MAX_REQUESTS = 1_000_000
ECHOED = (3, 4, 7, 11, 32, 37, 41, 42, 49, 63, 70)  # in answers to what the switch starts
KEPT = (2, 3, 4, 14, 18, 22, 32, 41, 42, 43, 49)  # in captures and reversals, from the original


class Card(msgspec.Struct, frozen=True):
    """A card at the terminal: `pan` 12–19 digits or a surrogate, `expiry` YYMM, `pin` 4–12 digits or ""."""

    pan: str
    expiry: str = "3012"
    pin: str = ""

    def __repr__(self) -> str:
        return "Card(…)"


class AcquirerProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Who the acquirer is.

    Args:
        link: the link's name as the switch configures it; books carry it.
        acquirer_id: DE 32, up to 11 digits. terminal: DE 41. merchant: DE 42. mcc: DE 18.
        place: DE 43 without country; country: ISO 3166 alpha-2, its last two characters.
        trace_element: the element that carries the trace id; 0 for none.
        repeats: how often an unanswered request is repeated before it is reversed.
        first_stan: where DE 11 starts.
        pin_format: ISO 9564 format of its PIN blocks. ksn_element: where the KSN goes, with DUKPT.
        mac_algorithm: of its MAC key, one of `hsm.algorithms.mac.ALGORITHMS`.
        mac_management: whether network management carries a MAC, too.
    """

    link: str
    dialect: str = "iso87-ascii"
    acquirer_id: str = "10001"
    terminal: str = "TERM0001"
    merchant: str = "DEMOSHOP"
    mcc: str = "5411"
    place: str = "Demo Shop, Main Street 1"
    country: str = "DE"
    trace_element: int = 0
    repeats: int = 1
    first_stan: int = 1
    pin_format: int = 0
    ksn_element: int = 0
    mac_algorithm: str = AES_CMAC
    mac_management: bool = False


class Received(msgspec.Struct, frozen=True):
    """What a message from the switch brought: answers to send back, requests that have come to an end."""

    answers: tuple[Message, ...] = ()
    settled: tuple[Request, ...] = ()


class Acquirer:
    """One acquirer on one link.

    Args:
        profile: who it is.
        pin_key: its zone PIN key, TDES (AES for format 4); with `ksn` the base derivation key of its terminals; b""
            where it sends no PINs.
        mac_key: its zone authentication key; b"" where the link has no MAC.
        zmk: the zone master key that keys are exchanged under; b"" where none are.
        ksn: key serial number that its terminal starts with, 10 bytes (TDES) or 12 (AES); b"" without DUKPT.
        random_bytes: for PIN blocks and keys; a seeded one where a run must be repeatable.
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
        self.codec = Codec(load_dialect(profile.dialect))
        self.requests: dict[str, Request] = {}
        self.key_changes: list[tuple[str, str]] = []  # kind and DE 39 of each exchange that this side has started
        self._sealing = Sealing(self.codec, self.keys, management=profile.mac_management)
        self._offers: dict[tuple[str, ...], Offer] = {}
        self._stan = (profile.first_stan - 1) % 999_999
        self._waiting: dict[tuple[str, ...], Request] = {}
        self._by_number: dict[tuple[str, str, str], Request] = {}
        self._chargebacks: dict[tuple[str, str], str] = {}

    # What a terminal asks for

    def authorization(self, card: Card, amount_minor: int, currency: str, now: datetime, **fields: str) -> Request:
        """A hold, 0100. `fields`: terminal, merchant, mcc, country, trace_id to replace the profile's."""
        return self._payment("0100", "authorization", "000000", card, amount_minor, currency, now, None, fields)

    def purchase(self, card: Card, amount_minor: int, currency: str, now: datetime, **fields: str) -> Request:
        """A purchase, 0200."""
        return self._payment("0200", "purchase", "000000", card, amount_minor, currency, now, None, fields)

    def refund(
        self, card: Card, amount_minor: int, now: datetime, original: Request | None, currency: str = "", **fields: str
    ) -> Request:
        """A refund, 0200 with processing code 20; `currency` where there is no original."""
        code = original.currency if original else currency
        return self._payment("0200", "refund", "200000", card, amount_minor, code, now, original, fields)

    def capture(self, original: Request, amount_minor: int, now: datetime, *, final: bool = True) -> Request:
        """The capture of a hold, 0220: `final` releases what is left of it."""
        elements = self._about(original, now)
        elements[4] = f"{amount_minor:012d}"
        elements[60] = "F" if final else "P"
        original.open_changes += 1
        return self._register(Message("0220", elements), "capture", original, now)

    def reversal(self, original: Request, now: datetime, *, advice: bool = False) -> Request:
        """Take back a request in full: 0400, or 0420 where nobody waits for the answer."""
        original.open_changes += 1
        return self._register(
            Message("0420" if advice else "0400", self._about(original, now)), "reversal", original, now
        )

    def sign_on(self, now: datetime) -> Message:
        """0800 with DE 70 = 001."""
        return self._management("001", now)

    def sign_off(self, now: datetime) -> Message:
        return self._management("002", now)

    def echo(self, now: datetime) -> Message:
        return self._management("301", now)

    def key_change(self, kind: str, now: datetime) -> Message:
        """0800 with DE 70 = 101 and a new key; it is in force once `receive` has seen that the switch has it.

        Raises:
            LinkKeyError: there is no such key, or no zone master key.
        """
        offer = self.keys.offer(kind)
        numbers = self._numbers(now)
        message = Message("0800", {7: numbers[7], 11: numbers[11], **key_request(kind, offer.block)})
        self._offers[pairing_key(message)] = offer
        return message

    def adopt(self, message: Message, kind: str, now: datetime) -> Request:
        """Take over a request that somebody else has built and sent (the load generator)."""
        return self._register(message, kind, None, now)

    # What happens then

    def receive(self, message: Message, now: datetime) -> Received:
        """Take a message from the switch: an answer, a chargeback or a network message."""
        try:
            if not is_response(message.mti):
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
        return Received(settled=answered(request, message))

    def overdue(self, request: Request, now: datetime) -> Message:
        """What to send when `request` was not answered in time: its repeat, or its reversal, or that one's repeat."""
        if request.reversal is not None:
            return self.overdue(request.reversal, now)
        ends = request.kind in ("capture", "reversal")  # advices are repeated until somebody answers
        if ends or request.repeats < self.profile.repeats:
            request.repeats += 1
            return Message(repeat_mti(request.message.mti), request.message.elements)
        request.move(Event.GIVEN_UP)
        request.reversal = self.reversal(request, now, advice=True)
        return request.reversal.message

    def book(self) -> Iterator[BookLine]:
        """One line for each authorization, purchase and refund, oldest first."""
        for request in list(self.requests.values()):
            if request.kind not in ("capture", "reversal"):
                yield BookLine(
                    link=self.profile.link,
                    key=request.key,
                    currency=request.currency,
                    held_minor=request.held_minor,
                    posted_minor=request.posted_minor,
                    settled=request.settled,
                )

    # Bytes

    def encode(self, message: Message) -> bytes:
        """A message as bytes, with a MAC where the link has one."""
        return self._sealing.encode(message)

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

    def _payment(
        self,
        mti: str,
        kind: str,
        processing_code: str,
        card: Card,
        amount_minor: int,
        currency: str,
        now: datetime,
        original: Request | None,
        fields: dict[str, str],
    ) -> Request:
        profile = self.profile
        country = fields.get("country", profile.country)
        elements = {
            2: card.pan,
            3: processing_code,
            4: f"{amount_minor:012d}",
            **self._numbers(now),
            14: card.expiry,
            18: fields.get("mcc", profile.mcc),
            22: "051" if card.pin else "012",
            32: profile.acquirer_id,
            41: fields.get("terminal", profile.terminal).ljust(8),
            42: fields.get("merchant", profile.merchant).ljust(15),
            43: profile.place[:38].ljust(38) + country,
            49: numeric_currency(currency),
        }
        if card.pin:
            block, ksn = self.keys.pin_block(card.pin, card.pan)
            elements[52] = block.hex().upper()
            if ksn:
                elements[profile.ksn_element] = ksn.hex().upper()
        if original is not None:
            elements[90] = self._original_data(original)
        if "trace_id" in fields and profile.trace_element:
            elements[profile.trace_element] = fields["trace_id"]
        return self._register(Message(mti, elements), kind, original, now)

    def _about(self, original: Request, now: datetime) -> dict[int, str]:
        """The elements of a message about an earlier one: the card, the amount and the place are the original's."""
        given = original.message.elements
        elements: dict[int, str] = {
            number: given[number] for number in (2, 3, 4, 14, 18, 22, 32, 41, 42, 43, 49) if number in given
        }
        elements.update(self._numbers(now))
        elements[37] = given[37]
        elements[90] = self._original_data(original)
        return elements

    def _numbers(self, now: datetime) -> dict[int, str]:
        """DE 7, 11, 12, 13 and 37; the terminal's local time is taken to be UTC."""
        self._stan = self._stan % 999_999 + 1
        stan = f"{self._stan:06d}"
        moment = de7(now)
        return {7: moment, 11: stan, 12: moment[4:], 13: moment[:4], 37: f"{now:%y%j%H}"[1:] + stan}

    def _original_data(self, original: Request) -> str:
        given = original.message.elements
        return original_data(original.message.mti, given[11], given[7], given.get(32, ""))

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

    def _management(self, code: str, now: datetime) -> Message:
        numbers = self._numbers(now)
        return Message("0800", {7: numbers[7], 11: numbers[11], 32: self.profile.acquirer_id, 70: code})

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


class _Digest:
    """Bits for the trace id of a payment: the same in every run, and no card data in them."""

    def __init__(self, key: str) -> None:
        self._text = key.encode()

    def __call__(self, bits: int) -> int:
        self._text = hashlib.blake2b(self._text, digest_size=bits // 8).digest()
        return int.from_bytes(self._text)
