"""`cardswitch bench flood`: waiting time of other acquirers while strangers flood the port of their link.

A system of its own starts in a temporary state directory, as for `bench switch`. Innocents pay at a fixed rate, whether
answers come or not, on the link that is flooded. Each kind of flood comes and goes in turns of 2.5 s meanwhile, so that
other work on the machine is the same for both sides of the comparison. Hostile peers are one process,
`simulators.load.hostile`, with bounded connections, rate and time, from a loopback address of its own.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import time
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from console.bench.children import output_of, started
from console.bench.state import bench_state
from console.bench.system import quiet, terminal_lane, warm_vault
from console.config import Config
from console.errors import ConsoleError, UsageError
from console.logging import configure
from console.supervisor import System
from simulators.load import LoadConfig, LoadResult
from simulators.load.generator import percentile_ms
from simulators.load.hostile import KINDS, FloodConfig, FloodResult, is_flooded
from simulators.load.mix import MixConfig
from simulators.load.population import population

BOUND = 1.5  # limit of a flood's effect on the acquirers' p99
CARDS = 500
WARM_UP_S = 2.0
WARM_AT_ONCE = 64
TURN_S = 2.5
UNCOUNTED_S = 0.5  # at the beginning of a turn, while the flood before it ends or its own begins
START_S = 3.0  # until the processes of a kind have started and prepared what they send
CONNECTIONS, MAX_WAITING = 4, 2_000  # of the innocents
# kind → connections, frames (or connections, or bytes) a second
SHAPES: dict[str, tuple[int, float]] = {
    "half-frames": (50, 500.0),
    "connect-storm": (0, 500.0),
    "idle-connections": (200, 0.0),
}
SHAPE = (3, 2_000.0)


Samples = tuple[Sequence[float], Sequence[float]]  # seconds until the answer: quiet, flooded


class FloodKind(msgspec.Struct, frozen=True):
    """One kind of flood: p99 of the innocents without and with it, and what it sent. `innocent_declines` counts
    innocents' requests that were not approved."""

    kind: str
    quiet_p99_ms: float
    flooded_p99_ms: float
    ratio: float
    innocent_declines: int
    quiet_p50_ms: float
    flooded_p50_ms: float
    connections: int
    rate_per_s: float
    sent: int
    closed: int


class FloodFigures(msgspec.Struct, frozen=True):
    """The figures, with what they were measured on."""

    kinds: list[FloodKind]
    innocents_per_s: float
    seconds: float
    workers: int
    processors: int


def run_flood_bench(config: Config, seconds: float, rate: float, only: list[str], as_json: bool, hold: bool) -> int:
    """Measure and print. Returns the exit status: 1 where a bound is broken and `hold` asks for that.

    Raises: StartError where the system does not start; ConsoleError where the load cannot be run; UsageError for a kind
    that there is not.
    """
    unknown = sorted(set(only) - set(KINDS))
    if unknown:
        raise UsageError(f"no such kind: {', '.join(unknown)}", f"kinds are {', '.join(KINDS)}")
    console = Console(stderr=as_json, highlight=False)
    figures = bench_flood(config, seconds, rate, only or list(KINDS), console)
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        _print(console, figures)
    broken = [kind.kind for kind in figures.kinds if kind.ratio > BOUND or kind.innocent_declines]
    return 1 if broken and hold else 0


