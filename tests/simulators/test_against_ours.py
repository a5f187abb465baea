"""The plugin's fixtures around our own switch: a worker on real sockets between acquirers, an issuer and a network."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog

from hsm.config import KeyConfig
from hsm.software import SoftwareHsm, software_keys
from ledger.memory import MemoryJournal
from simulators.testing import Card, State, differences
from simulators.testing.background import Background
from switch.config import switch_config
from switch.links.network import SocketNetwork
from switch.worker import run_worker

pytest_plugins = ["simulators.pytest_plugin"]

KEYS = software_keys(
    [
        *(KeyConfig(name=f"zpk-{party}", usage="pin", party=party) for party in ("pos", "alpha", "net")),
        *(KeyConfig(name=f"zak-{party}", usage="mac", party=party) for party in ("pos", "alpha", "net")),
    ],
    seed=5,
)
HEX = {name: key.value.hex() for name, key in KEYS.items()}
LINK = {"dialect": "iso87-bcd", "framing": "4-byte-be"}
PAN, BEHIND = "4242424242424242", "6011111111111117"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.configure(**before)


class Ours:
    """A worker of ours, and its ledger."""

    def __init__(self, issuer: str, network: str) -> None:
        self.journal = MemoryJournal()
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"
        # Half a frame and silence is found by echoes only.
        quick = {"deadline_s": 0.3, "advice_timeout_s": 0.3, "reconnect_s": 0.05, "echo_s": 0.3, "missed_echoes": 2}
        pos = {"name": "pos", "listen": self.address, "pin_key": "zpk-pos", "mac_key": "zak-pos", **LINK}
        alpha = {"name": "alpha", "address": issuer, "dialect": "iso87-ascii", **quick}
        net = {"name": "net", "address": network, "dialect": "iso87-ebcdic", **quick}
        for link in (alpha, net):
            link |= {"pin_key": f"zpk-{link['name']}", "mac_key": f"zak-{link['name']}"}
        config = switch_config(
            {
                "switch": {"payment_log": False, "recovery_grace_s": 0.2},
                "acquirer": [pos],
                "issuer": [alpha, net],
                "route": [{"prefix": "4", "issuer": "alpha"}, {"prefix": "6", "issuer": "net"}],
                "fees": {"fixed_minor": 0, "dispute_fee_minor": 0},
            }
        )

        async def serve(*, task_status: Any) -> None:
            await run_worker(
                config,
                self.journal,
                SoftwareHsm(KEYS),
                SocketNetwork({self.address: self._sock.detach()}),
                rng=random.Random(5),
                task_status=task_status,
            )

        self.background = Background(serve, "switch")

    def drained(self) -> bool:
        """Whether nothing is under way."""
        waiting = [self.background.call(self.journal.backlog, link, 1).waiting for link in ("alpha", "net", "pos")]
        return not any(waiting) and all(line.decided for line in self.background.do(self.journal.book))


@pytest.fixture
def system(
    issuer_simulator: Callable[..., Any], network_simulator: Callable[..., Any], acquirer_simulator: Callable[..., Any]
) -> Iterator[tuple[Any, Any, Any, Ours]]:
    def keyed(name: str) -> dict[str, Any]:
        return {"name": name, "pin_key": f"zpk-{name}", "mac_key": f"zak-{name}", "test_keys": HEX}

    issuer = issuer_simulator(keyed("alpha") | {"default": {"balance_minor": 1_000_000}})
    members = [{"name": "disc", "prefixes": ["6"], "default": {"balance_minor": 1_000_000}}]
    network = network_simulator(keyed("net") | {"dialect": "iso87-ebcdic", "issuer": members})
    ours = Ours(issuer.address, network.address)
    with ExitStack() as stack:
        stack.callback(ours.background.stop)
        issuer.wait_connected()
        network.wait_connected()
        acquirer = acquirer_simulator(keyed("pos") | LINK | {"dial": ours.address, "timeout_s": 1.0, "connections": 2})
        yield issuer, network, acquirer, ours


def test_payments_go_through_to_both(system: tuple[Any, Any, Any, Ours]) -> None:
    issuer, network, acquirer, _ = system
    assert acquirer.purchase(Card(PAN, pin="1234"), 2500).response_code == "00"
    assert acquirer.purchase(Card(PAN, pin="4321"), 2500).response_code == "55"
    hold = acquirer.authorization(BEHIND, 900)
    assert hold.response_code == "00"
    assert acquirer.capture(hold, 400).response_code == "00"
    issuer.fault(kind="decline", response_code="61", amount_minor=777)
    assert acquirer.purchase(PAN, 777).response_code == "61"
    network.wait_for(lambda: not differences(acquirer.book(), [*issuer.book(), *network.book()]))


def test_what_is_answered_late_is_undone_and_all_books_agree(system: tuple[Any, Any, Any, Ours]) -> None:
    issuer, network, acquirer, ours = system
    issuer.fault(kind="late", delay_s=0.6, count=3)
    network.fault(kind="half-frame", count=1)
    network.fault(kind="wrong-stan", count=1)
    acquirer.fault(kind="disconnect-after", nth=4)
    acquirer.fault(kind="garbage", nth=6)
    acquirer.fault(kind="late-reversal", delay_s=0.1, rate=0.3)
    requests = [acquirer.purchase(pan, 100 + number) for number in range(6) for pan in (PAN, BEHIND)]
    acquirer.settle()
    assert {request.state for request in requests} <= {State.APPROVED, State.DECLINED, State.REVERSED}
    issuer.wait_for(ours.drained, 20)
    assert differences(acquirer.book(), [*issuer.book(), *network.book()]) == []
    ledger = {line.key: (line.held_minor, line.posted_minor) for line in ours.background.do(ours.journal.book)}
    told = {line.key: (line.held_minor, line.posted_minor) for line in acquirer.book()}
    assert {key: sums for key, sums in told.items() if key in ledger} == ledger
