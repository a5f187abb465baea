"""A party's own requests: chargebacks, entries of the negative list, totals, cut-over, sign-off, new keys.

The core asks for messages, the shell sends each until its answer has come in here, at most so often. Chargebacks live
in the book and outlast the process; everything else is kept here.

Source: ISO 8583:1987 0422, 0302 (DE 91, 101), 0520, 0800 (DE 70: 001, 002, 201, 301).
"""

from __future__ import annotations

from datetime import datetime

from messages.errors import DecodeError
from messages.exchange import de7, original_data, pairing_key
from messages.key_change import BLOCK, key_request
from messages.message import Message
from messages.money import numeric_currency
from simulators.errors import SimulatorError
from simulators.issuer.book import Entry, IssuerBook
from simulators.issuer.totals import Sums
from simulators.link_keys import LinkKeys, Offer

MAX_OPEN = 1_000  # waiting for an answer, chargebacks and others each
MAX_ANSWERS = 10_000  # remembered; the oldest go first
NEGATIVE_LIST = "NEGATIVE"
# Actions on an entry of the negative list: name → DE 91.
FILE_ACTIONS = {"add": "1", "delete": "3", "inquire": "5"}
# Network management that an issuer may start: name → DE 70.
MANAGEMENT = {"sign-on": "001", "sign-off": "002", "cut-over": "201", "echo": "301"}
TRY_AGAIN = frozenset({"91", "96"})


class Starter:
    """One party's own requests on its link.

    Args:
        name: its link's name. book: where its chargebacks are.
        keys: of its link; offered keys come into force here.
        trace_element: as in the scenario.
    """

    def __init__(self, name: str, book: IssuerBook, keys: LinkKeys, trace_element: int) -> None:
        self.answers: dict[tuple[str, str], str] = {}
        self.key_changes: list[tuple[str, str]] = []
        self._name = name
        self._book = book
        self._keys = keys
        self._trace_element = trace_element
        self._stan = 0
        self._open: dict[tuple[str, ...], Message] = {}
        self._offers: dict[tuple[str, ...], Offer] = {}

    def chargeback(self, reference: str, now: datetime, amount_minor: int | None) -> Message:
        """See `simulators.issuer.core.Issuer.chargeback`."""
        entry = self._book.find(reference)
        if entry is None:
            raise SimulatorError(f"no transaction {reference!r} in the book of {self._name}")
        amount = entry.posted_minor if amount_minor is None else amount_minor
        if not 0 < amount <= entry.posted_minor:
            raise SimulatorError(f"{entry.key} has {entry.posted_minor} posted, {amount} cannot be charged back")
        if entry.chargeback is not None:
            raise SimulatorError(f"a chargeback of {entry.key} is under way")
        if len(self._book.open_chargebacks()) >= MAX_OPEN:
            raise SimulatorError(f"{MAX_OPEN} chargebacks are under way")
        entry.chargeback = (de7(now), self._next_stan(), amount)
        self._book.note_chargeback(entry)
        return self._chargeback_message(entry)

    def list_card(self, pan: str, action: str, now: datetime) -> Message:
        """0302: an entry of the negative list; `action` one of `FILE_ACTIONS`. Raises SimulatorError."""
        if action not in FILE_ACTIONS:
            raise SimulatorError(f"the actions of the negative list are {', '.join(FILE_ACTIONS)}")
        elements = {2: pan, 91: FILE_ACTIONS[action], 101: NEGATIVE_LIST}
        return self._start("0302", elements, now)

    def manage(self, what: str, now: datetime, day: str = "") -> Message:
        """0800: `what` one of `MANAGEMENT`; `day` MMDD: the day that a cut-over opens. Raises SimulatorError."""
        if what not in MANAGEMENT:
            raise SimulatorError(f"network management knows {', '.join(MANAGEMENT)}")
        if day and (len(day) != 4 or not (day.isascii() and day.isdigit())):
            raise SimulatorError("a business day is MMDD")
        return self._start("0800", {**({15: day} if day else {}), 70: MANAGEMENT[what]}, now)

    def reconcile(self, day: str, currency: str, sums: Sums, now: datetime) -> Message:
        """0520: the totals of a business day (MMDD) in one currency. Raises SimulatorError, MoneyError."""
        if len(day) != 4 or not (day.isascii() and day.isdigit()):
            raise SimulatorError("a business day is MMDD")
        return self._start("0520", {15: day, 49: numeric_currency(currency), **sums.elements()}, now)

    def key_change(self, kind: str, now: datetime) -> Message:
        """See `simulators.issuer.core.Issuer.key_change`."""
        offer = self._keys.offer(kind)
        message = Message("0800", {7: de7(now), 11: self._next_stan(), **key_request(kind, offer.block)})
        # One of a kind at a time: the last one counts.
        self._offers = {key: open_ for key, open_ in self._offers.items() if open_.kind != kind}
        self._offers[pairing_key(message)] = offer
        return message

    def open_messages(self) -> list[Message]:
        """Requests that wait for their answer, chargebacks first; the shell sends each, and repeats of it."""
        return [*self.open_chargebacks(), *self._open.values()]

    def open_chargebacks(self) -> list[Message]:
        return [self._chargeback_message(entry) for entry in self._book.open_chargebacks()]

    def give_up(self, message: Message) -> None:
        """Nobody answers: it is forgotten. Chargebacks never are."""
        self._open.pop(pairing_key(message), None)

    def answered(self, message: Message) -> str:
        """Take an answer; returns the name of what was noticed, "" for nothing."""
        elements = message.elements
        number, code = (elements.get(7, ""), elements.get(11, "")), elements.get(39, "")
        if message.mti == "0432":
            return self._charged_back(number, code)
        try:
            key = pairing_key(message)
        except DecodeError:
            return ""
        offer = self._offers.pop(key, None)
        if offer is not None:
            settled = self._keys.settle(offer, code, elements.get(BLOCK, "").strip())
            self.key_changes.append((offer.kind, code if settled or code != "00" else "wrong check value"))
        if key in self._open and code not in TRY_AGAIN:
            del self._open[key]
            self._remember(number, code)
        return ""

    def _charged_back(self, number: tuple[str, str], code: str) -> str:
        entry = self._book.awaiting_acknowledgement(*number)
        if entry is None or code in TRY_AGAIN:
            return ""
        assert entry.chargeback is not None
        amount = entry.chargeback[2]
        entry.chargeback = None
        if code == "00":
            entry.move(entry.held_minor, entry.posted_minor - amount)
        self._book.note_chargeback(entry)
        self._remember(number, code)
        return "" if code == "00" else "chargeback refused"

    def _start(self, mti: str, elements: dict[int, str], now: datetime) -> Message:
        if len(self._open) >= MAX_OPEN:
            raise SimulatorError(f"{MAX_OPEN} messages are under way")
        message = Message(mti, {7: de7(now), 11: self._next_stan(), **elements})
        self._open[pairing_key(message)] = message
        return message

    def _remember(self, number: tuple[str, str], code: str) -> None:
        while len(self.answers) >= MAX_ANSWERS:
            del self.answers[next(iter(self.answers))]
        self.answers[number] = code

    def _next_stan(self) -> str:
        self._stan = self._stan % 999_999 + 1
        return f"{self._stan:06d}"

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