def bench_flood(config: Config, seconds: float, rate: float, kinds: list[str], console: Console) -> FloodFigures:
    """The whole measurement; a progress bar on `console` where it is a terminal."""
    with bench_state() as state:
        configure("bench", state / "log" / "bench.jsonl", "warning")
        with Progress(
            TextColumn("{task.description:32}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
        ) as progress:
            whole = progress.add_task("floods", total=len(kinds) + 1)
            with System.start(quiet(config), state, ports="free") as system:
                asyncio.run(warm_vault(system.config, population(CARDS), WARM_AT_ONCE))
                innocents = _innocents(system.config, rate)
                with _load(state, innocents) as warm_up:  # caches, first connections
                    output_of(warm_up, "the load generator")
                progress.advance(whole)
                measured = []
                for kind in kinds:
                    progress.update(whole, description=kind)
                    measured.append(_measured(state, innocents, kind, seconds))
                    progress.advance(whole)
    return FloodFigures(measured, rate, seconds, config.switch.workers, os.cpu_count() or 0)


def _kind(kind: str, samples: Samples, load: LoadResult, flood: FloodResult) -> FloodKind:
    connections, rate = SHAPES.get(kind, SHAPE)
    quiet_p99_ms, flooded_p99_ms = (percentile_ms(side, 0.99) for side in samples)
    return FloodKind(
        kind=kind,
        quiet_p99_ms=quiet_p99_ms,
        flooded_p99_ms=flooded_p99_ms,
        ratio=round(flooded_p99_ms / quiet_p99_ms, 2) if quiet_p99_ms else 0.0,
        innocent_declines=load.sent - load.answers.get("00", 0),
        quiet_p50_ms=percentile_ms(samples[0], 0.5),
        flooded_p50_ms=percentile_ms(samples[1], 0.5),
        connections=connections,
        rate_per_s=rate,
        sent=flood.sent,
        closed=flood.closed,
    )


def _innocents(config: Config, rate: float) -> LoadConfig:
    return LoadConfig(
        pos=terminal_lane(config),
        mix=MixConfig(cards=CARDS, poor_cards=0, decline_share=0.0),
        seconds=WARM_UP_S,
        connections=CONNECTIONS,
        in_flight=MAX_WAITING,
        rate=rate,
        exchange=str(config.exchange_path),
    )


_stans = iter(range(1, 1_000_000, 20_000))


def _measured(state: Path, innocents: LoadConfig, kind: str, seconds: float) -> FloodKind:
    """Innocents in a process of their own, while the flood comes and goes."""
    connections, rate = SHAPES.get(kind, SHAPE)
    begins_at, turns = time.monotonic() + START_S, 2 * math.ceil(seconds / TURN_S)
    flood = FloodConfig(
        kind=kind,
        lane=msgspec.structs.replace(innocents.pos, acquirer_id="66666", first_stan=1),
        connections=connections,
        rate=rate,
        begins_at=begins_at,
        turns=turns,
        turn_s=TURN_S,
        exchange=innocents.exchange,
    )
    samples = state / "samples"
    load = msgspec.structs.replace(innocents, seconds=START_S + turns * TURN_S + UNCOUNTED_S, samples_path=str(samples))
    with _load(state, load) as loading, _hostile(state, flood) as flooding:
        load_result = msgspec.json.decode(output_of(loading, "the load generator"), type=LoadResult)
        flood_result = msgspec.json.decode(output_of(flooding, "the flood"), type=FloodResult)
    return _kind(kind, by_turn(samples.read_bytes(), begins_at, turns), load_result, flood_result)


def by_turn(data: bytes, begins_at: float, turns: int) -> Samples:
    """Seconds until the answer, of requests sent in quiet turns and in flooded ones, from the load generator's samples.

    Raises: ConsoleError where the load began too late.
    """
    values = array("d", data)
    quiet, flooded = array("d"), array("d")
    if not values or values[0] > begins_at:
        raise ConsoleError("the innocents began after the first turn", "run it on a machine that is less busy")
    for sent_at, seconds in zip(values[::2], values[1::2], strict=True):
        turn, into_s = divmod(sent_at - begins_at, TURN_S)
        if 0 <= turn < turns and into_s >= UNCOUNTED_S:
            (flooded if is_flooded(int(turn)) else quiet).append(seconds)
    return quiet, flooded


def _load(state: Path, config: LoadConfig) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Innocents; each run has numbers of its own."""
    file = state / "load.json"
    pos = msgspec.structs.replace(config.pos, first_stan=next(_stans))
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(config, pos=pos)))
    return started("simulators.load", str(file), errors=subprocess.PIPE)


def _hostile(state: Path, config: FloodConfig) -> AbstractContextManager[subprocess.Popen[bytes]]:
    file = state / "flood.json"
    file.write_bytes(msgspec.json.encode(config))
    return started("simulators.load.hostile", str(file), errors=subprocess.PIPE)


def _print(console: Console, figures: FloodFigures) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("flood", "quiet p99", "flooded p99", "ratio", "declines", "sent", "closed", box=SIMPLE_HEAD)
    for kind in figures.kinds:
        style = "bold red" if kind.ratio > BOUND or kind.innocent_declines else ""
        table.add_row(
            kind.kind,
            f"{kind.quiet_p99_ms:.1f} ms",
            f"{kind.flooded_p99_ms:.1f} ms",
            f"{kind.ratio:.2f}",
            f"{kind.innocent_declines}",
            f"{kind.sent:,}",
            f"{kind.closed:,}",
            style=style,
        )
    console.print(table)
    console.print(
        f"innocents {figures.innocents_per_s:g}/s on the flooded link, {figures.seconds:g} s without and with each; "
        f"{figures.workers} workers, {figures.processors} processors; bound {BOUND:g}"
    )
