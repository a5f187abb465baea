"""`cardswitch bench switch`: authorizations a second of a whole system on this machine, beside a bare relay.

A system of its own starts in a temporary state directory (fsync on), the vault gets to know the cards, the load
generator runs as a process of its own, the queues drain and the books are compared. Then the same frames go through a
relay that does not look into them.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from console.bench.children import output_of, started
from console.bench.state import bench_state
from console.bench.system import quiet, terminal_lane, warm_vault
from console.config import Config
from console.logging import configure
from console.process_table import cpu_s
from console.prove_command import books_directory, proof_of
from console.supervisor import System
from hsm.vault_commands import CardToken
from simulators.load import LoadConfig, LoadResult
from simulators.load.lane import LaneConfig
from simulators.load.mix import MixConfig
from simulators.load.population import POOR, population

GROUPS = ("switch", "hsm", "postgresql", "issuers", "load")
CARDS, POOR_CARDS, SURROGATES = 20_000, 2_000, 10_000
WARM_AT_ONCE = 256
WARM_UP_S = 1.0
RELAY_S = 3.0
DRAIN_S = 60.0
CONNECTIONS = 4


class BenchResult(msgspec.Struct, frozen=True):
    """The figures; `cpu_s` by process group, `relay_ratio` is the switch's rate over the relay's."""

    authorizations_per_s: float
    p50_ms: float
    p99_ms: float
    relay_per_s: float
    relay_ratio: float
    cpu_s: dict[str, float]
    workers: int
    prove_differences: int


def run_bench(config: Config, seconds: float, in_flight: int, as_json: bool) -> int:
    """Measure and print. Returns the exit status: 1 where the books do not agree.

    Raises: StartError where the system does not start; ConsoleError where the load cannot be run.
    """
    console = Console(stderr=as_json, highlight=False)
    result, load = bench_switch(config, seconds, in_flight, console)
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _print(console, result, load)
    return 1 if result.prove_differences else 0


def bench_switch(config: Config, seconds: float, in_flight: int, console: Console) -> tuple[BenchResult, LoadResult]:
    """The whole measurement; a progress bar on `console` where it is a terminal."""
    with bench_state() as state:
        configure("bench", state / "log" / "bench.jsonl", "warning")
        with Progress(
            TextColumn("{task.description:32}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
        ) as progress:
            with System.start(quiet(config), state, ports="free") as system:
                surrogates = asyncio.run(_warm_vault(system, progress))
                load_config = _load_config(system.config, seconds + WARM_UP_S, in_flight, surrogates)
                before = _cpu(system)
                load = _run_load(state, load_config, progress, "authorizations")
                used = {group: round(after - before[group], 2) for group, after in _cpu(system).items()}
                differences = _drained(system, progress)
            relay = _run_relay(state, load_config, min(seconds, RELAY_S), progress)
    return _result(config, load, relay, used, differences), load


def _result(
    config: Config, load: LoadResult, relay: LoadResult, used: dict[str, float], differences: int
) -> BenchResult:
    return BenchResult(
        authorizations_per_s=round(load.per_s, 1),
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        relay_per_s=round(relay.per_s, 1),
        relay_ratio=round(load.per_s / relay.per_s, 4) if relay.per_s else 0.0,
        cpu_s={**{group: used.get(group, 0.0) for group in GROUPS}, "load": round(load.cpu_s, 2)},
        workers=config.switch.workers,
        prove_differences=differences,
    )


async def _warm_vault(system: System, progress: Progress) -> tuple[str, ...]:
    """Make every card known to the vault; returns surrogates of some."""
    cards = population(CARDS)
    everyone = [*cards, *population(POOR_CARDS, POOR)]
    task = progress.add_task("cards into the vault", total=len(everyone))
    surrogates: dict[str, str] = {}

    def stored(pan: str, token: CardToken) -> None:
        surrogates[pan] = token.surrogate
        progress.advance(task)

    await warm_vault(system.config, everyone, WARM_AT_ONCE, stored)
    progress.remove_task(task)
    return tuple(surrogates[pan] for pan in cards[:SURROGATES])


def _load_config(config: Config, seconds: float, in_flight: int, surrogates: tuple[str, ...]) -> LoadConfig:
    gateway = next(link for link in config.acquirer if link.surrogate)
    return LoadConfig(
        pos=terminal_lane(config),
        gateway=LaneConfig(
            link=gateway.name,
            address=config.placed(gateway).listen,
            dialect=gateway.dialect,
            acquirer_id=config.gateway.acquirer_id,
            trace_element=gateway.trace_element or 0,
        ),
        mix=MixConfig(cards=CARDS, poor_cards=POOR_CARDS),
        surrogates=surrogates,
        seconds=seconds,
        warmup_s=WARM_UP_S,
        connections=CONNECTIONS,
        in_flight=in_flight,
        exchange=str(config.exchange_path),
        book_path=str(books_directory(config) / "load.jsonl"),
    )


def _run_load(state: Path, config: LoadConfig, progress: Progress, title: str) -> LoadResult:
    """The load generator in a process of its own."""
    file = state / "load.json"
    file.write_bytes(msgspec.json.encode(config))
    task = progress.add_task(title, total=config.seconds)
    began = time.monotonic()
    with started("simulators.load", str(file), errors=subprocess.PIPE) as load:
        while load.poll() is None:
            progress.update(task, completed=min(config.seconds, time.monotonic() - began))
            time.sleep(0.1)
        output = output_of(load, "the load generator")
    progress.remove_task(task)
    return msgspec.json.decode(output, type=LoadResult)


def _run_relay(state: Path, config: LoadConfig, seconds: float, progress: Progress) -> LoadResult:
    """The same frames through a relay to an echo and back."""
    with (
        started("simulators.load.relay", "echo", "127.0.0.1:0", errors=subprocess.PIPE) as echo,
        started("simulators.load.relay", "relay", "127.0.0.1:0", _address(echo), errors=subprocess.PIPE) as relay,
    ):
        address = _address(relay)
        replace = msgspec.structs.replace
        bare = replace(
            config,
            pos=replace(config.pos, address=address),
            gateway=replace(config.gateway, address=address) if config.gateway else None,
            seconds=seconds + WARM_UP_S / 2,
            warmup_s=WARM_UP_S / 2,
            bare=True,
        )
        result = _run_load(state, bare, progress, "bare relay")
        for process in (relay, echo):
            process.terminate()
    return result


def _address(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def _cpu(system: System) -> dict[str, float]:
    return {group: sum(map(cpu_s, pids)) for group, pids in system.pids_by_group().items()}


def _drained(system: System, progress: Progress) -> int:
    """Number of differences once the queues are empty."""
    task = progress.add_task("books", total=None)
    proof = proof_of(system.config, DRAIN_S)
    progress.remove_task(task)
    return len(proof.differences)


def _print(console: Console, result: BenchResult, load: LoadResult) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_row("authorizations", f"[bold]{result.authorizations_per_s:,.0f}/s[/]")
    table.add_row("latency", f"p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms, longest {load.max_ms:.0f} ms")
    table.add_row("answers", ", ".join(f"{code}: {count:,}" for code, count in load.answers.items()))
    if load.unanswered:
        table.add_row("without an answer", f"{load.unanswered:,}, of these reversed or repeated {load.settled:,}")
    table.add_row("bare relay", f"{result.relay_per_s:,.0f}/s; the switch reaches {result.relay_ratio:.1%} of it")
    spent: Any = ", ".join(f"{group} {seconds:.1f}" for group, seconds in result.cpu_s.items())
    table.add_row("CPU seconds", spent)
    table.add_row("switch workers", str(result.workers))
    style = "bold red" if result.prove_differences else "bold green"
    table.add_row(
        "prove", f"[{style}]{result.prove_differences or 'no'} difference{'s' * (result.prove_differences != 1)}[/]"
    )
    console.print(table)
