"""`cardswitch bench hsm`: commands a second of an HSM process through its socket, beside the bare PKCS#11 calls.

An HSM of its own (SoftHSM token, embedded PostgreSQL, fsync on) starts in a temporary state directory. For each
command: one caller keeps some in flight, and in turns with it a process without socket or loop makes the same PKCS#11
calls on a copy of the token. Each has one thread, and only one of them works at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from console.bench.children import started
from console.bench.hsm_commands import EXPIRY, KEYS, PARTY, BenchCard, BenchCommand, Requests
from console.bench.hsm_load import run_load
from console.bench.pkcs11_calls import BareFigures, BareQuestion, Settings
from console.bench.state import bench_state, migrated_server
from console.config import Config, StateConfig, write_effective
from console.errors import ConsoleError, StartError, UsageError
from console.process_table import cpu_s
from hsm.asyncio_client import AsyncioHsm, open_hsm
from hsm.callers import COMMANDS, CallerConfig
from hsm.commands import Screen
from hsm.keys.exchange import load_party_keys
from hsm.vault_commands import Tokenize
from hsm.wire import encode_body
from simulators.load.population import population

CARDS = 256
NEW_CARDS_PER_S = 10_000  # more than are stored in the time
IN_FLIGHT = 64
WARM_UP_S = 0.3
TURNS = 4
CALLER = CallerConfig(name="bench", socket="bench.sock", commands=tuple(COMMANDS))
_START_S = 30.0
_WIDE = 118


class CommandFigures(msgspec.Struct, frozen=True):
    """One command.

    `cpu` is the share of one core that the HSM process had; `bare_per_s` is how often all `calls` of the PKCS#11
    library that the command needs are made through python-pkcs11 and nothing else, `direct_per_s` the same by
    `hsm.keys.direct_calls`, as the HSM makes them. `ratio` is `per_s` over `bare_per_s`. All three are null for a
    command without such calls.
    """

    command: str
    what: str
    per_s: float
    p50_us: float
    p99_us: float
    cpu: float
    calls: int
    bare_per_s: float | None
    direct_per_s: float | None
    ratio: float | None


class BenchFigures(msgspec.Struct, frozen=True):
    """The output of `--json`."""

    commands: list[CommandFigures]
    in_flight: int
    seconds: float


def run_bench(config: Config, seconds: float, in_flight: int, only: list[str], as_json: bool) -> int:
    """Measure and print; returns the exit status.

    Raises: StartError where the HSM does not start; ConsoleError where it refuses a command.
    """
    console = Console(stderr=as_json, highlight=False)
    figures = bench_hsm(config, seconds, in_flight, only, console)
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        _print(console, figures)
    return 0


def bench_hsm(config: Config, seconds: float, in_flight: int, only: list[str], console: Console) -> BenchFigures:
    """The whole measurement; a progress bar on `console` where it is a terminal. `only` names commands, empty: all."""
    with bench_state() as state:
        own = _own(config, state)
        with (
            Progress(
                TextColumn("{task.description:32}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
            ) as progress,
            migrated_server(state),
            _hsm(own) as hsm,
            _bare(own) as bare,
        ):
            commands = uvloop.run(_prepared(own, int(seconds * NEW_CARDS_PER_S)))
            if unknown := set(only) - {command.name for command in commands}:
                names = ", ".join(command.name for command in commands)
                raise UsageError(f"there is no command {sorted(unknown)[0]!r}", f"use one of {names}")
            commands = [command for command in commands if not only or command.name in only]
            task = progress.add_task("", total=len(commands))
            figures = []
            for command in commands:
                progress.update(task, description=command.name)
                figures.append(_measured(own, command, hsm.pid, bare, seconds, in_flight))
                progress.advance(task)
    return BenchFigures(figures, in_flight, seconds)


def _own(config: Config, state: Path) -> Config:
    """The configuration with the keys and the caller of the benchmark, in a state directory and a database of its own;
    events of single commands are left out, as in `bench switch`."""
    replace = msgspec.structs.replace
    return replace(
        config,
        state=StateConfig(str(state)),
        log=replace(config.log, level="warning"),
        postgresql=replace(config.postgresql, dsn=""),
        key=(*config.key, *KEYS),
        caller=(CALLER,),
    )


def _measured(
    config: Config, command: BenchCommand, pid: int, bare: subprocess.Popen[bytes], seconds: float, in_flight: int
) -> CommandFigures:
    """Both in turns, so that a neighbour of the machine who comes and goes is felt by both."""
    socket = config.caller_socket(CALLER.name)
    once = len(command.requests) > CARDS
    if not once:
        uvloop.run(run_load(socket, command.requests, WARM_UP_S, in_flight))
    some = [encode_body(request) for request in command.requests[:CARDS]]
    calls = _ask(bare, BareQuestion(some, command.pans[:CARDS], 0.0)).calls
    times: list[int] = []
    took = used = through = direct = 0.0
    for turn in range(TURNS):
        requests = command.requests[turn::TURNS] if once else command.requests
        before = cpu_s(pid)
        load = uvloop.run(run_load(socket, requests, seconds / TURNS, in_flight, once=once))
        used += cpu_s(pid) - before
        took += load.seconds
        times += load.times
        figures = _ask(bare, BareQuestion([], [], seconds / TURNS))
        through += figures.per_s / TURNS
        direct += figures.direct_per_s / TURNS
    times.sort()
    per_s = len(times) / took
    return CommandFigures(
        command=command.name,
        what=command.what,
        per_s=round(per_s, 1),
        p50_us=round(times[len(times) // 2] / 1000, 1),
        p99_us=round(times[len(times) * 99 // 100] / 1000, 1),
        cpu=round(used / took, 2),
        calls=calls,
        bare_per_s=round(through, 1) if calls else None,
        direct_per_s=round(direct, 1) if calls else None,
        ratio=round(per_s / through, 3) if calls else None,
    )


async def _prepared(config: Config, new_cards: int) -> list[BenchCommand]:
    """Make cards known to the vault, and the requests over them."""
    keys = load_party_keys(config.exchange_path, PARTY)
    cards, tokens = [], []
    async with open_hsm(config.caller_socket(CALLER.name), timeout_s=10.0) as hsm:
        await _connected(hsm)
        for pan in population(CARDS):
            token = await hsm.tokenize(Tokenize(pan=pan, expiry=EXPIRY, kind="pm"))
            tokens.append(token.id)
            screened = await hsm.screen(Screen(pan=pan))
            cards.append(BenchCard(pan, screened.token))
    return Requests(keys, cards).commands(population(new_cards, start=CARDS), tokens)


async def _connected(hsm: AsyncioHsm) -> None:
    async with asyncio.timeout(_START_S):
        while not hsm.connected:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def _hsm(config: Config) -> Iterator[subprocess.Popen[bytes]]:
    """The HSM as `cardswitch hsm`, ready."""
    file = config.state_path / "bench.json"
    write_effective(config, file)
    with started("console.cli", "hsm", "--config", str(file), "--state", str(config.state_path)) as process:
        until = time.monotonic() + _START_S
        while not config.caller_socket(CALLER.name).exists():
            if process.poll() is not None or time.monotonic() > until:
                raise StartError("the HSM does not start", _last_words(config))
            time.sleep(0.02)
        yield process


@contextlib.contextmanager
def _bare(config: Config) -> Iterator[subprocess.Popen[bytes]]:
    """The process that makes bare calls, on a copy of the token."""
    state = config.state_path / "bare"
    shutil.copytree(config.state_path / "hsm", state / "hsm", ignore=shutil.ignore_patterns("audit", "lock"))
    shutil.copytree(config.exchange_path, state / "exchange")
    with started("console.bench.pkcs11_calls") as process:
        _say(process, Settings(config.hsm_config(), str(state)))
        _heard(process)
        yield process


def _ask(bare: subprocess.Popen[bytes], question: BareQuestion) -> BareFigures:
    _say(bare, question)
    return msgspec.json.decode(_heard(bare), type=BareFigures)


def _say(process: subprocess.Popen[bytes], line: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(line) + b"\n")
    process.stdin.flush()


def _heard(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ConsoleError("the process that makes bare PKCS#11 calls died", "run it again with --debug")
    return line


def _last_words(config: Config) -> str:
    return f"run cardswitch doctor; its state was {config.state_path}"


def _print(console: Console, figures: BenchFigures) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    # On a narrow terminal figures come before explanations.
    wide = console.width >= _WIDE
    columns: list[tuple[str, Callable[[CommandFigures], str]]] = [
        ("per s", lambda one: f"[bold]{one.per_s:,.0f}[/]"),
        ("p50 µs", lambda one: f"{one.p50_us:,.0f}"),
        ("p99 µs", lambda one: f"{one.p99_us:,.0f}"),
        ("core", lambda one: f"{one.cpu:.0%}"),
        ("bare", lambda one: "" if one.bare_per_s is None else f"{one.bare_per_s:,.0f}"),
        ("ratio", lambda one: "" if one.ratio is None else f"{one.ratio:.2f}"),
    ]
    if wide:
        columns.insert(4, ("calls", lambda one: str(one.calls)))
        columns.insert(6, ("direct", lambda one: "" if one.direct_per_s is None else f"{one.direct_per_s:,.0f}"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("command", no_wrap=True)
    if wide:
        table.add_column("", no_wrap=True)
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for one in figures.commands:
        table.add_row(one.command, *([one.what] if wide else []), *(text(one) for _, text in columns))
    console.print(table)
    console.print(
        f"{figures.in_flight} commands in flight, {figures.seconds:g} s each. bare: the command's PKCS#11 calls alone, "
        "through python-pkcs11; direct: the same as the HSM makes them"
    )
