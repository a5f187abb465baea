"""One worker of the switch: all its links, the pipeline, the advice senders and recovery, put together.

`console/` starts a process a worker and calls `run_worker`; simulations run several in one process. Workers share the
journal and the HSM and nothing else.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog
import trio

from hsm.commands import Dispatch, Hsm, HsmRefused, HsmUnavailable
from ledger.config import FeeTable
from ledger.journal import Journal, JournalUnavailable
from messages.address import address_of
from messages.message import Message
from switch.advices import AdviceSender
from switch.clock import Clock, SystemClock
from switch.config import SwitchConfig
from switch.control import ControlServer
from switch.decisions import Decisions
from switch.desk import Desk
from switch.events import EventLog
from switch.health import HealthServer
from switch.issuer_requests import MAX_UNDER_WAY, IssuerRequests
from switch.late_approvals import LateApprovals
from switch.links.acquirer_port import AcquirerPort
from switch.links.issuer_line import IssuerLine
from switch.links.key_exchange import KeyExchange, LinkKeyHsm
from switch.links.network import Network
from switch.links.session import Session
from switch.links.settings import AcquirerLink, IssuerLink, exchanged_keys
from switch.meters import Meters
from switch.online import Online
from switch.pipeline import Pipeline
from switch.recovery import Recovery
from switch.reload import Read, Reloader

log = structlog.get_logger("switch.worker")

LINK_SHARE = 0.5  # of a worker's places, for one acquirer link where there are several
READY_TIMEOUT_S = 2.0
SWITCH_INTERVAL_S = 0.0005


class SwitchHsm(Hsm, LinkKeyHsm, Protocol):
    """A worker's calls to the hsm."""


