"""`cardswitch bench flood`: waiting time of other acquirers while strangers flood the port of their link.

A system of its own starts in a temporary state directory, as for `bench switch`. Innocents pay at a fixed rate, whether
answers come or not, on the link that is flooded. Each kind of flood comes and goes in turns of 2.5 s meanwhile, so that
other work on the machine is the same for both sides of the comparison. Hostile peers are one process,
`simulators.load.hostile`, with bounded connections, rate and time, from a loopback address of its own.

The p99 of some hundred requests is the waiting time of a handful, and varies by itself: a kind whose ratio is above
the bound is measured again, and all its samples count; and one measurement is without any flood.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from console.bench.children import output_of, started
from console.bench.state import bench_state
from console.bench.system import quiet, terminal_lane, warm_vault
from console.config import Config
from console.errors import ConsoleError, UsageError
from console.logging import configure
from console.process_table import cpu_s
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
UNCOUNTED_S = 0.5  # at the beginning of a quiet turn, while the flood before it ends
ROUNDS = 3  # measurements of a kind at most, whose samples are put together
NONE = "none"  # the name of the measurement without a flood
START_S = 6.0  # until the processes of a kind have started and prepared what they send
CONNECTIONS, MAX_WAITING = 4, 2_000  # of the innocents
# kind → connections, frames (or connections, or bytes) a second
SHAPES: dict[str, tuple[int, float]] = {
    "half-frames": (50, 500.0),
    "connect-storm": (0, 500.0),
    "idle-connections": (200, 0.0),
}
SHAPE = (3, 2_000.0)


Samples = tuple[Sequence[float], Sequence[float]]  # seconds until the answer: quiet, flooded


class Round(NamedTuple):
    """One measurement of a kind. `processors`: CPU seconds a second of workers and hsm: quiet, flooded."""

    samples: Samples
    load: LoadResult
    flood: FloodResult
    processors: tuple[float, float]


class FloodKind(msgspec.Struct, frozen=True):
    """One kind of flood: p99 of the innocents without and with it, and what it sent. `innocent_declines` counts
    innocents' requests that were not approved; `quiet_cpu` and `flooded_cpu` are CPU seconds a second of all workers
    and the hsm."""

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
    quiet_cpu: float
    flooded_cpu: float
    rounds: int


class FloodFigures(msgspec.Struct, frozen=True):
    """The figures, with what they were measured on. `control` is a measurement without any flood: its ratio shows how
    much the figures of this machine vary by themselves."""

    kinds: list[FloodKind]
    control: FloodKind
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
            whole = progress.add_task("floods", total=len(kinds) + 2)
            with System.start(quiet(config), state, ports="free") as system:
                asyncio.run(warm_vault(system.config, population(CARDS), WARM_AT_ONCE))
                innocents = _innocents(system.config, rate)
                with _load(state, innocents) as warm_up:  # caches, first connections
                    output_of(warm_up, "the load generator")
                progress.advance(whole)
                figures = []
                for kind in (NONE, *kinds):
                    progress.update(whole, description=kind)
                    figures.append(_measured(kind, partial(_round, system, state, innocents, kind, seconds)))
                    progress.advance(whole)
    control, *measured = figures
    return FloodFigures(measured, control, rate, seconds, config.switch.workers, os.cpu_count() or 0)


def _measured(kind: str, measure: Callable[[], Round]) -> FloodKind:
    """The figures of a kind, measured again while its ratio is above the bound."""
    rounds = [measure()]
    while kind != NONE and len(rounds) < ROUNDS and _kind(kind, rounds).ratio > BOUND:
        rounds.append(measure())
    return _kind(kind, rounds)


def _kind(kind: str, rounds: Sequence[Round]) -> FloodKind:
    connections, rate = _shape(kind)
    samples = [[seconds for one in rounds for seconds in one.samples[side]] for side in (0, 1)]
    quiet_p99_ms, flooded_p99_ms = (percentile_ms(side, 0.99) for side in samples)
    quiet_cpu, flooded_cpu = (round(sum(one.processors[side] for one in rounds) / len(rounds), 3) for side in (0, 1))
    return FloodKind(
        kind=kind,
        quiet_p99_ms=quiet_p99_ms,
        flooded_p99_ms=flooded_p99_ms,
        ratio=round(flooded_p99_ms / quiet_p99_ms, 2) if quiet_p99_ms else 0.0,
        innocent_declines=sum(one.load.sent - one.load.answers.get("00", 0) for one in rounds),
        quiet_p50_ms=percentile_ms(samples[0], 0.5),
        flooded_p50_ms=percentile_ms(samples[1], 0.5),
        connections=connections,
        rate_per_s=rate,
        sent=sum(one.flood.sent for one in rounds),
        closed=sum(one.flood.closed for one in rounds),
        quiet_cpu=quiet_cpu,
        flooded_cpu=flooded_cpu,
        rounds=len(rounds),
    )


def _shape(kind: str) -> tuple[int, float]:
    """Connections, and frames (or connections, or bytes) a second."""
    return (0, 0.0) if kind == NONE else SHAPES.get(kind, SHAPE)


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


def _round(system: System, state: Path, innocents: LoadConfig, kind: str, seconds: float) -> Round:
    """Innocents in a process of their own, while the flood comes and goes."""
    connections, rate = _shape(kind)
    begins_at, turns = time.monotonic() + START_S, 2 * math.ceil(seconds / TURN_S)
    flood = FloodConfig(
        kind="idle-connections" if kind == NONE else kind,
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
        processors = _processors(system, begins_at, turns)
        load_result = msgspec.json.decode(output_of(loading, "the load generator"), type=LoadResult)
        flood_result = msgspec.json.decode(output_of(flooding, "the flood"), type=FloodResult)
    return Round(by_turn(samples.read_bytes(), begins_at, turns), load_result, flood_result, processors)


def _processors(system: System, begins_at: float, turns: int) -> tuple[float, float]:
    """Wait until the turns are over. Returns CPU seconds a second of workers and hsm, in quiet turns and in flooded
    ones: they depend on other work on the machine less than waiting times do."""
    groups = system.pids_by_group()
    pids = [*groups.get("switch", []), *groups.get("hsm", [])]
    used = []
    for turn in range(turns + 1):
        time.sleep(max(0.0, begins_at + turn * TURN_S - time.monotonic()))
        used.append((time.monotonic(), sum(map(cpu_s, pids))))
    sides = []
    for flooded in (False, True):
        spans = [(used[turn], used[turn + 1]) for turn in range(turns) if is_flooded(turn) is flooded]
        passed_s = sum(end[0] - begin[0] for begin, end in spans)
        sides.append(sum(end[1] - begin[1] for begin, end in spans) / passed_s)
    return sides[0], sides[1]


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
        if not 0 <= turn < turns:
            continue
        if is_flooded(int(turn)):
            flooded.append(seconds)
        elif into_s >= UNCOUNTED_S:
            quiet.append(seconds)
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

    table = Table("flood", "p99 ms", "flooded", "ratio", "declines", "closed", "CPU %", "flooded", box=SIMPLE_HEAD)
    for kind in (figures.control, *figures.kinds):
        style = "bold red" if kind.ratio > BOUND or kind.innocent_declines else ""
        table.add_row(
            kind.kind,
            f"{kind.quiet_p99_ms:.1f}",
            f"{kind.flooded_p99_ms:.1f}",
            f"{kind.ratio:.2f}",
            f"{kind.innocent_declines}",
            f"{kind.closed:,}",
            f"{100 * kind.quiet_cpu:.0f}",
            f"{100 * kind.flooded_cpu:.0f}",
            style=style,
        )
    console.print(table)
    console.print(
        f"innocents {figures.innocents_per_s:g}/s on the flooded link, {figures.seconds:g} s without and with each; "
        f"{figures.workers} workers, {figures.processors} processors; bound {BOUND:g}; CPU of workers and hsm"
    )
    if not 1 / BOUND <= figures.control.ratio <= BOUND:
        console.print(f"without any flood the ratio is {figures.control.ratio:g}: this machine is too busy to tell")
