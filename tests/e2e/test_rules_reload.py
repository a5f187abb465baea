"""Changes by an operator without a restart, on real processes: a right of a link goes and comes back."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import specs
from console.config import load_config
from console.supervisor import System
from simulators.acquirer import Acquirer, Card
from simulators.acquirer.book import Request
from tests.e2e.shop import Shop, new_acquirer, pos_address
from tests.e2e.terminal import Terminal, terminal
from tests.state import new_state

pytestmark = pytest.mark.xdist_group("e2e-rules")

VISA = Card("4242424242424242")
CONNECTIONS = 8  # enough for both workers to have some
CODES = 'processing_codes = ["00", "01", "09", "20", "30", "31", "33"]\n'
WITHOUT_REVERSALS = 'messages = ["0100", "0120", "0200", "0220", "05*", "06*"]\n'
NOT_PERMITTED = "type not permitted"  # DE 44


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    """The configuration of this system, which its tests edit."""
    folder = new_state("rules")
    path = folder / "cardswitch.toml"
    shutil.copy(Path(str(specs.__file__)).with_name("cardswitch.toml"), path)
    yield path
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def system(file: Path) -> Iterator[System]:
    with System.start(load_config(file, workers=2), file.parent / "state", ports="free", longest_pause_s=0.5) as one:
        yield one


@pytest.fixture(scope="module")
def acquirer(system: System) -> Acquirer:
    return new_acquirer(system, "10001", "TERM0001")


@pytest.fixture
def terminals(system: System, acquirer: Acquirer) -> Iterator[list[Terminal]]:
    """Connections of one acquirer, over both workers."""
    with ExitStack() as stack:
        yield [stack.enter_context(terminal(acquirer, pos_address(system))) for _ in range(CONNECTIONS)]


def reversed_with(pos: Terminal, payment: Request) -> tuple[str, str]:
    """DE 39 and DE 44 of the answer to a 0400 of a payment."""
    elements = pos.reverse(payment)[1].elements
    return elements[39], elements.get(44, "").rstrip()


def connections(shop: Shop) -> dict[int, int]:
    """Number of connections of the link pos in each worker."""
    rows = shop.command("link", "list", "--json")["links"]
    return {row["worker"]: row["connections"] for row in rows if row["link"] == "pos"}


def test_a_right_is_taken_away_and_given_back_without_a_dropped_connection(
    system: System, file: Path, terminals: list[Terminal]
) -> None:
    shop = Shop(system, terminals[0], [terminals[0].acquirer])
    shop.fill_accounts()
    original = file.read_text()
    pids = [system.pid(f"switch-{number}") for number in range(2)]
    before = connections(shop)
    assert sum(before.values()) == CONNECTIONS and all(before.values()), "each worker has some"
    for pos in terminals:
        payment, _ = pos.buy(VISA, 1_000)
        assert reversed_with(pos, payment) == ("00", "")
    payments = [pos.buy(VISA, 1_100)[0] for pos in terminals]

    file.write_text(original.replace(CODES, CODES + WITHOUT_REVERSALS, 1))
    done = shop.command("reload", "--json")
    assert [(row["worker"], row["taken"]) for row in done["workers"]] == [
        (0, ["acquirer[pos].permissions"]), (1, ["acquirer[pos].permissions"]),
    ]  # fmt: skip
    assert (done["restart"], done["away"]) == ([], [])
    for pos, payment in zip(terminals, payments, strict=True):
        assert reversed_with(pos, payment) == ("58", NOT_PERMITTED)
        assert pos.buy(VISA, 1_200)[1].elements[39] == "00", "a request that is still permitted, on the same connection"
    assert "0400" not in shop.command("link", "show", "pos", "--json")["permissions"]["messages"]
    assert connections(shop) == before and [system.pid(f"switch-{number}") for number in range(2)] == pids

    file.write_text(original.replace(CODES, CODES + 'messages = ["0999"]\n', 1))
    status, said = shop.output("reload")
    assert status == 2 and "acquirer[pos].permissions.messages: '0999' is none of 0100" in said.decode(), said
    assert reversed_with(terminals[0], payments[0])[0] == "58", "a file with errors changes nothing"

    file.write_text(original)
    assert shop.output("reload")[0] == 0
    for pos, payment in zip(terminals, payments, strict=True):
        assert reversed_with(pos, payment) == ("00", "")
    assert connections(shop) == before and [system.pid(f"switch-{number}") for number in range(2)] == pids
    shop.agree()


def test_what_needs_a_restart_is_named_with_its_processes_and_what_was_taken_outlives_a_worker(
    system: System, file: Path, terminals: list[Terminal]
) -> None:
    pos = terminals[0]
    shop = Shop(system, pos, [pos.acquirer])
    original = file.read_text()
    payment, _ = pos.buy(VISA, 1_300)
    text = original.replace(CODES, CODES + WITHOUT_REVERSALS, 1)
    text = text.replace('name = "pos"\n', 'name = "pos"\nmax_in_flight = 77\n', 1)
    text = text.replace('link = "gateway"', 'link = "gateway"\npool = 5\n', 1)
    try:
        file.write_text(text)
        done = shop.command("reload", "--json")
        assert [(row["setting"], row["processes"]) for row in done["restart"]] == [
            ("gateway.pool", ["gateway"]), ("acquirer[pos].max_in_flight", ["switch"]),
        ]  # fmt: skip
        status, said = shop.output("reload")
        lines = said.decode().splitlines()
        assert status == 0 and lines[0] == "worker 0: nothing new"
        assert [line.split() for line in lines[-2:]] == [
            ["gateway.pool", "gateway"], ["acquirer[pos].max_in_flight", "switch"],
        ]  # fmt: skip
        for number in range(2):
            pid = system.pid(f"switch-{number}")
            os.kill(pid, signal.SIGKILL)
            system.wait_child(f"switch-{number}", other_than=pid)
        system.wait_links()
        pos.reconnect()
        assert reversed_with(pos, payment) == ("58", NOT_PERMITTED)
    finally:
        file.write_text(original)
        assert shop.output("reload")[0] == 0
    assert reversed_with(pos, payment)[0] == "00"
