"""The common part of parties behind a link of the switch: keys, a book, non-financial messages, requests of its own,
faults, counters.

Issuers and networks are parties; their shell (`simulators.issuer.server`) needs only the members below. Time is an
argument.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from messages.message import Message
from simulators.book import BookLine
from simulators.errors import SimulatorError
from simulators.faults import Fault, FaultTable
from simulators.issuer.accounts import Cards
from simulators.issuer.actions import Action
from simulators.issuer.book import IssuerBook
from simulators.issuer.desk import DayTotals, Desk
from simulators.issuer.scenario import LinkScenario
from simulators.issuer.started import Starter
from simulators.issuer.totals import SettlementLine
from simulators.link_keys import LinkKeys


class Party(ABC):
    """One party on one link.

    Args:
        scenario: of its link.
        pin_key, mac_key: of its link; b"" where it has none.
        zmk: the zone master key that keys are exchanged under; b"" where none are.
        keys: of its link, where it shares them with others behind one network; instead of the keys before.
        book: an earlier book to go on with.
        totals: the source of reconciliation.
        random_bytes: for keys; a seeded one where a run must be repeatable.

    Attributes:
        accounts: of all its cards.
        last_fault: the fault of the last message, None for an honest answer.
        stats: counts of messages, faults and what was noticed.
    """

    accounts: Cards

    def __init__(
        self,
        scenario: LinkScenario,
        *,
        pin_key: bytes,
        mac_key: bytes,
        zmk: bytes,
        keys: LinkKeys | None,
        book: IssuerBook | None,
        totals: DayTotals,
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
        self.faults = FaultTable(scenario.fault, scenario.seed)
        self.entries = IssuerBook(scenario.name) if book is None else book
        self.stats: dict[str, int] = {}
        self.last_fault: Fault | None = None
        self.started = Starter(scenario.name, self.entries, self.keys, scenario.trace_element)
        self.desk = Desk(self.keys, totals, self.started, self.count)
        self._day_totals = totals
        self._trace_element = scenario.trace_element

    @abstractmethod
    def receive(self, message: Message, now: datetime) -> list[Action]:
        """Take one message from the switch and say what happens next; [] for silence.

        Args:
            message: a request, an advice, a repeat, or the answer to what this party has started.
            now: aware UTC.
        """

    @abstractmethod
    def settlement(self) -> Iterable[SettlementLine]:
        """Totals by business day, issuer, acquirer and currency, oldest first."""

    def set_available(self, member: str, available: bool) -> None:
        """Let an issuer behind a network go away, or come back. Raises SimulatorError where there is none."""
        raise SimulatorError(f"{self.name} is no network: nobody is behind it")

    @property
    def signed_on(self) -> bool:
        """Whether the switch has signed on."""
        return self.desk.signed_on

    @property
    def records(self) -> list[str]:
        """Texts of administrative messages."""
        return self.desk.records

    @property
    def transactions(self) -> int:
        """Number of requests in its book."""
        return len(self.entries)

    @property
    def key_changes(self) -> list[tuple[str, str]]:
        """Kind and DE 39 of each key exchange that this side has started."""
        return self.started.key_changes

    def refuse(self, message: Message) -> list[Action]:
        """The answer to a message whose MAC is missing or wrong: DE 39 = 63 to a request, nothing to an answer."""
        self.count("mac refused")
        return self.desk.refuse(message, "63")

    def malformed(self, message: Message, reason: str) -> list[Action]:
        """The answer to a message that lacks elements of its dialect's rules: DE 39 = 30, the reason in DE 44."""
        self.count("malformed")
        return self.desk.refuse(message, "30", reason)

    def chargeback(self, reference: str, now: datetime, amount_minor: int | None = None) -> Message:
        """Start a chargeback: the 0422 to send until `receive` has seen its 0432.

        Args:
            reference: network key, RRN (DE 37) or trace id of a transaction that was posted.
            amount_minor: 1 … what is posted; None for all of it.
        Raises:
            SimulatorError: nothing to charge back, or one is under way already.
        """
        message = self.started.chargeback(reference, now, amount_minor)
        self.count("0422")
        return message

    def list_card(self, pan: str, action: str, now: datetime) -> Message:
        """Start a change of the negative list: the 0302 to send; `action` add, delete or inquire. SimulatorError."""
        return self.started.list_card(pan, action, now)

    def manage(self, what: str, now: datetime, day: str = "") -> Message:
        """Start network management: sign-on, sign-off, cut-over (with the new business `day`, MMDD) or echo."""
        message = self.started.manage(what, now, day)
        if what == "cut-over":
            self._day_totals.cut_over(day)
        return message

    def reconcile(self, day: str, currency: str, now: datetime) -> Message:
        """Start a reconciliation: the 0520 with this party's totals of `day` (MMDD). SimulatorError, MoneyError."""
        return self.started.reconcile(day, currency, self._day_totals.of(day, currency), now)

    def key_change(self, kind: str, now: datetime) -> Message:
        """Start a key exchange: the 0800 with DE 70 = 101 to send. Raises LinkKeyError where there is no such key."""
        return self.started.key_change(kind, now)

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
        """A request of ours stays without an answer: it is no more repeated."""
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

    def count(self, name: str) -> None:
        """One more of it in `stats`."""
        self.stats[name] = self.stats.get(name, 0) + 1
