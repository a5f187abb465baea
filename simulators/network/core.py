"""A simulated network, pure: one link to the switch, issuers behind it by BIN, their book, and totals by issuer.

Messages of the switch go in, answers go out. Payments are answered by the issuers (`simulators.issuer.core`), which
share the link, its keys and one book; sign-on, cut-over, reconciliation and texts are the network's own. Time is an
argument.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from messages.amounts_by_currency import amount_in
from messages.card import pan_of
from messages.errors import DecodeError, MoneyError
from messages.exchange import network_key, parse_original_data
from messages.message import Message
from messages.money import alpha_currency
from messages.mti import canonical_mti, repeat_mti, response_mti
from simulators.errors import SimulatorError
from simulators.faults import Fault
from simulators.issuer.accounts import Account, AccountRule
from simulators.issuer.actions import Action, Send, spoil
from simulators.issuer.book import IssuerBook
from simulators.issuer.core import MONEY, REQUESTS, Issuer
from simulators.issuer.desk import DESK_REQUESTS, answer_to
from simulators.issuer.party import Party
from simulators.issuer.totals import SettlementLine, Sums
from simulators.network.scenario import NetworkScenario

# Declines of the network itself: reason → DE 39.
# Source: ISO 8583:1987 response codes (15: no such issuer; 91: issuer or switch inoperative).
ANSWERS: dict[str, str] = {
    "not signed on": "91",
    "no such issuer": "15",
    "issuer away": "91",
    "stand-in approves": "00",
    "nothing to reverse": "00",
}
PAYMENTS = frozenset(REQUESTS) - frozenset(DESK_REQUESTS)
REVERSALS = frozenset({"0400", "0420"})

# One look-up a message: MTI, repeats included → canonical MTI.
KNOWN = {seen: mti for mti in REQUESTS for seen in (mti, repeat_mti(mti))}


class Network(Party):
    """One network with its issuers.

    Args:
        scenario: see `simulators.network.scenario`.
        keys: clear keys by name, those that `scenario.key_names` lists.
        zmk: the zone master key that keys are exchanged under; b"" where none are.
        book: an earlier book to go on with.
        random_bytes: for keys; a seeded one where a run must be repeatable.
    """

    def __init__(
        self,
        scenario: NetworkScenario,
        keys: Mapping[str, bytes] | None = None,
        *,
        zmk: bytes = b"",
        book: IssuerBook | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        named = keys or {}
        self._members: dict[str, Issuer] = {}
        super().__init__(
            scenario,
            pin_key=named.get(scenario.pin_key, b""),
            mac_key=named.get(scenario.mac_key, b""),
            zmk=zmk,
            keys=None,
            book=book,
            totals=_Totals(self._members),
            random_bytes=random_bytes,
        )
        self._needs_sign_on = scenario.needs_sign_on
        self._away = {member.name for member in scenario.issuer if not member.available}
        self._stand_in = {member.name: member.stand_in_minor for member in scenario.issuer}
        self._prefixes: list[tuple[str, str]] = []
        for member in scenario.issuer:
            self._members[member.name] = Issuer(
                member.behind(scenario),
                book=self.entries,
                keys=self.keys,
                member=member.name,
                cvk=named.get(member.card_value_key, b""),
                imk=named.get(member.cryptogram_key, b""),
            )
            self._prefixes += [(prefix, member.name) for prefix in member.prefixes]
        self._prefixes.sort(key=lambda row: -len(row[0]))
        self.accounts = _Accounts(self)
        self._desk_handlers: dict[str, Callable[[Message, str], dict[int, str]]] = {
            "reconcile": self.desk.reconcile,
            "administer": self.desk.administer,
            "manage": self.desk.manage,
        }

    @property
    def members(self) -> Mapping[str, Issuer]:
        """The issuers by name."""
        return self._members

    def receive(self, message: Message, now: datetime) -> list[Action]:
        self.last_fault = None
        self.count(message.mti)
        mti = KNOWN.get(message.mti)
        if mti is None:
            return self.desk.other(message)
        fault = self.faults.decide(message) if self.faults else None
        if fault is not None:
            self.count(f"fault {fault.kind}")
            self.last_fault = fault
            if not fault.booked or fault.kind == "decline":
                return spoil(fault, answer_to(message, response_mti(mti), {39: fault.response_code}))
        actions = self._pay(message, mti, now) if mti in PAYMENTS else self._desk(message, mti)
        return actions if fault is None else _spoiled(fault, actions)

    def set_available(self, member: str, available: bool) -> None:
        """Let an issuer go away, or come back. Raises SimulatorError for an unknown one."""
        if member not in self._members:
            raise SimulatorError(f"there is no issuer {member!r}; there are {', '.join(self._members)}")
        (self._away.discard if available else self._away.add)(member)

    def member_of(self, pan: str) -> Issuer | None:
        """The issuer with the longest BIN that a card number starts with."""
        name = next((name for prefix, name in self._prefixes if pan.startswith(prefix)), None)
        return None if name is None else self._members[name]

    def settlement(self) -> Iterator[SettlementLine]:
        """Totals by issuer, and of each by business day, acquirer and currency, oldest first."""
        for member in self._members.values():
            yield from member.settlement()

    def _desk(self, message: Message, mti: str) -> list[Action]:
        needed, handler = DESK_REQUESTS[mti]
        for number in needed:
            if number not in message.elements:
                return self._answer(message, mti, "30", f"DE {number}")
        return [Send(answer_to(message, response_mti(mti), self._desk_handlers[handler](message, mti)))]

    def _pay(self, message: Message, mti: str, now: datetime) -> list[Action]:
        if self._needs_sign_on and not self.signed_on:
            return self._say(message, mti, "not signed on")
        member = self._member_of_original(message) or self.member_of(pan_of(message))
        if member is None:
            return self._say(message, mti, "nothing to reverse" if mti in REVERSALS else "no such issuer")
        if mti in MONEY and member.member in self._away and not self._answered(message, mti):
            return self._instead_of(member, message, mti, now)
        # Advices report past events: the network takes them for an issuer that is away, too.
        actions = member.receive(message, now)
        self.last_fault = self.last_fault or member.last_fault
        return actions

    def _instead_of(self, member: Issuer, message: Message, mti: str, now: datetime) -> list[Action]:
        """Stand in, within the limit that the issuer has set."""
        needed, _ = REQUESTS[mti]
        amount = message.elements.get(4, "")
        whole = all(number in message.elements for number in needed if number != 2)
        most_minor = self._stand_in_limit(member, message)
        if not (whole and amount.isdecimal() and 0 < int(amount) <= most_minor):
            return self._say(message, mti, "issuer away")
        self.count("stand-in approves")
        return member.stand_in(message, now, ANSWERS["stand-in approves"])

    def _stand_in_limit(self, member: Issuer, message: Message) -> int:
        """The amount up to which the network approves for that issuer, in the currency of the message; 0: none."""
        try:
            currency = alpha_currency(message.elements.get(49, ""))
        except MoneyError:
            return 0
        return amount_in(self._stand_in[member.member], currency) or 0

    def _answered(self, message: Message, mti: str) -> bool:
        """Whether this is a repeat of what the book has an answer to."""
        elements = message.elements
        return self.entries.get(network_key(self.name, mti, elements.get(7, ""), elements.get(11, ""))) is not None

    def _member_of_original(self, message: Message) -> Issuer | None:
        """The issuer that has booked what DE 90 names."""
        if 90 not in message.elements:
            return None
        try:
            original = parse_original_data(message.elements[90])
            mti = canonical_mti(original.mti)
        except DecodeError:
            return None
        entry = self.entries.get(network_key(self.name, mti, original.transmitted, original.stan))
        return None if entry is None else self._members.get(entry.member)

    def _say(self, message: Message, mti: str, why: str) -> list[Action]:
        self.count(why)
        return self._answer(message, mti, ANSWERS[why])

    def _answer(self, message: Message, mti: str, response_code: str, reason: str = "") -> list[Action]:
        told = {39: response_code, 44: reason} if reason else {39: response_code}
        return [Send(answer_to(message, response_mti(mti), told))]


def _spoiled(fault: Fault, actions: list[Action]) -> list[Action]:
    """The effect of a network's fault on an issuer's answer; a fault of the issuer applies first."""
    [action] = actions if len(actions) == 1 else [None]
    if not isinstance(action, Send) or action.delay_s or action.spoiled:
        return actions
    return spoil(fault, action.message)


class _Totals:
    """The totals of all issuers of a network as its reconciliation sees them."""

    def __init__(self, members: Mapping[str, Issuer]) -> None:
        self._members = members

    def of(self, day: str, currency: str) -> Sums:
        found = Sums()
        for member in self._members.values():
            found.add(member.totals.of(day, currency))
        return found

    def cut_over(self, day: str) -> None:
        for member in self._members.values():
            member.totals.cut_over(day)


class _Accounts:
    """The accounts of all issuers of a network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __len__(self) -> int:
        return sum(len(member.accounts) for member in self._network.members.values())

    def find(self, pan: str) -> Account | None:
        member = self._network.member_of(pan)
        return None if member is None else member.accounts.find(pan)

    def set(self, rule: AccountRule) -> None:
        """Raises ValueError for a card that belongs to no issuer here."""
        member = self._network.member_of(rule.pan or rule.prefix)
        if member is None:
            raise ValueError("no issuer of this network has such cards")
        member.accounts.set(rule)

    def items(self) -> list[tuple[str, Account]]:
        return [item for member in self._network.members.values() for item in member.accounts.items()]
