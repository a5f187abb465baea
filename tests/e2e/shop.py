"""A shop on a running system: a terminal, the issuers' controls, the auditor's eyes. Helpers of e2e tests."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from console.database_roles import AUDITOR
from console.postgresql import resolve_dsn
from console.prove import Proof, prove
from console.prove_command import gateway_lines
from console.supervisor import System, config_file
from hsm.keys.exchange import load_party_keys
from ledger.book import LedgerLine, book
from messages.address import address_of
from messages.message import Message
from simulators.acquirer import Acquirer, AcquirerProfile, Card
from simulators.acquirer.book import Request
from simulators.book import BookLine
from simulators.control import ask, ask_book
from tests.e2e.terminal import Terminal, terminal, utcnow

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
POS = "pos"
SHARED_CARDS = {
    "alpha": ("4242424242424242", "4000056655665556"),
    "beta": ("5555555555554444", "5200828282828210"),
}
_STRANGERS = itertools.count()


class Shop:
    """The system as one test sees it; `till` carries what is shared by all tests of a session."""

    def __init__(self, system: System, pos: Terminal, acquirers: list[Acquirer]) -> None:
        self.system = system
        self.pos = pos
        self._acquirers = acquirers
        self.dsn = resolve_dsn(system.config.postgresql, system.config.state_path, AUDITOR)

    # The terminal

    def new_acquirer(self, terminal_id: str) -> Acquirer:
        """Another acquirer behind the link `pos`, with numbers of its own; its book counts in `agree`."""
        acquirer = new_acquirer(self.system, f"2{len(self._acquirers):04d}", terminal_id)
        self._acquirers.append(acquirer)
        return acquirer

    def stranger(self) -> Acquirer:
        """An acquirer whose book nobody asks for, with keys that no other test uses."""
        return new_acquirer(self.system, f"3{next(_STRANGERS):06d}", "STRANGER")

    @contextmanager
    def another_connection(self) -> Iterator[Terminal]:
        with terminal(self.pos.acquirer, self.pos.address) as other:
            yield other

    def send_spoiled(self, number: int, value: str | None) -> Message:
        """A purchase with one element replaced or (None) left out; number 0 is the MTI. Nothing may come of it."""
        acquirer = self.stranger()
        request = acquirer.purchase(Card("4242424242424242"), 4_711, "EUR", utcnow())
        message = Message(request.message.mti, dict(request.message.elements))
        if number == 0 and value is not None:
            message.mti = value
        elif value is None:
            del message.elements[number]
        else:
            message.elements[number] = value
        with terminal(acquirer, self.pos.address) as shell:
            shell.send(message)
            answer = shell.receive()
        assert answer.elements[39] != "00"
        assert self.standing(request) == (0, 0)
        return answer

    def until_approved(self, card: Card, amount_minor: int, timeout_s: float = 20.0) -> Request:
        """Buy again and again while parts of the system come back."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                request, answer = self.pos.buy(card, amount_minor)
                if answer.elements[39] == "00":
                    return request
                code = answer.elements[39]
            except (OSError, ConnectionError) as error:
                code = str(error)
                self.pos.reconnect()
            assert time.monotonic() < deadline, f"still {code} after {timeout_s} s\n{self.system.log_tail(3)}"
            time.sleep(0.2)

    def buyer(self, stop: threading.Event, cards: Sequence[Card], seed: int) -> Buyer:
        return Buyer(self.new_acquirer(f"BUYER{len(self._acquirers)}"), self.pos.address, stop, cards, seed)

    # The issuers

    def fill_accounts(self) -> None:
        """Give the cards that tests share more money than a session of load spends; restarts forget it."""
        for issuer, pans in SHARED_CARDS.items():
            for pan in pans:
                ask(self.system.control_socket(issuer), "accounts", set={"pan": pan, "balance_minor": 10**11})

    def fault(self, issuer: str, **rule: object) -> None:
        ask(self.system.control_socket(issuer), "fault", rule=rule)

    def issuer_stats(self, issuer: str) -> dict[str, Any]:
        return ask(self.system.control_socket(issuer), "stats")[0]

    def chargeback(self, issuer: str, request: Request) -> None:
        line = self.line(request)
        assert line is not None
        ask(self.system.control_socket(issuer), "chargeback", reference=line.network_key)

    def deadline_s(self, issuer: str) -> float:
        link = self.system.config.issuer_link(issuer)
        assert link is not None
        return link.deadline_s

    # The auditor

    def sql(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        async def fetch() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return [dict(row) for row in await connection.fetch(query, *arguments)]
            finally:
                await connection.close()

        return run(fetch())

    def book(self) -> list[LedgerLine]:
        async def fetch() -> list[LedgerLine]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return await book(connection)
            finally:
                await connection.close()

        return run(fetch())

    def line(self, request: Request) -> LedgerLine | None:
        return next((line for line in self.book() if line.key == request.key), None)

    def standing(self, request: Request) -> tuple[int, int]:
        """(held, posted) of a payment in the ledger, minor units."""
        line = self.line(request)
        return (line.held_minor, line.posted_minor) if line else (0, 0)

    def entries(self, request: Request) -> list[dict[str, Any]]:
        """The journal lines of a payment and of everything that changed it: layer, account, amount_minor."""
        return self.sql(
            """SELECT p.layer, a.name AS account, p.amount_minor
                 FROM ledger.intents i
                 JOIN ledger.outcomes o ON o.intent_id = i.id
                      OR (o.original_id = i.id AND i.kind IN ('authorization', 'purchase'))
                 JOIN ledger.postings p ON p.intent_id = o.intent_id
                 JOIN ledger.accounts a ON a.id = p.account_id
                WHERE i.key = $1""",
            request.key,
        )

    def posted(self, request: Request) -> dict[str, int]:
        """Sum of the posted lines by account."""
        sums: dict[str, int] = {}
        for line in self.entries(request):
            if line["layer"] == "posted":
                sums[line["account"]] = sums.get(line["account"], 0) + line["amount_minor"]
        return sums

    def acknowledgements(self, request: Request) -> list[str]:
        """Response codes that the issuer gave to the stored advices of a payment, in order."""
        rows = self.sql(
            """SELECT k.response_code FROM ledger.intents i JOIN ledger.advices a ON a.intent_id = i.id
                 JOIN ledger.acknowledgements k ON k.advice_id = a.id WHERE i.key = $1 ORDER BY a.id""",
            request.key,
        )
        return [row["response_code"] for row in rows]

    def proof(self) -> Proof:
        books: list[list[BookLine]] = [list(acquirer.book()) for acquirer in self._acquirers]
        issuers = {link.name: ask_book(self.system.control_socket(link.name)) for link in self.system.config.issuer}
        books.append(run(gateway_lines(self.system.config)))
        return prove(self.book(), books, issuers)

    def agree(self, timeout_s: float = 15.0) -> Proof:
        """Wait until all queues have drained; issuers, ledger and acquirers must say the same to the cent."""
        deadline = time.monotonic() + timeout_s
        while True:
            proof = self.proof()
            waiting = self.sql(
                """SELECT a.link, a.mti, a.intent_id FROM ledger.advices a
                     LEFT JOIN ledger.acknowledgements k ON k.advice_id = a.id WHERE k.advice_id IS NULL LIMIT 5"""
            )
            if proof.agrees and not waiting:
                return proof
            if time.monotonic() > deadline:
                texts = "\n".join(difference.text for difference in proof.differences[:20])
                raise AssertionError(f"{texts}\nadvices waiting: {waiting}\n{self.system.log_tail(3)}")
            time.sleep(0.1)

    # The operator

    def command(self, *arguments: str, status: int = 0) -> Any:
        """Run `cardswitch …` on this system; its JSON."""
        done = self._cardswitch(*arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    def output(self, *arguments: str) -> tuple[int, bytes]:
        """Run `cardswitch …` on this system; its exit status and all that it printed."""
        done = self._cardswitch(*arguments)
        return done.returncode, (done.stdout + done.stderr).encode()

    def _cardswitch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return cardswitch(*arguments, config=config_file(self.system.config.state_path))


class Buyer(threading.Thread):
    """Buys without a pause until it is stopped; repeats and reverses over new connections, as a real acquirer does."""

    def __init__(
        self, acquirer: Acquirer, address: tuple[str, int], stop: threading.Event, cards: Sequence[Card], seed: int
    ) -> None:
        super().__init__(name=acquirer.profile.terminal, daemon=True)
        self._acquirer = acquirer
        self._address = address
        self._halt = stop
        self._cards = cards
        self._random = random.Random(seed)
        self.approved = 0
        self.error = ""

    def run(self) -> None:
        try:
            self._buy()
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def _buy(self) -> None:
        shell: Terminal | None = None
        while not self._halt.is_set():
            card = self._random.choice(self._cards)
            ask_for = self._random.choice([self._acquirer.purchase, self._acquirer.authorization])
            request = ask_for(card, self._random.randrange(100, 9_999), "EUR", utcnow())
            message = request.message
            while not (request.settled if request.reversal is None else request.reversal.final):
                try:
                    if shell is None:
                        shell = Terminal(self._acquirer, self._address, timeout_s=4.0)
                    shell.send(message)
                    while not (request.settled if request.reversal is None else request.reversal.final):
                        shell.receive()
                except (OSError, ConnectionError):
                    if shell is not None:
                        shell.close()
                    shell = None
                    time.sleep(0.05)
                    message = self._acquirer.overdue(request, utcnow())
            self.approved += request.response_code == "00"
        if shell is not None:
            shell.close()


def new_acquirer(system: System, acquirer_id: str, terminal_id: str) -> Acquirer:
    keys = load_party_keys(system.config.exchange_path, POS)
    profile = AcquirerProfile(link=POS, acquirer_id=acquirer_id, terminal=terminal_id)
    return Acquirer(profile, pin_key=keys["zpk-pos"], mac_key=keys["zak-pos"])


def pos_address(system: System) -> tuple[str, int]:
    link = system.config.acquirer_link(POS)
    assert link is not None
    return address_of(link.listen)


def cardswitch(
    *arguments: str, config: Path | None = None, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does. `given`: its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments, *(("--config", str(config)) if config else ())],
        capture_output=True,
        text=True,
        timeout=120,
        input=given,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
