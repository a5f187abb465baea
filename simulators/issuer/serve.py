"""A simulated issuer as a process has it: a scenario and keys in, a listening or dialling issuer until cancelled.

Called by `cardswitch sim issuer`, the Python interface and tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog
import trio

from messages.address import address_of
from simulators.control import serve_control
from simulators.errors import BookError, ScenarioError, WireLost
from simulators.issuer.book import IssuerBook, encode_entry
from simulators.issuer.core import Issuer
from simulators.issuer.scenario import IssuerScenario, LinkScenario
from simulators.issuer.server import IssuerServer
from simulators.tls import TlsWire, tls_context
from simulators.wire import SocketListener, Wire, dial

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
WATCH_S = 0.05

log = structlog.get_logger("simulators.issuer")


async def serve_issuer(
    scenario: IssuerScenario,
    *,
    keys: dict[str, bytes],
    zmk: bytes = b"",
    control_path: Path | None = None,
    book_path: Path | None = None,
    ready: Callable[[tuple[str, int]], None] | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a simulated issuer until cancelled.

    Args:
        scenario: see `simulators.issuer.scenario`.
        keys: its clear keys by name, as from `hsm.keys.exchange.load_party_keys`.
        zmk: the zone master key, as from `hsm.keys.exchange.load_party_zmk`; b"" where no keys are exchanged.
        control_path: where the unix control socket is made; None for none.
        book_path: a file that keeps the book over a restart; None keeps it in memory.
        ready: called with the address once it listens.
        task_status: gets the address, for `nursery.start`.
    Raises:
        ScenarioError: a key of the scenario is not among `keys`.
        WireLost: the address cannot be had.
        BookError: the book file is broken.
    """
    keys = scenario.keys(keys)
    require_keys(scenario.key_names, keys, scenario)
    book = IssuerBook(scenario.name, keep_records=book_path is not None)
    writer = None if book_path is None else open_book(book, book_path)
    issuer = make_issuer(scenario, keys, book, zmk=zmk)
    server = IssuerServer(issuer, scenario, store=None if writer is None else writer.append)
    try:
        await serve_party(server, scenario, control_path=control_path, ready=ready, task_status=task_status)
    finally:
        if writer is not None:
            writer.close()


def require_keys(names: Iterable[str], keys: Mapping[str, bytes], scenario: LinkScenario) -> None:
    """Raise ScenarioError for each name that is not among `keys`."""
    missing = [name for name in names if name not in keys]
    if missing:
        raise ScenarioError(
            scenario.name, tuple(f"there is no key {name!r} for party {scenario.party!r}" for name in missing)
        )


def make_issuer(
    scenario: IssuerScenario, keys: Mapping[str, bytes], book: IssuerBook | None = None, *, zmk: bytes = b""
) -> Issuer:
    """The core of a scenario, with those of the keys that it names."""
    return Issuer(
        scenario,
        keys.get(scenario.pin_key, b""),
        book,
        mac_key=keys.get(scenario.mac_key, b""),
        zmk=zmk,
        cvk=keys.get(scenario.card_value_key, b""),
        imk=keys.get(scenario.cryptogram_key, b""),
    )


async def serve_party(
    server: IssuerServer,
    scenario: LinkScenario,
    *,
    control_path: Path | None = None,
    ready: Callable[[tuple[str, int]], None] | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen, or dial, and serve until cancelled; arguments and errors as of `serve_issuer`."""
    context = None if scenario.tls is None else tls_context(scenario.tls, serves=not scenario.dial)

    def secured(wire: Wire) -> Wire:
        if context is None or scenario.tls is None:
            return wire
        name = scenario.tls.server_name or address_of(scenario.dial)[0] if scenario.dial else ""
        return TlsWire(wire, context, server_name=name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run_started)
        if control_path is not None:
            await nursery.start(serve_control, control_path, server)
        if scenario.dial:
            address = address_of(scenario.dial)
            nursery.start_soon(_keep_dialling, server, address, secured)
        else:
            address = await nursery.start(_keep_listening, server, address_of(scenario.listen), secured)
        log.info("open", issuer=scenario.name, address=f"{address[0]}:{address[1]}", dials=bool(scenario.dial))
        if ready is not None:
            ready(address)
        task_status.started(address)


async def _keep_listening(
    server: IssuerServer,
    address: tuple[str, int],
    secured: Callable[[Wire], Wire],
    *,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections; where a fault refuses them, the port is closed for that time."""
    listener = SocketListener(address)
    address = listener.address
    task_status.started(address)
    async with trio.open_nursery() as nursery:
        while True:
            try:
                await _accept(server, listener, secured, nursery)
            finally:
                listener.close()
            await trio.sleep_until(server.refusing_until)
            server.listening = True
            listener = SocketListener(address)


async def _accept(
    server: IssuerServer, listener: SocketListener, secured: Callable[[Wire], Wire], nursery: trio.Nursery
) -> None:
    """Serve connections until the server listens no more."""

    async def watch(scope: trio.CancelScope) -> None:
        while server.listening:  # noqa: ASYNC110 (a fault, and seldom)
            await trio.sleep(WATCH_S)
        scope.cancel()

    async with trio.open_nursery() as watching:
        watching.start_soon(watch, watching.cancel_scope)
        while True:
            nursery.start_soon(server.serve, secured(await listener.accept()))


async def _keep_dialling(server: IssuerServer, address: tuple[str, int], secured: Callable[[Wire], Wire]) -> None:
    """Keep one connection to a switch that accepts."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            wire = await dial(address)
        except WireLost:
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            continue
        pause_s = FIRST_PAUSE_S
        await server.serve(secured(wire))
        await trio.sleep(FIRST_PAUSE_S)
        if not server.listening:  # a fault: the peer is to see nobody at all
            await trio.sleep_until(server.refusing_until)
            server.listening = True


class BookFile:
    """Appends records; written records survive the process, as the operating system has them."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, records: bytes) -> None:
        view = memoryview(records)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        os.close(self._descriptor)


def open_book(book: IssuerBook, path: Path) -> BookFile:
    """Read the book back, rewrite its file with one record an entry, and open it for more."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        try:
            book.restore(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BookError(f"{path}: {error}") from None
        compact = path.with_name(path.name + ".new")
        compact.write_bytes(b"".join(encode_entry(entry) for entry in book.entries()))
        compact.replace(path)
    return BookFile(path)
