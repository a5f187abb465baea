"""An acquirer simulator for tests: a scenario in, connections to your switch in a thread with blocking calls out.

Each call sends one request and returns once its end is known: answered, or repeated, or reversed and the reversal
acknowledged. Calls may come from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from messages.message import Message
from simulators.acquirer.book import Request
from simulators.acquirer.client import AcquirerClient
from simulators.acquirer.core import Acquirer
from simulators.acquirer.faults import acquirer_fault_problems
from simulators.acquirer.profile import Card
from simulators.acquirer.replay import Line, Replay
from simulators.acquirer.report import AcquirerReport, Tally
from simulators.acquirer.scenario import (
    AcquirerScenario,
    acquirer_scenario_from,
    load_acquirer_scenario,
    scenario_problems,
)
from simulators.acquirer.serve import open_scenario, report_of
from simulators.acquirer.traffic import Traffic
from simulators.book import BookLine
from simulators.errors import ScenarioError, WireLost
from simulators.testing.background import Background
from simulators.testing.party import fault_rule

Scenario = Mapping[str, Any] | str | Path | AcquirerScenario
DEFAULT = {"name": "acquirer"}


class AcquirerSimulator:
    """A running acquirer.

    Attributes:
        name: its link's name. host, port: the address that it dials, or listens on.
        acquirer: the core: every request that it knows, by key. For reading only, while nothing is under way.
    """

    def __init__(
        self, scenario: AcquirerScenario, background: Background, client: AcquirerClient, address: tuple[str, int]
    ) -> None:
        self.name = scenario.name
        self.host, self.port = address
        self._scenario = scenario
        self._background = background
        self._client = client
        self._replay = Replay(client.acquirer)

    @property
    def acquirer(self) -> Acquirer:
        return self._client.acquirer

    @property
    def connected(self) -> bool:
        return self._client.connected

    def wait_connected(self, timeout_s: float = 10.0) -> None:
        """Wait for a connection. Raises WireLost where none comes."""
        if not self._background.call(self._client.wait_connected, timeout_s):
            raise WireLost(f"{self.name}: no connection with {self.host}:{self.port} within {timeout_s:g} s")

    # Requests. `card` is a PAN or a `Card`; `fields`: terminal, merchant, mcc, country.

    def authorization(self, card: Card | str, amount_minor: int, currency: str = "EUR", **fields: str) -> Request:
        """A hold, 0100."""
        return self._perform("authorization", _card(card), amount_minor, currency, **fields)

    def verification(self, card: Card | str, currency: str = "EUR", **fields: str) -> Request:
        """Whether the account is good: 0100 of zero."""
        return self._perform("verification", _card(card), currency, **fields)

    def inquiry(self, card: Card | str, currency: str = "EUR", **fields: str) -> Request:
        """The balance of the account: 0100, processing code 31; DE 54 of `response`."""
        return self._perform("inquiry", _card(card), currency, **fields)

    def purchase(
        self, card: Card | str, amount_minor: int, currency: str = "EUR", *, cashback_minor: int = 0, **fields: str
    ) -> Request:
        """A purchase, 0200; `cashback_minor` of it in cash."""
        made = fields | ({"cashback_minor": cashback_minor} if cashback_minor else {})
        return self._perform("purchase", _card(card), amount_minor, currency, **made)

    def increment(self, original: Request, amount_minor: int, card: Card | str | None = None) -> Request:
        """More of a hold, 0100 with DE 90; the card is the original's where none is given."""
        used = _card(card) if card is not None else _card(original.message.elements[2])
        return self._made(lambda now: self.acquirer.increment(original, used, amount_minor, now))

    def capture(self, original: Request, amount_minor: int, *, final: bool = True) -> Request:
        """The completion of a hold, 0220."""
        return self._made(lambda now: self.acquirer.capture(original, amount_minor, now, final=final))

    def reversal(self, original: Request, *, advice: bool = False) -> Request:
        """Take back in full, 0400 or 0420."""
        return self._made(lambda now: self.acquirer.reversal(original, now, advice=advice))

    def reduction(self, original: Request, left_minor: int, *, advice: bool = False) -> Request:
        """Take back a part of a hold: `left_minor` stays; 0400 or 0420 with DE 95."""
        return self._made(lambda now: self.acquirer.reduction(original, left_minor, now, advice=advice))

    def refund(
        self, card: Card | str, amount_minor: int, original: Request | None = None, currency: str = "EUR"
    ) -> Request:
        """A refund, 0200 with processing code 20."""
        used = _card(card)
        return self._made(lambda now: self.acquirer.refund(used, amount_minor, now, original, currency))

    def advice(self, card: Card | str, amount_minor: int, currency: str = "EUR", *, hold: bool = False) -> Request:
        """An approval by the terminal itself: 0220, or 0120 for a hold."""
        used = _card(card)
        return self._made(lambda now: self.acquirer.advice(used, amount_minor, currency, now, hold=hold))

    def reconciliation(self, currency: str = "EUR", *, day: str = "", advice: bool = False) -> Request:
        """Totals of a business day, 0500 or 0520; DE 66 of `response`."""
        return self._made(lambda now: self.acquirer.reconciliation(currency, now, day=day, advice=advice))

    def administrative(self, text: str, *, advice: bool = False) -> Request:
        """A text, 0600 or 0620."""
        return self._made(lambda now: self.acquirer.administrative(text, now, advice=advice))

    def cut_over(self, day: str) -> Request:
        """The business day `day` (MMDD) begins, 0800."""
        return self._made(lambda now: self.acquirer.cut_over(day, now))

    def send(self, mti: str, elements: Mapping[int, str], *, as_is: bool = False) -> Request:
        """Any message; DE 7, 11, 12, 13 and 37 are given anew unless `as_is`."""
        line = Line(mti, {str(number): value for number, value in elements.items()}, as_is=as_is)
        return self._made(lambda now: self._replay.request(line, now))

    def tell(self, message: Message) -> None:
        """Send one message whose answer nobody waits for."""
        self._background.call(self._client.exchange, message)

    def echo(self) -> None:
        self._background.call(self._tell_made, self.acquirer.echo)

    def sign_off(self) -> None:
        self._background.call(self._tell_made, self.acquirer.sign_off)

    def sign_on(self) -> None:
        self._background.call(self._tell_made, self.acquirer.sign_on)

    def exchange_key(self, kind: str) -> bool:
        """Send the switch a new key, `pin` or `mac`; whether it has it in force."""
        return self._background.call(self._client.exchange_key, kind)

    def run(self, **changes: Any) -> AcquirerReport:
        """Traffic as the scenario's [mix], [afterwards] and [run] say; `changes`: keys of [run].

        Raises:
            ScenarioError: the changes are wrong, or a load test leaves this machine.
        """
        bounds = msgspec.structs.replace(self._scenario.run, **changes)
        scenario = msgspec.structs.replace(self._scenario, run=bounds)
        if problems := scenario_problems(scenario):
            raise ScenarioError(self.name, tuple(problems))

        async def play() -> AcquirerReport:
            tally, begun = Tally(), trio.current_time()
            await Traffic(scenario, self._client, tally).run()
            await self._client.quiet()
            return report_of(self.acquirer, tally, trio.current_time() - begun)

        return self._background.call(play)

    # Faults, and results

    def fault(self, rule: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Add a fault rule: a table as in a scenario, or its keys. Raises ValueError with every problem."""
        made = fault_rule(rule, fields)
        if problems := acquirer_fault_problems(made):
            raise ValueError("; ".join(problems))
        assert self._client.faults is not None
        self._background.do(self._client.faults.add, made)

    def clear(self, name: str = "") -> int:
        """Remove the rules called `name`, or all; returns how many."""
        assert self._client.faults is not None
        return self._background.do(self._client.faults.clear, name)

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until late reversals are done. Raises SimulatorError."""

        async def quiet() -> None:
            with trio.fail_after(timeout_s):
                await self._client.quiet()

        self._background.call(quiet)

    def book(self) -> list[BookLine]:
        """Its book, one line a payment."""
        return self._background.do(lambda: list(self.acquirer.book()))

    def stop(self) -> None:
        """End it; its connections are closed then."""
        self._background.stop()

    def _perform(self, kind: str, *arguments: Any, **fields: Any) -> Request:
        make = getattr(self.acquirer, kind)
        return self._made(lambda now: make(*arguments, now, **fields))

    def _made(self, make: Callable[[Any], Request]) -> Request:
        async def perform() -> Request:
            return await self._client.perform(make(self._client.clock()))

        return self._background.call(perform)

    async def _tell_made(self, make: Callable[[Any], Message]) -> None:
        await self._client.exchange(make(self._client.clock()))


@contextmanager
def start_acquirer(
    scenario: Scenario | None = None,
    /,
    *,
    keys: Mapping[str, bytes] | None = None,
    zmk: bytes = b"",
    connect: bool = True,
    **changes: Any,
) -> Iterator[AcquirerSimulator]:
    """An acquirer that dials your switch (`dial`), or listens for it (`listen`).

    Args:
        scenario: a table as in a scenario file, such a file, or a scenario.
        keys: clear keys by name besides its test keys. zmk: the zone master key, where keys are exchanged.
        connect: wait for the first connection where it dials.
        changes: keys of the table to add or replace.
    Raises:
        ScenarioError: the scenario is wrong; everything that is wrong is listed.
        WireLost: nobody answers.
    """
    made = _scenario(scenario, changes)
    found: dict[str, Any] = {}

    async def serve(*, task_status: Any) -> None:
        async with open_scenario(made, keys, zmk=zmk, ready=lambda address: found.update(address=address)) as client:
            found["client"] = client
            task_status.started(found["address"])
            await trio.sleep_forever()

    background = Background(serve, f"acquirer {made.name}")
    try:
        simulator = AcquirerSimulator(made, background, found["client"], background.value)
        if connect and not made.listen:
            simulator.wait_connected(made.timeout_s)
        yield simulator
    finally:
        background.stop()


def _scenario(scenario: Scenario | None, changes: Mapping[str, Any]) -> AcquirerScenario:
    if isinstance(scenario, AcquirerScenario):
        return msgspec.structs.replace(scenario, **changes)
    if isinstance(scenario, str | Path):
        return msgspec.structs.replace(load_acquirer_scenario(str(scenario)), **changes)
    return acquirer_scenario_from({**(DEFAULT if scenario is None else scenario), **changes})


def _card(card: Card | str) -> Card:
    return Card(card) if isinstance(card, str) else card
