"""The whole switch in one process: workers, simulated issuers and acquirers on a network in memory."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import trio
import trio.testing

from hsm.algorithms.mac import AES_CMAC
from hsm.config import KeyConfig
from hsm.software import SoftwareHsm, software_keys
from ledger.memory import MemoryJournal
from messages.message import Message
from simulators.acquirer import Acquirer, AcquirerProfile
from simulators.acquirer.client import AcquirerClient
from simulators.errors import WireLost
from simulators.faults import FaultRule, FaultTable
from simulators.issuer import Issuer
from simulators.issuer.accounts import AccountRule
from simulators.issuer.scenario import IssuerScenario
from simulators.issuer.server import IssuerServer
from simulators.network import MemberScenario, Network, NetworkScenario
from switch.clock import TrioClock
from switch.config import SwitchConfig, switch_config
from switch.errors import WireError
from switch.links.memory_network import MemoryNetwork, Weather
from switch.links.network import Wire
from switch.links.settings import IssuerLink
from switch.worker import Worker, run_worker

START = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
LOST = (WireError, WireLost)
KEYS = (
    *(
        KeyConfig(name=name, usage=usage, party=name[4:])
        for name, usage in (("zpk-pos", "pin"), ("zak-pos", "mac"), ("zpk-alpha", "pin"), ("zpk-beta", "pin"))
    ),
    KeyConfig(name="zak-alpha", usage="mac", party="alpha", algorithm="ISO9797-1-ALG3"),
    KeyConfig(name="zak-beta", usage="mac", party="beta", algorithm="HMAC-SHA-256"),
    *(KeyConfig(name=f"zmk-{party}", usage="zmk", party=party) for party in ("pos", "alpha", "beta")),
)
PARTIES = {key.name: key.party for key in KEYS if key.usage != "zmk"}

TABLE: dict[str, Any] = {
    "switch": {"workers": 2, "metrics": "", "recovery_grace_s": 2.0, "payment_log": False},
    "acquirer": [
        {"name": "pos", "listen": "pos:1", "dialect": "iso87-ascii", "pin_key": "zpk-pos", "mac_key": "zak-pos"},
        {"name": "gateway", "listen": "gateway:1", "dialect": "iso87-ascii", "surrogate": True, "trace_element": 63},
    ],
    "issuer": [
        {
            "name": "alpha", "address": "alpha:1", "dialect": "iso87-ascii", "pin_key": "zpk-alpha",
            "mac_key": "zak-alpha", "trace_element": 63,
        },
        {
            "name": "beta", "address": "beta:1", "dialect": "iso87-bcd", "pin_key": "zpk-beta",
            "mac_key": "zak-beta", "mac_management": True, "trace_element": 63,
        },
    ],
    "route": [
        {"prefix": "4", "issuer": "alpha", "country": "US"},
        {"prefix": "5", "issuer": "beta", "country": "DE"},
    ],
    "fraud": [
        {
            "name": "amount-limit",
            "amount_over_minor": {"EUR": 1_000_000, "USD": 1_000_000},
            "other_currencies": "skip",
            "action": "decline",
        }
    ],
    "fees": {
        "rate": "0.029",
        "fixed_minor": {"EUR": 30, "USD": 30},
        "dispute_fee_minor": {"EUR": 1_500, "USD": 1_500},
        "other_currencies": "rate-only",
    },
    "merchant": [{"id": "DEMOSHOP", "country": "DE", "rate": "0.029", "fixed_minor": 0}],
}  # fmt: skip


RICH = AccountRule(balance_minor=5_000_000)
PREFIXES = {"alpha": ("4",), "beta": ("5",)}


class World:
    """Everything that exists beside the acquirers' wishes.

    Args:
        seed: of every random choice.
        weather: on the way to each address.
        faults: rules of each issuer, network and acquirer, by the name of its link.
        prefixes: BINs of issuers, by name; () for any.
        networks: issuers behind a network, by the name of its link; all others are issuers.
        acquirers: links that have a client.
        keys: more than `KEYS`, or in place of those of the same name.
        ksn: where the terminal starts, on an acquirer link with a `ksn_element`.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        seed: int = 0,
        *,
        config: SwitchConfig | None = None,
        weather: dict[str, Weather] | None = None,
        faults: dict[str, tuple[FaultRule, ...]] | None = None,
        prefixes: dict[str, tuple[str, ...]] = PREFIXES,
        networks: dict[str, tuple[MemberScenario, ...]] | None = None,
        acquirers: tuple[str, ...] = ("pos", "gateway"),
        timeout_s: float = 5.0,
        keys: tuple[KeyConfig, ...] = (),
        ksn: bytes = b"",
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = TrioClock(START)
        self.config = config or switch_config(TABLE)
        configured = {key.name: key for key in (*KEYS, *keys)}
        self._algorithms = {key.name: key.algorithm for key in configured.values()}
        self.ksn = ksn
        self.keys = software_keys(configured.values(), seed=seed)
        more = {key.name: key.party for key in keys if key.usage != "zmk" and f"zmk-{key.party}" in configured}
        parties = PARTIES | more
        self.hsm = SoftwareHsm(self.keys, seed=seed, parties=parties, now=lambda: self.clock.now().timestamp())
        self.journal = MemoryJournal(self._journal_pause)
        self.journal_delay_s = (0.0, 0.004)
        self.network = MemoryNetwork(random.Random(self.rng.random()), weather=weather)
        self.nursery = nursery
        self.workers: dict[int, tuple[Worker, trio.CancelScope]] = {}
        self.every_worker: list[Worker] = []
        rules = faults or {}
        self.issuers = {
            link.name: self._issuer(link, prefixes.get(link.name, ()), (networks or {}).get(link.name, ()), rules)
            for link in self.config.issuers
        }
        self.clients = {name: self._client(name, timeout_s, rules.get(name, ())) for name in acquirers}

    def value(self, name: str) -> bytes:
        """A clear key as it was at the start; b"" for no name."""
        return self.keys[name].value if name else b""

    async def open(self, workers: int = 2) -> None:
        """Start everything and wait until links are up."""
        for name, server in self.issuers.items():
            self.nursery.start_soon(self._serve_issuer, f"{name}:1", server)
            self.nursery.start_soon(server.run_started)
        for number in range(workers):
            await self.start_worker(number)
        for client in self.clients.values():
            await self.nursery.start(client.run)
        await trio.sleep(1.0)

    async def start_worker(self, number: int) -> Worker:
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED) -> None:
            with scope:
                await run_worker(
                    self.config,
                    self.journal,
                    self.hsm,
                    self.network,
                    clock=self.clock,
                    rng=random.Random(self.rng.random()),
                    number=number,
                    task_status=task_status,
                )

        worker: Worker = await self.nursery.start(run)
        self.workers[number] = (worker, scope)
        self.every_worker.append(worker)
        return worker

    def crash_worker(self, number: int) -> None:
        """End a worker at any point of its work."""
        self.workers.pop(number)[1].cancel()

    async def send_aside(self, client: AcquirerClient, message: Message, wait_s: float = 30.0) -> list[bytes]:
        """Send a message of an acquirer on a connection of its own and return the frames that come back."""
        name = client.acquirer.profile.link
        link = next(link for link in self.config.acquirers if link.name == name)
        wire = await self.network.dial(f"{name}:1", 3.0)
        form = link.framed(client.acquirer.codec.dialect)
        decoder, frames = form.decoder(), []
        try:
            await wire.send(form.encode(client.acquirer.encode(message)))
            with trio.move_on_after(wait_s):
                while not frames and (data := await wire.receive()):
                    frames += decoder.receive(data)
        finally:
            wire.close()
        return frames

    def counted(self, name: str, *labels: str) -> int:
        """A counter summed over the workers that are alive."""
        return sum(worker.meters.value(name, *labels) for worker, _ in self.workers.values())

    async def _journal_pause(self) -> None:
        await trio.sleep(self.rng.uniform(*self.journal_delay_s))

    def _issuer(
        self,
        link: IssuerLink,
        prefixes: tuple[str, ...],
        members: tuple[MemberScenario, ...],
        faults: dict[str, tuple[FaultRule, ...]],
    ) -> IssuerServer:
        kind = NetworkScenario if members else IssuerScenario
        own: dict[str, Any] = {"issuer": members} if members else {"prefixes": prefixes, "default": RICH}
        scenario = kind(
            name=link.name,
            dialect=link.dialect,
            framing=link.framing,
            pin_key=link.pin_key,
            pin_format=link.pin_format,
            mac_key=link.mac_key,
            mac_algorithm=self._algorithms.get(link.mac_key) or AES_CMAC,
            mac_management=link.mac_management,
            fault=faults.get(link.name, ()),
            seed=self.rng.getrandbits(32),
            trace_element=link.trace_element or 0,
            log_messages=False,
            **own,
        )
        zmk = self.value(f"zmk-{link.name}") if f"zmk-{link.name}" in self.keys else b""
        random_bytes = random.Random(self.rng.random()).randbytes
        if isinstance(scenario, NetworkScenario):
            known = {name: self.value(name) for name in scenario.key_names}
            network = Network(scenario, known, zmk=zmk, random_bytes=random_bytes)
            return IssuerServer(network, scenario, clock=self.clock.now, lost=LOST)
        issuer = Issuer(
            scenario,
            self.value(link.pin_key),
            mac_key=self.value(link.mac_key),
            zmk=zmk,
            random_bytes=random_bytes,
        )
        return IssuerServer(issuer, scenario, clock=self.clock.now, lost=LOST)

    async def _serve_issuer(self, address: str, server: IssuerServer) -> None:
        acceptor = await self.network.listen(address)
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(server.serve, await acceptor.accept())

    def _client(self, name: str, timeout_s: float, faults: tuple[FaultRule, ...]) -> AcquirerClient:
        link = next(link for link in self.config.acquirers if link.name == name)
        profile = AcquirerProfile(
            link=name,
            dialect=link.dialect,
            trace_element=link.trace_element or 0,
            pin_format=link.pin_format,
            ksn_element=link.ksn_element or 0,
            mac_algorithm=self._algorithms.get(link.mac_key) or AES_CMAC,
            mac_management=link.mac_management,
        )
        acquirer = Acquirer(
            profile,
            pin_key=self.value(link.pin_key),
            mac_key=self.value(link.mac_key),
            zmk=self.value(f"zmk-{name}") if link.mac_key else b"",
            ksn=self.ksn if link.ksn_element else b"",
            clock=self.clock.now,
            random_bytes=random.Random(self.rng.random()).randbytes,
        )

        async def connect() -> Wire:
            return await self.network.dial(f"{name}:1", 3.0)

        seed = self.rng.getrandbits(32)
        return AcquirerClient(
            acquirer,
            connect,
            framing_name=link.framing,
            header=link.header,
            header_bytes=bytes.fromhex(link.header_bytes),
            clock=self.clock.now,
            timeout_s=timeout_s,
            lost=LOST,
            seed=seed,
            faults=FaultTable(faults, seed),
        )


def play(script: Callable[[World], Awaitable[None]], seed: int = 0, **arguments: Any) -> None:
    """Run `script` in a world of its own, on a clock that jumps, with a scheduler that is seeded."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery, seed, **arguments)
            await script(world)
            nursery.cancel_scope.cancel()

    seed_scheduler(seed)
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def seed_scheduler(seed: int) -> None:
    """Make trio's choice among runnable tasks repeatable, as trio's own tests do."""
    runner = trio._core._run  # type: ignore[attr-defined]
    runner._ALLOW_DETERMINISTIC_SCHEDULING = True
    runner._r.seed(seed)
