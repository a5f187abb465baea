"""A simulated network as a process has it: a scenario and keys in, a listening or dialling network until cancelled.

Called by `cardswitch sim network`, the Python interface and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from simulators.issuer.book import IssuerBook
from simulators.issuer.serve import open_book, require_keys, serve_party
from simulators.issuer.server import IssuerServer
from simulators.network.core import Network
from simulators.network.scenario import NetworkScenario


async def serve_network(
    scenario: NetworkScenario,
    *,
    keys: Mapping[str, bytes] | None = None,
    zmk: bytes = b"",
    control_path: Path | None = None,
    book_path: Path | None = None,
    ready: Callable[[tuple[str, int]], None] | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a simulated network until cancelled; arguments and errors as of `simulators.issuer.serve.serve_issuer`."""
    known = scenario.keys(keys or {})
    require_keys(scenario.key_names, known, scenario)
    book = IssuerBook(scenario.name, keep_records=book_path is not None)
    writer = None if book_path is None else open_book(book, book_path)
    network = Network(scenario, known, zmk=zmk, book=book)
    server = IssuerServer(network, scenario, store=None if writer is None else writer.append)
    try:
        await serve_party(server, scenario, control_path=control_path, ready=ready, task_status=task_status)
    finally:
        if writer is not None:
            writer.close()
