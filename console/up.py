"""`cardswitch up`: a configuration in, a supervised system with its live status out, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from console.children import Event, State, Status
from console.config import Config, masked_config
from console.doctor_links import unproved_links
from console.reload import reloading
from console.supervisor import Ports, System

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_STYLES = {
    State.READY: "green",
    State.STARTING: "yellow",
    State.WAITING: "yellow",
    State.PAUSED: "bold red",
    State.STOPPED: "dim",
}
_REFRESH_S = 1.0


def run_up(config: Config, issuers: bool = True, ports: Ports = "configured") -> None:
    """Start everything, show it, and stop it on SIGINT or SIGTERM.

    Raises: StartError where something does not start; nothing is left running then.
    """
    from rich.console import Console

    console = Console(highlight=False)
    _log_configuration(config)

    def tell(event: Event) -> None:
        console.print(event_line(event))

    with stop_signals() as stopping:
        console.print(f"cardswitch: starting from {config.source}, state in {config.state.directory}")
        with (
            System.start(config, ports=ports, issuers=issuers, on_event=tell) as system,
            reloading(system.config),
        ):
            with suppress(KeyboardInterrupt):  # it runs: a stop now is no interruption
                print_addresses(console, system)
                watch(console, system, stopping)
            console.print("stopping …")
        console.print("stopped")


class StopFlag:
    """Whether the user wants to stop. The first signal interrupts what runs, unless that asked to be let finish."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._deferring = False

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        return self._event.wait(timeout_s)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block finish first; then raise KeyboardInterrupt if a signal has come."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._event.is_set():
            raise KeyboardInterrupt

    def stop(self, number: int, frame: object) -> None:
        """The signal handler; a second signal does not interrupt the stopping."""
        if not self._event.is_set():
            self._event.set()
            if not self._deferring:
                raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """SIGINT and SIGTERM set the flag that is yielded."""
    flag = StopFlag()
    former = {number: signal.signal(number, flag.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def event_line(event: Event) -> str:
    """One line about a process, in rich's markup."""
    style = {"ready": "green", "died": "bold red", "stopped": "yellow"}.get(event.kind, "")
    return f"  [{style}]{event.kind:8}[/] {event.child}  [dim]{event.text}[/]" if style else f"  {event.child}"


def print_addresses(console: Console, system: System) -> None:
    """Where to connect to, one line each."""
    console.print("\n[bold]cardswitch is running[/]")
    for name, address in system.addresses().items():
        console.print(f"  {name:20} {address}")
    console.print(f"  {'logs':20} {system.config.log_path}")
    if system.moved:
        from rich.markup import escape

        moved = escape(", ".join(system.moved))
        console.print(f"  [yellow]in use, so free ports were taken instead:[/] {moved}")
    if unproved := unproved_links(system.config):
        console.print(f"  [yellow]no proof of who their peer is:[/] {', '.join(unproved)} (cardswitch doctor)")
    console.print("Ctrl-C stops every process that was started here.\n")


def watch(console: Console, system: System, stopping: StopFlag) -> None:
    """Show the live status until the user wants to stop."""
    try:
        if console.is_terminal:
            from rich.live import Live

            with Live(status_table(system.statuses()), console=console, refresh_per_second=4, transient=True) as live:
                while not stopping.is_set():
                    time.sleep(_REFRESH_S)
                    live.update(status_table(system.statuses()))
        else:
            sys.stdout.flush()
            while not stopping.wait(3600):
                pass
    except KeyboardInterrupt:
        pass


def status_table(statuses: list[Status]) -> Table:
    """The live status: process, state, pid, restarts, time since the last start."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("process", "state", "pid", "restarts", "up"):
        table.add_column(title, justify="left" if title in ("process", "state") else "right")
    for status in statuses:
        style = _STYLES[status.state]
        minutes, seconds = divmod(int(status.up_s), 60)
        table.add_row(
            status.name,
            f"[{style}]{status.state}[/]",
            str(status.pid or ""),
            str(status.restarts or ""),
            f"{minutes}:{seconds:02}" if status.pid else "",
        )
    return table


def _log_configuration(config: Config) -> None:
    """The configuration of this start, masked, as the first event of the supervisor's log."""
    import structlog

    from console.logging import configure

    configure("up", config.log_path / "up.jsonl")
    structlog.get_logger().info("starting", configuration=masked_config(config))
