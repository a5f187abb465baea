"""The common part of issuers and networks under test: faults, books, received messages, their own requests; blocking.

`simulators.testing.issuer` and `simulators.testing.network` put their servers into it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from messages.message import Message
from simulators.book import BookLine
from simulators.errors import SimulatorError
from simulators.faults import FaultRule, fault_problems
from simulators.issuer import party
from simulators.issuer.scenario import LinkScenario
from simulators.issuer.serve import serve_party
from simulators.issuer.server import IssuerServer
from simulators.issuer.totals import SettlementLine
from simulators.scenario_table import struct_of
from simulators.testing.background import Background

MAX_HEARD = 10_000  # messages kept; the oldest go first
POLL_S = 0.01


class Served(NamedTuple):
    """A server in a thread, and its received messages."""

    background: Background
    server: IssuerServer
    heard: list[Message]


class Party:
    """A simulated party that serves connections.

    Attributes:
        name: its link's name. host, port: where it listens (or dials).
        heard: messages that were understood, oldest first, at most 10,000.
    """

    def __init__(self, name: str, served: Served) -> None:
        self.name = name
        self._background, self._server, self.heard = served
        self.host, self.port = self._background.value

    @property
    def address(self) -> str:
        """host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return self._server.connections

    @property
    def stats(self) -> dict[str, int]:
        """Counts of messages by type, and of injected faults."""
        return self._background.do(lambda: dict(self._server.issuer.stats))

    def wait_connected(self, count: int = 1, timeout_s: float = 10.0) -> None:
        """Wait until so many connections are open. Raises SimulatorError."""
        self.wait_for(lambda: self.connections >= count, timeout_s, f"{count} connections")

    def wait_for(self, condition: Any, timeout_s: float = 10.0, what: str = "the condition") -> None:
        """Look every 10 ms whether `condition()` holds. Raises SimulatorError where it does not in time."""
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise SimulatorError(f"{self.name}: {what} did not come within {timeout_s:g} s")
            time.sleep(POLL_S)

    def count(self, mti: str) -> int:
        """Count of received messages of a type."""
        return Counter(message.mti for message in self.heard)[mti]

    def fault(self, rule: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Add a fault rule: a table as in a scenario, or its keys as arguments.

        Raises:
            ValueError: the rule is wrong; the text lists everything.
        """
        made = fault_rule(rule, fields)
        self._background.do(self._server.issuer.faults.add, made)

    def clear(self, name: str = "") -> int:
        """Remove the rules called `name`, or all; returns how many."""
        return self._background.do(self._server.issuer.faults.clear, name)

    def book(self) -> list[BookLine]:
        """Its book, one line a transaction."""
        return self._background.do(lambda: list(self._server.issuer.book()))

    def line(self, de7: str, stan: str) -> BookLine | None:
        """The line of the message with this DE 7 and DE 11; None where there is none."""
        return next((line for line in self.book() if line.key.split("|")[2:4] == [de7, stan]), None)

    def settlement(self) -> list[SettlementLine]:
        """Totals by business day, issuer, acquirer and currency."""
        return self._background.do(lambda: list(self._server.issuer.settlement()))

    def chargeback(self, reference: str, amount_minor: int | None = None, timeout_s: float = 10.0) -> str:
        """Charge back a transaction (network key, RRN or trace id); returns DE 39 of the answer, "" for none."""
        message = self._background.do(self._server.chargeback, reference, amount_minor)
        return self._background.call(self._server.answer_of, message, timeout_s)

    def manage(self, what: str, day: str = "", timeout_s: float = 10.0) -> str:
        """Start network management (sign-on, sign-off, cut-over, echo) and wait; returns DE 39, "" for no answer."""
        message = self._background.do(self._server.manage, what, day)
        return self._background.call(self._server.answer_of, message, timeout_s)

    def list_card(self, pan: str, action: str = "add", timeout_s: float = 10.0) -> str:
        """Tell the switch of a card on the negative list (0302: add, delete, inquire); returns DE 39, "" for none."""
        message = self._background.do(self._server.list_card, pan, action)
        return self._background.call(self._server.answer_of, message, timeout_s)

    def exchange_key(self, kind: str) -> bool:
        """Send the switch a new key, `pin` or `mac`; whether it has it in force."""
        return self._background.call(self._server.exchange_key, kind)

    def drop(self) -> None:
        """Close all connections; new ones are taken."""
        self._background.do(self._server.drop)

    def refuse(self, seconds: float, *, listening: bool = True) -> None:
        """Close all connections and take none for so long; `listening`: they are closed instead of refused."""
        self._background.do(lambda: self._server.refuse(seconds, listening=listening))

    def stop(self) -> None:
        """End it; the port is free then."""
        self._background.stop()


@contextmanager
def served(core: party.Party, scenario: LinkScenario, kind: str) -> Iterator[Served]:
    """Run a party in a thread as long as the block lasts; `kind` names it in errors."""
    heard: list[Message] = []
    server = IssuerServer(core, scenario, heard=partial(remember, heard))

    async def serve(*, task_status: Any) -> None:
        await serve_party(server, scenario, task_status=task_status)

    background = Background(serve, f"{kind} {scenario.name}")
    try:
        yield Served(background, server, heard)
    finally:
        background.stop()


def fault_rule(rule: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> FaultRule:
    """A rule from a table and arguments. Raises ValueError with every problem."""
    made = struct_of({**(rule or {}), **fields}, FaultRule)
    if problems := fault_problems(made):
        raise ValueError("; ".join(problems))
    return made


def remember(heard: list[Message], message: Message) -> None:
    """Keep a received message, within the limit."""
    if len(heard) >= MAX_HEARD:
        del heard[0]
    heard.append(message)