class Worker:
    """The parts of one worker. `ports`, `lines`, `senders` and `exchanges` are by link name; `health_address` is ""
    for none."""

    def __init__(
        self,
        config: SwitchConfig,
        journal: Journal,
        hsm: SwitchHsm,
        network: Network,
        nursery: trio.Nursery,
        *,
        clock: Clock,
        rng: random.Random,
        number: int,
        write_events: Callable[[bytes], object] | None,
        read: Read | None = None,
    ) -> None:
        self.name = f"{number}-{rng.getrandbits(48):012x}"  # unlike that of a worker before a restart
        self.number = number
        self.meters = Meters()
        self.health_address = ""
        self._config = config
        self._journal = journal
        self._hsm = hsm
        self._nursery = nursery
        self._draining = False
        self.events = EventLog(write_events, self.meters) if write_events is not None else None
        self.senders: dict[str, AdviceSender] = {}
        fees = FeeTable(config.fees, config.merchants)
        self.decisions = Decisions(
            journal, fees, clock, self.meters, self._advised, config.settings.unreferenced_refunds
        )
        self.desk = Desk(journal, self.decisions, self.meters)
        self.issuer_requests = IssuerRequests(journal, hsm, self.decisions, self.desk, clock, self.meters, rng)
        self.recovery = Recovery(
            journal, self.decisions, self.desk, clock, self.meters, rng, config.settings.recovery_grace_s
        )
        self.lines = {
            link.name: IssuerLine(
                link, network, clock, rng, hsm, self.meters, self._from_issuer, partial(self._advised, link.name)
            )
            for link in config.issuers
        }
        self.late_approvals = LateApprovals(journal, self.decisions, clock, self.meters, rng)
        for line in self.lines.values():
            line.approved_late = partial(self.late_approvals.take, nursery=nursery)
        self.online = Online(config, journal, hsm, clock, self.meters, self.decisions, self.lines)
        self.pipeline = Pipeline(
            config, journal, hsm, clock, rng, self.meters, self.events, self.decisions, self.online, self.desk,
            self.lines, nursery, self.name,
        )  # fmt: skip
        self.ports = {
            link.name: AcquirerPort(
                link, network, clock, rng, hsm, self.meters, self.pipeline.accept, self.pipeline.refuse,
                partial(self._advised, link.name), places=_share(config),
            )
            for link in config.acquirers
        }  # fmt: skip
        self._make_senders(rng)
        self.exchanges = self._key_exchanges(clock, rng)
        links = {**self.lines, **self.ports}
        self.reloader = Reloader(
            number, config, self.online, self.senders, links, self.meters, read, self._certificates
        )
        self._gauges()

    def _make_senders(self, rng: random.Random) -> None:
        for line in self.lines.values():
            self.senders[line.name] = AdviceSender(
                line, self._journal, self._hsm, self.meters, rng, timeout_s=line.link.advice_timeout_s,
                trace_element=line.trace_element, holder=self.name,
            )  # fmt: skip
        for port in self.ports.values():
            self.senders[port.name] = AdviceSender(
                port, self._journal, self._hsm, self.meters, rng, timeout_s=port.link.advice_timeout_s,
                trace_element=port.link.trace_element, holder=self.name,
            )  # fmt: skip
        for sender in self.senders.values():
            sender.settings = self._config.saf
        self.online.full = lambda link: self.senders[link].full

    def _key_exchanges(self, clock: Clock, rng: random.Random) -> dict[str, KeyExchange]:
        """One for each link that has keys to exchange."""
        exchanges: dict[str, KeyExchange] = {}
        parts: list[IssuerLine | AcquirerPort] = [*self.lines.values(), *self.ports.values()]
        for part in parts:
            keys = exchanged_keys(part.link)
            if not keys:
                continue
            part.reception.keys = exchanges[part.name] = KeyExchange(
                part.name, keys, partial(_sessions_of, part), self._hsm, self._journal, clock, self.meters, rng,
                holder=self.name, timeout_s=part.link.advice_timeout_s,
            )  # fmt: skip
        return exchanges

    def warn_of_unproved_links(self) -> None:
        """One line a link whose peer proves nothing, by the first worker only."""
        links: list[IssuerLink | AcquirerLink] = [*self._config.issuers, *self._config.acquirers]
        for link in links if self.number == 0 else ():
            if not link.identity:
                address = link.listen or link.address
                log.warning("link_without_proof_of_identity", link=link.name, address=address)

    def _certificates(self) -> list[str]:
        """Have all links take their certificates again; those that cannot."""
        parts = {**self.lines, **self.ports}
        return [name for name, part in parts.items() if not part.connections.reload_certificates()]

    def _gauges(self) -> None:
        gauge = self.meters.gauge
        gauge("in_flight", "Requests being served.", lambda: {"all": self.pipeline.in_flight})
        gauge("pending", "Requests waiting for an issuer.", lambda: {n: x.pending for n, x in self.lines.items()})
        links = {**self.lines, **self.ports}
        # Acquirers that dial may be away with good reason.
        ours = {**self.lines, **{name: port for name, port in self.ports.items() if port.link.dials}}
        gauge("link_up", "Links signed on.", lambda: {n: x.connections.carries_traffic for n, x in ours.items()})
        gauge("connections", "Connections.", lambda: {n: len(x.sessions) for n, x in links.items()})
        ends = {n: x.connections.certificate_ends_s for n, x in links.items() if x.connections.tls is not None}
        gauge("certificate_ends_seconds", "Until our certificate ends.", lambda: {n: s() for n, s in ends.items()})
        gauge("advice_backlog", "Advices seen waiting.", lambda: {n: x.backlog for n, x in self.senders.items()})
        seen = self.senders
        gauge("saf_waiting", "Stored advices waiting.", lambda: {n: x.seen.waiting for n, x in seen.items()})
        gauge("saf_parked", "Stored advices put aside.", lambda: {n: x.seen.parked for n, x in seen.items()})
        gauge("saf_oldest_seconds", "Age of the first of them.", lambda: {n: x.seen.oldest_s for n, x in seen.items()})
        gauge("ledger_behind_seconds", "Since everything had seals and MACs.", self._journal.sealing_behind_s)
        gauge("circuit", "Circuit breaker: 0 closed, 1 half-open, 2 open.", self.online.choice.levels)

    def _advised(self, link: str) -> None:
        sender = self.senders.get(link)
        if sender is not None:
            sender.wake()

    def _from_issuer(self, line: IssuerLine, session: Session, message: Message, frame: bytes) -> None:
        if self._draining or self.issuer_requests.under_way >= MAX_UNDER_WAY:
            self.meters.count("unanswered", "draining" if self._draining else "overloaded")
            return
        self.issuer_requests.under_way += 1
        self._nursery.start_soon(self._serve_issuer, line, session, message, frame)

    async def _serve_issuer(self, line: IssuerLine, session: Session, message: Message, frame: bytes) -> None:
        try:
            await self.issuer_requests.serve(line, session, message, frame)
        except Exception:
            self.meters.count("failures", "issuer_requests")
            log.exception("issuer_request_failed", link=line.name)
        finally:
            self.issuer_requests.under_way -= 1

    def key_exchange_hours(self, name: str) -> float:
        """After how many hours the keys of a link are renewed; 0: never by themselves."""
        part = self.lines.get(name) or self.ports[name]
        return part.link.key_exchange_hours

    async def ready(self) -> dict[str, bool]:
        """The content of /readyz."""
        return {
            "journal": await self._journal_answers(),
            "hsm": await self._hsm_answers(),
            "issuer": any(line.connections.carries_traffic for line in self.lines.values()),
        }

    async def _journal_answers(self) -> bool:
        try:
            with trio.move_on_after(READY_TIMEOUT_S):
                await self._journal.original(0)
                return True
        except JournalUnavailable:
            pass
        return False

    async def _hsm_answers(self) -> bool:
        """A card that does not exist: a refusal is an answer."""
        try:
            with trio.move_on_after(READY_TIMEOUT_S):
                await self._hsm.dispatch(Dispatch(token=""))
                return True
        except HsmRefused:
            return True
        except HsmUnavailable:
            pass
        return False

    @property
    def _busy(self) -> bool:
        # A request with a place no longer waits, and is not in the pipeline yet: the place itself counts it.
        let_in = any(port.gate.waiting or port.gate.in_flight for port in self.ports.values())
        from_issuers = self.issuer_requests.under_way or self.late_approvals.busy
        return bool(let_in or self.pipeline.in_flight or from_issuers)

    async def drain(self) -> None:
        """Take no new work, finish what is in flight, within `drain_s`; then say goodbye on all connections.

        Issuer links stay signed on to the end: accepted requests may still have to go to an issuer.
        """
        self._draining = True
        for port in self.ports.values():
            port.drain()
        with trio.move_on_after(self._config.settings.drain_s):
            while self._busy:  # noqa: ASYNC110 (counters, once a process)
                await trio.sleep(0.02)
        for line in self.lines.values():
            line.drain()
        async with trio.open_nursery() as nursery:
            for part in (*self.ports.values(), *self.lines.values()):
                nursery.start_soon(part.connections.end)


