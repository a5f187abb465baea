"""A simulated issuer, pure: messages of the switch go in, answers go out, and a book is kept.

Called by the shell in `simulators.issuer.server`, by a simulated network and by simulations of the switch. This module
knows which message is whose work: requests are `money`'s, advices `advices`', everything else the `desk`'s, what the
issuer starts itself `started`'s. Faults on purpose come from `simulators.faults`. Time is an argument.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime

from messages.message import Message
from messages.mti import repeat_mti, response_mti
from simulators.faults import Fault
from simulators.issuer.accounts import Accounts
from simulators.issuer.actions import Action, Send, spoil
from simulators.issuer.advices import Advices
from simulators.issuer.book import IssuerBook
from simulators.issuer.checks import Checks
from simulators.issuer.chip import Chip
from simulators.issuer.desk import DESK_REQUESTS, answer_to
from simulators.issuer.money import Money, Place
from simulators.issuer.party import Party
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.totals import SettlementLine, Totals
from simulators.link_keys import LinkKeys

# Mandatory elements of each message (an answer with DE 39 = 30 where one is missing; the card may come as DE 2 or in DE
# 35) and its handler. Source: ISO 8583:1987 table 4, reduced to what this issuer reads.
REQUESTS: dict[str, tuple[tuple[int, ...], str]] = {
    "0100": ((2, 7, 11, 49), "authorize"),
    "0120": ((2, 4, 7, 11, 49), "advised"),
    "0200": ((2, 3, 7, 11, 49), "pay"),
    "0220": ((4, 7, 11, 49), "completed"),
    "0400": ((7, 11, 90), "reverse"),
    "0420": ((7, 11, 90), "reverse"),
    **DESK_REQUESTS,
}
MONEY = frozenset({"0100", "0200"})  # whose answers a fault may decide

Handler = Callable[[Message, str], dict[int, str]]


class Issuer(Party):
    """One issuer with its accounts, faults and book.

    Args:
        scenario: see `simulators.issuer.scenario`.
        pin_key: its zone PIN key, TDES (AES for PIN blocks of format 4); b"" where it takes no PIN.
        book: an earlier book to go on with.
        mac_key: its zone authentication key; b"" where the link has no MAC.
        zmk: the zone master key that keys are exchanged under; b"" where none are.
        cvk: for card values; imk: for cryptograms; b"" each where it does not look at them.
        keys: of its link, where it shares them with others behind one network; instead of the keys above.
        member: its name behind a network, whose link and book it shares; "" for an issuer with a link of its own.
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
        member: str = "",
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.totals = Totals()
        super().__init__(
            scenario,
            pin_key=pin_key,
            mac_key=mac_key,
            zmk=zmk,
            keys=keys,
            book=book,
            totals=self.totals,
            random_bytes=random_bytes,
        )
        self.member = member
        accounts = Accounts(scenario.prefixes, scenario.account, scenario.default)
        self._now = datetime.min
        chip = Chip(imk, scenario.chip_scheme) if imk else None
        checks = Checks(self.keys, scenario.pin_tries, chip, cvk, self.count)
        self.accounts = accounts
        place = Place(self.name, member, self.entries, accounts, self.totals, self.trace_id)
        self._money = Money(place, checks)
        self._advices = Advices(place, self.count)
        handlers: dict[str, Handler] = {
            "authorize": lambda message, mti: self._money.authorize(message, mti, self._now),
            "pay": lambda message, mti: self._money.pay(message, mti, self._now),
            "advised": self._advices.advised,
            "completed": self._completed,
            "reverse": self._advices.reverse,
            "reconcile": self.desk.reconcile,
            "administer": self.desk.administer,
            "manage": self.desk.manage,
        }
        # One look-up a message: MTI → (answer's MTI, canonical MTI, needed elements, handler). Repeats included.
        self._routes: dict[str, tuple[str, str, tuple[int, ...], Handler]] = {}
        for mti, (needed, handler) in REQUESTS.items():
            for seen in (mti, repeat_mti(mti)):
                self._routes[seen] = (response_mti(mti), mti, needed, handlers[handler])

    def receive(self, message: Message, now: datetime) -> list[Action]:
        self.last_fault = None
        self._now = now
        route = self._routes.get(message.mti)
        if route is None:
            self.count(message.mti)
            return self.desk.other(message)
        answer_mti, mti, needed, handler = route
        elements = message.elements
        self.count(message.mti)
        missing = [number for number in needed if number not in elements and not (number == 2 and 35 in elements)]
        if missing:
            return [Send(answer_to(message, answer_mti, {39: "30", 44: f"DE {missing[0]}"}))]
        fault = self.faults.decide(message) if self.faults else None
        if fault is None:
            return [Send(answer_to(message, answer_mti, handler(message, mti)))]
        return self._faulty(fault, message, mti, answer_mti, handler)

    def stand_in(self, message: Message, now: datetime, response_code: str) -> list[Action]:
        """Answer a request for money with what somebody else has decided; booked as this issuer's own."""
        self._now = now
        answer_mti, mti, _, _ = self._routes[message.mti]
        return [Send(answer_to(message, answer_mti, self._ruled(message, mti, response_code)))]

    def settlement(self) -> Iterator[SettlementLine]:
        """Totals by business day, acquirer and currency, oldest first."""
        return self.totals.settlement(self.member or self.name)

    # Handlers by message

    def _completed(self, message: Message, mti: str) -> dict[int, str]:
        """0220: of a hold where DE 90 names one, else a payment that was decided offline."""
        return self._advices.capture(message, mti) if 90 in message.elements else self._advices.advised(message, mti)

    # Faults

    def _faulty(self, fault: Fault, message: Message, mti: str, answer_mti: str, handler: Handler) -> list[Action]:
        self.last_fault = fault
        self.count(f"fault {fault.kind}")
        if fault.kind == "decline" and mti in MONEY:
            told = self._ruled(message, mti, fault.response_code)
        elif fault.booked and fault.kind != "decline":
            told = handler(message, mti)
        else:
            told = {39: fault.response_code}
        return spoil(fault, answer_to(message, answer_mti, told))

    def _ruled(self, message: Message, mti: str, response_code: str) -> dict[int, str]:
        decide = self._money.authorize if mti == "0100" else self._money.pay
        return decide(message, mti, self._now, response_code)
