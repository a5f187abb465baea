"""`cardswitch demo`: a system is started, a shop day runs in front of the user, the books are compared.

A configuration goes in; the exit status says whether every step ended as it should and all books agree. Without
`--once` the system runs on until Ctrl-C. The steps are in `console.demo_steps`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape

from console.children import Event
from console.config import Config
from console.demo_steps import STEPS, Day
from console.gateway_key import create_key
from console.logging import configure
from console.picture import write_svg
from console.supervisor import System
from console.up import StopFlag, print_addresses, stop_signals, watch

# The step with the silent issuer waits for a deadline; users should not have to wait long for it.
DEADLINE_S = 1.5
WIDTH = 120  # where no terminal says its own
PICTURED = 1  # the step that stands in the picture of the README, before the books


def run_demo(config: Config, once: bool, svg: Path | None = None) -> int:
    """Run the demo. Returns the exit status: 0 where every step ended as it should and all books agree.

    Args:
        svg: where a picture of the first step and of the books goes, for docs/.

    Raises: StartError where the system does not start.
    """
    console = Console(highlight=False)
    if not console.is_terminal or svg is not None:
        console = Console(highlight=False, width=WIDTH)
    config = impatient(config)
    configure("demo", config.log_path / "demo.jsonl")
    began = time.monotonic()
    with stop_signals() as stopping:
        console.print("[bold]cardswitch demo[/]: a card network with PostgreSQL, a PKCS#11 token and two issuers")
        console.print(f"[dim]state in {config.state.directory}; starting …[/]")

        def tell(event: Event) -> None:
            if event.kind != "ready":
                console.print(f"[bold red]{event.child}: {event.kind}[/] {event.text}")

        with System.start(config, ports="free-if-busy", on_event=tell) as system:
            names = ", ".join(status.name for status in system.statuses())
            console.print(f"[green]{len(system.statuses())} processes in {time.monotonic() - began:.1f} s:[/] {names}")
            if system.moved:
                console.print(f"[yellow]in use, so free ports were taken instead:[/] {escape(', '.join(system.moved))}")
            key = create_key(system.config, system.config.merchant[0].id)
            with Day(console, system, key.key, stopping) as day:
                for number, step in enumerate(STEPS, 1):
                    console.record = svg is not None and number == PICTURED
                    console.print()
                    console.rule(f"[bold]{number}  {step.__doc__}[/]", align="left")
                    step(day)
                console.record = svg is not None
                agrees = day.closing()
            if svg is not None:
                write_svg(console, svg, "cardswitch demo --once")
            console.print(f"[dim]{time.monotonic() - began:.1f} s in all[/]")
            if not once:
                with suppress(KeyboardInterrupt):
                    _stay(console, system, key.key, stopping)
                console.print("stopping …")
    return 0 if agrees else 1


def impatient(config: Config) -> Config:
    """The configuration with issuers that are given up soon."""
    replace = msgspec.structs.replace
    issuers = tuple(
        replace(link, deadline_s=min(link.deadline_s, DEADLINE_S), advice_timeout_s=min(link.advice_timeout_s, 1.0))
        for link in config.issuer
    )
    return replace(config, issuer=issuers)


def _stay(console: Console, system: System, key: str, stopping: StopFlag) -> None:
    print_addresses(console, system)
    gateway = system.addresses()["gateway"]
    console.print("Try a payment of your own:")
    console.print(
        f"  curl {gateway}/v1/payment_intents -u {key}: -d amount=2000 -d currency=eur "
        "-d payment_method=pm_card_visa -d confirm=true",
        soft_wrap=True,
    )
    console.print("  cardswitch send --mti 0800 --set 70=301    cardswitch prove    cardswitch ledger trial-balance\n")
    watch(console, system, stopping)