async def run_worker(
    config: SwitchConfig,
    journal: Journal,
    hsm: SwitchHsm,
    network: Network,
    *,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    number: int = 0,
    stopping: trio.Event | None = None,
    control_path: Path | None = None,
    write_events: Callable[[bytes], object] | None = None,
    read: Read | None = None,
    task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a worker until cancelled, or until `stopping` is set and it has drained.

    Args:
        number: 0 … workers - 1; moves the metrics port.
        stopping: set it on SIGTERM.
        control_path: where the unix control socket is made; None for none.
        write_events: takes lines of JSON, one an answered request; standard error by default where
            `payment_log` is on.
        read: reads the configuration again, for a reload; None for none.
        task_status: is given the `Worker` once all ports are taken.

    Raises:
        WireError: a port or the control socket cannot be had.
    """
    if write_events is None and config.settings.payment_log:
        write_events = _to_standard_error
    stopping = trio.Event() if stopping is None else stopping
    async with trio.open_nursery() as nursery:
        worker = Worker(
            config, journal, hsm, network, nursery,
            clock=clock or SystemClock(), rng=rng or random.Random(), number=number, write_events=write_events,
            read=read,
        )  # fmt: skip
        parts = (*worker.lines.values(), *worker.ports.values())
        for part in parts:
            await part.listen()
        if config.settings.metrics:
            host, first = address_of(config.settings.metrics)
            health = HealthServer(worker.meters.exposition, worker.ready)
            address = f"{host}:{first + number if first else 0}"
            worker.health_address, listeners = await health.listen(address)
            nursery.start_soon(health.run, listeners)
        if worker.events is not None:
            nursery.start_soon(worker.events.flush_all)
        for part in parts:
            nursery.start_soon(part.run)
        for sender in worker.senders.values():
            nursery.start_soon(sender.run)
            nursery.start_soon(sender.watch)
        nursery.start_soon(worker.recovery.run)
        for name, exchange in worker.exchanges.items():
            nursery.start_soon(exchange.run, worker.key_exchange_hours(name))
        if control_path is not None:
            control = ControlServer(
                worker.number, worker.lines, worker.ports, worker.senders, worker.exchanges, worker.online.choice,
                worker.reloader,
            )  # fmt: skip
            await nursery.start(control.run, control_path)
        worker.warn_of_unproved_links()
        log.info("worker_started", worker=worker.name, ports={n: port.address for n, port in worker.ports.items()})
        task_status.started(worker)
        await stopping.wait()
        await worker.drain()
        nursery.cancel_scope.cancel()
    log.info("worker_stopped", worker=worker.name)


def _share(config: SwitchConfig) -> int:
    """Number of a worker's places that one acquirer link may take: not all of them, where there are others."""
    places = config.settings.max_in_flight
    return places if len(config.acquirers) < 2 else max(1, int(places * LINK_SHARE))


def _sessions_of(part: IssuerLine | AcquirerPort) -> Sequence[Session]:
    return part.sessions


def _to_standard_error(lines: bytes) -> None:
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()
