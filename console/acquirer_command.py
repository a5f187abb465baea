"""`cardswitch sim acquirer`: a scenario in, traffic to a switch, a table of counts and percentiles or JSON out.

With the name of an [[acquirer]] the address, dialect, framing and keys are those of the configuration and the book goes
where `cardswitch prove` finds it; without one everything is the scenario's, and no configuration is needed.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from console.errors import ConfigError, ConsoleError, UsageError

if TYPE_CHECKING:
    import trio

    from console.config import Config
    from simulators.acquirer.report import AcquirerReport, KindReport
    from simulators.acquirer.scenario import AcquirerScenario

TEST_CARDS = ("42424242", "55555555")
DEFAULT_CARDS, TEST_PIN = 1_000, "1234"


class AcquirerRun(msgspec.Struct, frozen=True, kw_only=True):
    """The values of the command line; None for those of the scenario."""

    name: str | None = None
    scenario: Path | None = None
    replay: Path | None = None
    count: int | None = None
    seconds: float | None = None
    rate: float | None = None
    concurrency: int | None = None
    seed: int | None = None
    book: Path | None = None


def run_acquirer(config: Callable[[], Config], wanted: AcquirerRun, as_json: bool) -> int:
    """Run and print. Returns the exit status: 1 where a request has no end.

    Args:
        config: reads the configuration; called where it is needed only.
    Raises: UsageError, ConfigError for a scenario that is wrong; ConsoleError where nothing answers.
    """
    from console.logging import configure
    from simulators.acquirer.scenario import scenario_problems
    from simulators.acquirer.serve import run_scenario
    from simulators.errors import SimulatorError

    configure("cardswitch", level="warning")  # on standard error; one line a request would be too much
    scenario, keys, zmk, book = _prepared(config, wanted)
    if problems := scenario_problems(scenario):
        raise ConfigError(scenario.name, tuple(problems))

    import trio

    async def run() -> AcquirerReport:
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, stopping)
            with _progress(scenario, as_json) as progress:
                report = await run_scenario(
                    scenario, keys, zmk=zmk, book_path=book, progress=progress, stopping=stopping
                )
            nursery.cancel_scope.cancel()
        return report

    try:
        report = trio.run(run)
    except (SimulatorError, BaseExceptionGroup) as error:
        raise _told(error) from None
    if as_json:
        print(msgspec.json.encode({**msgspec.to_builtins(report), "book": str(book or "")}).decode())
    else:
        _print(report, book)
    return 1 if report.unanswered or report.unsettled else 0


def _told(error: BaseException) -> BaseException:
    """The first error of the run, with what to do about it where it is one of ours."""
    from simulators.errors import ReplayError, SimulatorError

    first = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if not isinstance(first, SimulatorError):
        return first
    fix = "correct the file" if isinstance(first, ReplayError) else "is the switch up, and the scenario right?"
    return ConsoleError(str(first), fix)


async def _stop_on_signal(stopping: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    """The first SIGINT or SIGTERM ends the run with its report and book, the second ends it as it is."""
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if stopping.is_set():
                raise KeyboardInterrupt
            stopping.set()
            print("stopping once what was sent has its end; again: at once, without a book", file=sys.stderr)


def _prepared(
    config: Callable[[], Config], wanted: AcquirerRun
) -> tuple[AcquirerScenario, dict[str, bytes], bytes, Path | None]:
    """The scenario with everything that the command line changes, its keys, and where its book goes."""
    from hsm.errors import KeyStoreError
    from hsm.keys.exchange import load_party_keys, load_party_zmk
    from simulators.acquirer.scenario import AcquirerScenario, CardRule, load_acquirer_scenario
    from simulators.errors import ScenarioError

    # Another sender on the link starts somewhere else: DE 7 and DE 11 together must not come twice.
    cards = tuple(CardRule(prefix=prefix, count=DEFAULT_CARDS, pin=TEST_PIN) for prefix in TEST_CARDS)
    scenario = AcquirerScenario(name=wanted.name or "", card=cards, first_stan=random.randrange(1, 900_000))
    if wanted.scenario is not None:
        try:
            scenario = load_acquirer_scenario(str(wanted.scenario))
        except ScenarioError as error:
            raise ConfigError(error.source, error.problems) from None
    elif wanted.name is None:
        raise UsageError("neither a link nor a scenario is given", "name an [[acquirer]], or give --scenario FILE")
    book = wanted.book
    if wanted.name is not None:
        scenario = _on_link(config(), wanted.name, scenario)
        from console.prove_command import books_directory

        book = book or books_directory(config()) / f"sim-{wanted.name}-{datetime.now(UTC):%Y%m%d%H%M%S}.jsonl"
    scenario = _changed(scenario, wanted)
    keys: dict[str, bytes] = {}
    zmk = b""
    if any(name not in scenario.test_keys for name in scenario.key_names):
        exchange = config().exchange_path
        try:
            keys, zmk = load_party_keys(exchange, scenario.party), load_party_zmk(exchange, scenario.party)
        except KeyStoreError as error:
            raise ConsoleError(
                f"keys of {scenario.party}: {error}", "start cardswitch up first, or give test_keys"
            ) from None
    return scenario, keys, zmk, book


def _changed(scenario: AcquirerScenario, wanted: AcquirerRun) -> AcquirerScenario:
    """The scenario with what the command line says instead."""
    names = ("count", "seconds", "rate", "concurrency")
    bounds = {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None}
    changes: dict[str, Any] = {"run": msgspec.structs.replace(scenario.run, **bounds)}
    if wanted.replay is not None:
        changes["replay"] = str(wanted.replay)
    if wanted.seed is not None:
        changes["seed"] = wanted.seed
    return msgspec.structs.replace(scenario, **changes)


def _on_link(config: Config, name: str, scenario: AcquirerScenario) -> AcquirerScenario:
    """The scenario on a link of the configuration. Raises UsageError for an unknown name."""
    from simulators.acquirer.scenario import CardRule

    link = config.acquirer_link(name)
    if link is None:
        known = ", ".join(entry.name for entry in config.acquirer)
        raise UsageError(f"there is no acquirer link {name!r}", f"use one of {known}")
    if link.tls is not None and scenario.tls is None:
        raise UsageError(f"link {name} speaks TLS", "give a --scenario with [tls]: ca, certificate and private_key")
    party = next((key.party for key in config.key if key.name in (link.pin_key, link.mac_key)), name)
    cards: tuple[CardRule, ...] = scenario.card
    if not link.pin_key:
        cards = tuple(msgspec.structs.replace(rule, pin="") for rule in cards)
    return msgspec.structs.replace(
        scenario,
        name=name,
        dial=link.listen,
        listen=link.address,  # where the switch is the one that dials
        dialect=link.dialect,
        framing=link.framing,
        max_frame=link.max_frame,
        header=link.header,
        header_bytes=link.header_bytes,
        party=party,
        pin_key=link.pin_key,
        pin_format=link.pin_format,
        ksn_element=link.ksn_element or 0,
        mac_key=link.mac_key,
        mac_algorithm=config.mac_algorithm(link.mac_key),
        mac_management=link.mac_management,
        trace_element=link.trace_element or 0,
        card=cards,
    )


class _progress:
    """A bar on standard error while requests are started; nothing for programs."""

    def __init__(self, scenario: AcquirerScenario, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        errors = Console(file=sys.stderr)
        columns = (TextColumn(scenario.name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = as_json or not errors.is_terminal
        self._bar = Progress(*columns, console=errors, transient=True, disable=hidden)
        self._total = None if scenario.replay else scenario.run.count

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        task = self._bar.add_task("", total=self._total)
        return lambda done: self._bar.update(task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _print(report: AcquirerReport, book: Path | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for title in ("sent", "approved", "declined", "reversed", "other", "repeated"):
        table.add_column(title, justify="right")
    for title in ("p50 ms", "p90", "p95", "p99", "p99.9", "max"):
        table.add_column(title, justify="right")
    for row in [*report.kinds, report.total]:
        table.add_row(*_cells(row))
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    console.print(table)
    codes = " · ".join(f"{code} {count:,}" for code, count in report.answers.items()) or "none"
    console.print(f"{report.requests:,} requests in {report.seconds:.1f} s, {report.per_s:,.1f}/s; answers: {codes}")
    if report.unanswered or report.unsettled:
        console.print(f"[bold red]{report.unanswered} without an end, {report.unsettled} lines unsettled[/]")
    if book is not None:
        console.print(f"book: {book}, {report.lines:,} lines", soft_wrap=True)


def _cells(row: KindReport) -> list[str]:
    counts = (row.count, row.approved, row.declined, row.reversed, row.other, row.repeated)
    times = (row.p50_ms, row.p90_ms, row.p95_ms, row.p99_ms, row.p999_ms, row.max_ms)
    return [row.kind, *(f"{count:,}" for count in counts), *(f"{time:,.1f}" for time in times)]
