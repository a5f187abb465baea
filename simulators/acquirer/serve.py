"""A simulated acquirer as a process has it: a scenario and keys in, connections, traffic, a report and a book out.

Called by `cardswitch sim acquirer`, the Python interface and tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from messages.address import address_of
from simulators.acquirer.client import AcquirerClient
from simulators.acquirer.core import Acquirer
from simulators.acquirer.replay import Line, Replay, read_lines
from simulators.acquirer.report import AcquirerReport, Tally
from simulators.acquirer.scenario import AcquirerScenario
from simulators.acquirer.traffic import Traffic
from simulators.book import write_book
from simulators.errors import ReplayError, SimulatorError, Unanswered, WireLost
from simulators.faults import FaultTable
from simulators.tls import TlsWire, tls_context
from simulators.wire import SocketListener, Wire, dial

Progress = Callable[[int], None]


def make_acquirer(scenario: AcquirerScenario, keys: Mapping[str, bytes], zmk: bytes = b"") -> Acquirer:
    """The core of a scenario, with those of the keys that it names. Raises ScenarioError for one that is missing."""
    known = scenario.keys(keys)
    return Acquirer(
        scenario.profile(),
        pin_key=known[scenario.pin_key] if scenario.pin_key else b"",
        mac_key=known[scenario.mac_key] if scenario.mac_key else b"",
        zmk=zmk,
        ksn=bytes.fromhex(scenario.ksn),
    )


@asynccontextmanager
async def open_scenario(
    scenario: AcquirerScenario,
    keys: Mapping[str, bytes] | None = None,
    *,
    zmk: bytes = b"",
    ready: Callable[[tuple[str, int]], None] | None = None,
) -> AsyncIterator[AcquirerClient]:
    """Connections as a scenario wants them, kept as long as the block runs.

    Args:
        keys: clear keys by name, besides the scenario's test keys. zmk: the zone master key; b"" for none.
        ready: called with the address that is dialled or listened on.
    Raises:
        ScenarioError: a key is missing.
        WireLost: the address to listen on cannot be had.
    """
    acquirer = make_acquirer(scenario, keys or {}, zmk)
    listener = SocketListener(address_of(scenario.listen)) if scenario.listen else None
    address = listener.address if listener is not None else address_of(scenario.dial)

    under = None if scenario.tls is None else tls_context(scenario.tls, serves=listener is not None)

    async def connect() -> Wire:
        wire = await (dial(address, scenario.timeout_s) if listener is None else listener.accept())
        if under is None or scenario.tls is None:
            return wire
        return TlsWire(wire, under, server_name=scenario.tls.server_name or ("" if listener else address[0]))

    client = AcquirerClient(
        acquirer,
        connect,
        framing_name=scenario.framing,
        max_frame=scenario.max_frame,
        header=scenario.header,
        header_bytes=bytes.fromhex(scenario.header_bytes),
        timeout_s=scenario.timeout_s,
        attempts=scenario.attempts,
        seed=scenario.seed,
        connections=scenario.connections,
        faults=FaultTable(scenario.fault, scenario.seed),
    )
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            if ready is not None:
                ready(address)
            yield client
            nursery.cancel_scope.cancel()
    except ExceptionGroup as errors:
        if (only := _only(errors)) is None:
            raise
        raise only from None
    finally:
        if listener is not None:
            listener.close()


async def run_scenario(
    scenario: AcquirerScenario,
    keys: Mapping[str, bytes] | None = None,
    *,
    zmk: bytes = b"",
    book_path: Path | None = None,
    progress: Progress | None = None,
    ready: Callable[[tuple[str, int]], None] | None = None,
    stopping: trio.Event | None = None,
) -> AcquirerReport:
    """Connect, replay or make up traffic, write the book.

    Args:
        progress: called with how many requests have been started after each.
        stopping: from when it is set, no more are started; those that were come to their end.
    Raises:
        WireLost: nobody answers at the address within the time-out.
        ReplayError: the file to replay is wrong.
    """
    async with open_scenario(scenario, keys, zmk=zmk, ready=ready) as client:
        lines = read_replay(scenario, client.acquirer) if scenario.replay else None
        if not await client.wait_connected(scenario.timeout_s):
            raise WireLost(f"no connection with {scenario.listen or scenario.dial} within {scenario.timeout_s:g} s")
        tally, begun = Tally(), trio.current_time()
        if lines is not None:
            await replay(client, lines, tally, progress, stopping)
        else:
            await Traffic(scenario, client, tally, progress, stopping).run()
        await client.quiet()
        report = report_of(client.acquirer, tally, trio.current_time() - begun)
    if book_path is not None:
        write_book(book_path, client.acquirer.book())
    return report


async def replay(
    client: AcquirerClient,
    lines: Sequence[Line],
    tally: Tally,
    progress: Progress | None = None,
    stopping: trio.Event | None = None,
) -> None:
    """Send messages of a file one after the other, each once the one before has its final state."""
    replayed, stopping = Replay(client.acquirer), trio.Event() if stopping is None else stopping
    for number, line in enumerate(lines, 1):
        with trio.move_on_after(line.wait_s):
            await stopping.wait()
        if stopping.is_set():
            return
        request, begun = replayed.request(line, client.clock()), trio.current_time()
        try:
            await client.perform(request)
        except Unanswered:
            tally.unanswered += 1
        direct = request.final and not request.repeats and request.reversal is None
        tally.count(request, trio.current_time() - begun if direct else None)
        if progress is not None:
            progress(number)


def read_replay(scenario: AcquirerScenario, acquirer: Acquirer) -> list[Line]:
    """The messages of a scenario's file. Raises ReplayError."""
    try:
        text = Path(scenario.replay).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"{scenario.replay}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    return read_lines(text, acquirer.codec, scenario.replay)


def report_of(acquirer: Acquirer, tally: Tally, seconds: float) -> AcquirerReport:
    """The results so far."""
    lines = list(acquirer.book())
    total = tally.total()
    return AcquirerReport(
        name=acquirer.profile.link,
        seconds=round(seconds, 3),
        per_s=round(total.count / seconds, 1) if seconds > 0 else 0.0,
        requests=total.count,
        unanswered=tally.unanswered,
        answers=dict(sorted(tally.answers.items())),
        received=acquirer.received,
        lines=len(lines),
        unsettled=sum(not line.settled for line in lines),
        total=total,
        kinds=tally.kinds(),
    )


def _only(errors: BaseException) -> BaseException | None:
    """The exception that a nursery has wrapped, where it is one of ours."""
    while isinstance(errors, BaseExceptionGroup) and len(errors.exceptions) == 1:
        errors = errors.exceptions[0]
    return errors if isinstance(errors, SimulatorError) else None
