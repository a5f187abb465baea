"""One link of the load generator: builds requests as bytes, pairs answers, keeps a compact book.

`simulators.load` owns the sockets. A request costs a dict copy, one encoding and one MAC.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from hsm.algorithms.mac import AES_CMAC
from messages.exchange import acquirer_key, de7, transmission_time
from messages.message import Message
from simulators.acquirer import Acquirer, AcquirerProfile
from simulators.book import BookLine
from simulators.sealing import NO_MAC

MTI = "0100"


class LaneConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link of the switch as the load generator sees it.

    Args:
        link: its name. address: host:port. dialect: its dialect.
        acquirer_id: DE 32; each load process needs one of its own.
        party: whose exported keys it uses; pin_key, mac_key: names among them, "" for none.
        mac_algorithm: of the MAC key, one of `hsm.algorithms.mac.ALGORITHMS`.
        first_stan: where DE 11 starts.
    """

    link: str
    address: str
    dialect: str = "iso87-ascii"
    acquirer_id: str = "20001"
    party: str = ""
    pin_key: str = ""
    mac_key: str = ""
    mac_algorithm: str = AES_CMAC
    trace_element: int = 0
    first_stan: int = 1


class Waiting(msgspec.Struct, gc=False, eq=False):
    """A request without an answer: when it left (performance counter), where, and what it was."""

    key: str
    sent_at: float
    amount_minor: int
    elements: dict[int, str]
    connection: int = 0


class Lane:
    """Requests and answers of one link.

    Args:
        config: the link.
        keys: clear keys by name.
        zmk: the party's zone master key, for keys that the switch changes meanwhile.
    """

    def __init__(self, config: LaneConfig, keys: dict[str, bytes], zmk: bytes = b"") -> None:
        self.config = config
        self.pin_key = keys[config.pin_key] if config.pin_key else b""
        profile = AcquirerProfile(
            link=config.link,
            dialect=config.dialect,
            acquirer_id=config.acquirer_id,
            trace_element=config.trace_element,
            mac_algorithm=config.mac_algorithm,
        )
        mac_key = keys[config.mac_key] if config.mac_key else b""
        self.acquirer = Acquirer(profile, pin_key=self.pin_key, mac_key=mac_key, zmk=zmk)
        self.codec = self.acquirer.codec
        self._has_mac = bool(mac_key)
        self.started_at = datetime.now(UTC)
        self.unanswered: list[Message] = []
        self._waiting: dict[str, Waiting] = {}
        self._stan = config.first_stan - 1
        self._second = -1
        self._moment = self._rrn = ""
        # The book: DE 7 + DE 11, and what is held.
        self._numbers: list[str] = []
        self._held = array("q")
        self._mac_bytes, self._mac_is_hex = self._mac_shape()

    def request(self, template: dict[int, str], amount_minor: int, now: float) -> tuple[bytes, Waiting]:
        """The next authorization: a card's template with amount, time and numbers of its own."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            at = datetime.fromtimestamp(second, UTC)
            self._moment = de7(at)
            self._rrn = f"{at:%y%j%H}"[1:]
        moment = self._moment
        self._stan = self._stan % 999_999 + 1
        stan = f"{self._stan:06d}"
        elements = template.copy()
        elements[4] = f"{amount_minor:012d}"
        elements[7] = moment
        elements[11] = stan
        elements[12] = moment[4:]
        elements[13] = moment[:4]
        elements[37] = self._rrn + stan
        key = moment + stan
        waiting = self._waiting[key] = Waiting(key, now, amount_minor, elements)
        data = self.codec.encode(Message(MTI, elements))
        if self._has_mac:
            covered = data[: -self._mac_bytes]
            mac = self.acquirer.keys.mac(covered)
            data = covered + (mac.hex().upper().encode() if self._mac_is_hex else mac)
        return data, waiting

    def template(self, pan: str, pin_block: str, merchant: str, terminal: str, country: str) -> dict[int, str]:
        """The elements that all authorizations of a card share; `pin_block` 16 hex digits or ""."""
        elements = {
            2: pan,
            3: "000000",
            14: "3012",
            18: "5411",
            22: "051" if pin_block else "012",
            32: self.config.acquirer_id,
            41: terminal.ljust(8),
            42: merchant.ljust(15),
            43: "Load Test Street 1".ljust(38) + country,
            49: "978",
        }
        if pin_block:
            elements[52] = pin_block
        if self._has_mac:
            elements[64] = NO_MAC
        return elements

    def sign_on(self) -> bytes:
        return self.acquirer.encode(self.acquirer.sign_on(datetime.now(UTC)))

    def answered(self, message: Message) -> Waiting | None:
        """Pair an answer and book it; None for anything that nobody waits for."""
        if message.mti != "0110":
            return None
        elements = message.elements
        waiting = self._waiting.pop(elements.get(7, "") + elements.get(11, ""), None)
        if waiting is not None:
            self._numbers.append(waiting.key)
            self._held.append(waiting.amount_minor if elements.get(39) == "00" else 0)
        return waiting

    def mac_is_right(self, frame: bytes) -> bool:
        return not self._has_mac or self.acquirer.keys.mac_is_right(*self.codec.mac_input(frame))

    def forget(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting.key, None)

    def dropped(self, connection: int) -> int:
        """The connection is gone: requests on it will not be answered. Returns how many."""
        return self._give_up([waiting for waiting in self._waiting.values() if waiting.connection == connection])

    def sweep(self, sent_before: float) -> int:
        """Give up what was sent before that time; returns how many."""
        overdue = []
        for waiting in self._waiting.values():  # oldest first
            if waiting.sent_at >= sent_before:
                break
            overdue.append(waiting)
        return self._give_up(overdue)

    def give_up(self) -> int:
        """Nothing more will be answered."""
        return self._give_up(list(self._waiting.values()))

    def lines(self) -> Iterator[BookLine]:
        """A line for each answered request."""
        link, acquirer_id = self.config.link, self.config.acquirer_id
        for number, held in zip(self._numbers, self._held, strict=True):
            at = transmission_time(number[:10], self.started_at)
            key = acquirer_key(link, MTI, at, number[10:], acquirer_id, "")
            yield BookLine(link=link, key=key, currency="EUR", held_minor=held, posted_minor=0)

    def _give_up(self, given_up: list[Waiting]) -> int:
        for waiting in given_up:
            del self._waiting[waiting.key]
            waiting.elements.pop(64, None)  # the end game makes its own MAC
            self.unanswered.append(Message(MTI, waiting.elements))
        return len(given_up)

    def _mac_shape(self) -> tuple[int, bool]:
        """Bytes of DE 64 at the end of a message, and whether they are hexadecimal text."""
        probe = self.codec.encode(Message(MTI, {11: "000001", 64: NO_MAC}))
        is_hex = probe.endswith(NO_MAC.encode())
        return (16 if is_hex else 8), is_hex
