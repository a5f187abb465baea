"""`cardswitch link …`: the links of a running system as its workers see them, and new keys for them.

The command line goes in; each worker's control socket (`switch.control`) is asked; a table or JSON comes out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from console.errors import ConsoleError, UsageError
from console.options import ConfigOption, JsonOption, StateOption, load_running

if TYPE_CHECKING:
    from console.config import Config

link_app = typer.Typer(help="Links of the running switch: state, keys, key exchange.", no_args_is_help=True)

# What a worker says that another worker may do better: the connection is at that one, or it is busy starting.
ELSEWHERE = frozenset({"link_down", "away"})


@link_app.command("list")
def link_list(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Each link in each worker: state, connections, requests in flight, last echo, keys with check values."""
    import msgspec

    rows = links(load_running(config, state))
    if as_json:
        print(msgspec.json.encode({"links": rows}).decode())
    else:
        _print(rows)


@link_app.command("exchange-key")
def link_exchange_key(
    name: Annotated[str, typer.Argument(help="An [[acquirer]] or [[issuer]].")],
    kind: Annotated[Literal["pin", "mac"], typer.Option("--kind", help="Which of its keys.")],
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the other end a new key over the link (0800, DE 70 = 101), and put it in force once it has it."""
    import msgspec

    done = exchange_key(load_running(config, state), name, kind)
    if as_json:
        print(msgspec.json.encode(done).decode())
    else:
        print(f"{done['name']} version {done['version']}, KCV {done['kcv']}, is in force on link {name}")


def links(config: Config) -> list[dict[str, Any]]:
    """What all workers say, in the order of worker and configuration. Raises ConsoleError where none answers."""
    from switch.control import ask
    from switch.errors import ControlError

    rows: list[dict[str, Any]] = []
    answered, failed = 0, []
    for path in _sockets(config):
        try:
            rows += ask(path, "links")
            answered += 1
        except ControlError as error:
            failed.append(str(error))
    if not answered:
        raise ConsoleError(f"no worker of the switch answers: {', '.join(failed[-1:])}", "start cardswitch up first")
    for reason in failed:
        print(f"cardswitch: {reason}", file=sys.stderr)
    return rows


def exchange_key(config: Config, name: str, kind: str) -> dict[str, Any]:
    """Have the first worker that has the link up exchange the key.

    Raises: UsageError for a link that does not exist or has no such key; ConsoleError where the exchange failed.
    """
    from switch.control import ask
    from switch.errors import ControlError

    if config.acquirer_link(name) is None and config.issuer_link(name) is None:
        known = ", ".join([link.name for link in config.acquirer] + [link.name for link in config.issuer])
        raise UsageError(f"there is no link {name!r}", f"use one of {known}")
    failed = ControlError("away", "the switch has no workers")
    for path in _sockets(config):
        try:
            return ask(path, "exchange-key", link=name, kind=kind)[0]
        except ControlError as error:
            failed = error
            if error.code not in ELSEWHERE:
                break
    if failed.code == "no_key":
        raise UsageError(str(failed), f"see {kind}_key in its section of the configuration")
    if failed.code == "away":
        raise ConsoleError(str(failed), "start cardswitch up first")
    raise ConsoleError(f"{failed}; the key before stays in force", "look at cardswitch link list and at the other end")


def _sockets(config: Config) -> list[Path]:
    return [config.worker_socket(number) for number in range(config.switch.workers)]


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("link", "worker", "state", "connections", "in flight", "advices", "heard", "echo", "keys"):
        table.add_column(title, justify="right" if title in ("connections", "in flight", "advices") else "left")
    for row in sorted(rows, key=lambda row: (row["side"], row["link"], row["worker"])):
        table.add_row(
            f"{escape(row['link'])} ({row['side']})",
            str(row["worker"]),
            row["state"],
            str(row["connections"]),
            str(row["in_flight"]),
            str(row["backlog"]),
            _ago(row["heard_s"]),
            _ago(row["echo_s"]),
            escape(_keys(row["keys"])),
        )
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=200)).print(table)


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s ago"


def _keys(keys: list[dict[str, Any]] | None) -> str:
    if keys is None:
        return "the hsm does not say"
    return "\n".join(f"{key['name']}/{key['version']} {key['kcv']} {key['status']}" for key in keys)
