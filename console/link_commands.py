"""`cardswitch link …`: the links of a running system as its workers see them, what operators do to them, new keys.

The command line goes in; each worker's control socket (`switch.control`) is asked; a table or JSON comes out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from console.errors import ConsoleError, UsageError
from console.options import ConfigOption, JsonOption, StateOption, load_running

if TYPE_CHECKING:
    from rich.table import Table

    from console.config import Config

link_app = typer.Typer(
    help="Links of the running switch: state, suspend and resume, network management, keys.", no_args_is_help=True
)
LinkName = Annotated[str, typer.Argument(help=r"An [\[acquirer]] or [\[issuer]].")]

# The fields of `link show`; workers differ only where a reload has not reached all of them.
IDENTITY = ("link", "side", "identity")
RULES = ("permissions", "max_age_s", "advice_max_age_s", "max_ahead_s", "rate", "queue", "queue_s")

# Answers of a worker that another worker may improve on: the connection is at that one, or it is busy starting.
ELSEWHERE = frozenset({"link_down", "away"})


@link_app.command("list")
def link_list(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Each link in each worker: state, connections, requests in flight, last echo, keys with check values."""
    _show_links(links(load_running(config, state)), as_json)


@link_app.command("show")
def link_show(
    name: LinkName, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """One link as the switch runs it: the peer's proof of identity, the messages that it may send, and their age."""
    running = load_running(config, state)
    _require(running, name)
    rows = [row for row in links(running) if row["link"] == name]
    shown, *others = ({field: row[field] for field in IDENTITY + RULES} for row in rows)
    if as_json:
        import msgspec

        print(msgspec.json.encode(shown).decode())
    else:
        print(f"{shown['link']} ({shown['side']})")
        print(f"  peer known by      {', '.join(shown['identity']) or 'nothing'}")
        for line in (*_permission_lines(shown["permissions"]), *_limit_lines(shown)):
            print(f"  {line}")
    differing = [str(row["worker"]) for row, other in zip(rows[1:], others, strict=True) if other != shown]
    if differing:
        raise ConsoleError(
            f"this is worker {rows[0]['worker']}; other rules are in force in worker {', '.join(differing)}",
            "run cardswitch reload",
        )


@link_app.command("suspend")
def link_suspend(
    name: LinkName, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Let no traffic through, in any worker, until resumed or started again; connections and echoes go on."""
    _show_links(ask_each(load_running(config, state), name, "suspend"), as_json)


@link_app.command("resume")
def link_resume(
    name: LinkName, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Let traffic through again, where the link is signed on."""
    _show_links(ask_each(load_running(config, state), name, "resume"), as_json)


@link_app.command("sign-on")
def link_sign_on(
    name: LinkName, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Sign on (0800, DE 70 = 001) on every open connection."""
    _show_told(ask_each(load_running(config, state), name, "sign-on"), name, as_json)


@link_app.command("sign-off")
def link_sign_off(
    name: LinkName, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Sign off (DE 70 = 002) on every open connection; new ones do not sign on by themselves until sign-on."""
    _show_told(ask_each(load_running(config, state), name, "sign-off"), name, as_json)


@link_app.command("echo")
def link_echo(
    name: LinkName, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Send an echo (DE 70 = 301) on every open connection, and say how long the answers took."""
    _show_told(ask_each(load_running(config, state), name, "echo"), name, as_json)


@link_app.command("exchange-key")
def link_exchange_key(
    name: LinkName,
    kind: Annotated[Literal["pin", "mac"], typer.Option("--kind", help="The key to exchange.")],
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
    """The answers of all workers, in the order of worker and configuration. Raises ConsoleError where none answers."""
    return _asked(config, "links")


def ask_each(config: Config, name: str, command: str) -> list[dict[str, Any]]:
    """Have every worker do something with a link; the lines that they answer, in their order.

    Raises: UsageError for a link that does not exist; ConsoleError where no worker answers.
    """
    _require(config, name)
    return _asked(config, command, link=name)


def _asked(config: Config, command: str, **arguments: str) -> list[dict[str, Any]]:
    from console.config import require_switch
    from switch.control import TIMEOUT_S, ask
    from switch.errors import ControlError

    require_switch(config)
    rows: list[dict[str, Any]] = []
    answered, failed = 0, []
    for path in _sockets(config):
        try:
            rows += ask(path, command, TIMEOUT_S, **arguments)
            answered += 1
        except ControlError as error:
            failed.append(str(error))
    if not answered:
        raise ConsoleError(f"no worker of the switch answers: {', '.join(failed[-1:])}", "start cardswitch up first")
    for reason in failed:
        print(f"cardswitch: {reason}", file=sys.stderr)
    return rows


def _require(config: Config, name: str) -> None:
    from console.config import require_switch

    require_switch(config)
    if config.acquirer_link(name) is None and config.issuer_link(name) is None:
        known = ", ".join([link.name for link in config.acquirer] + [link.name for link in config.issuer])
        raise UsageError(f"there is no link {name!r}", f"use one of {known}")


def exchange_key(config: Config, name: str, kind: str) -> dict[str, Any]:
    """Have the first worker that has the link up exchange the key.

    Raises: UsageError for a link that does not exist or has no such key; ConsoleError where the exchange failed.
    """
    from switch.control import ask
    from switch.errors import ControlError

    _require(config, name)
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
    raise ConsoleError(f"{failed}; the former key stays in force", "look at cardswitch link list and at the other end")


def _sockets(config: Config) -> list[Path]:
    return [config.worker_socket(number) for number in range(config.switch.workers)]


def _show_links(rows: list[dict[str, Any]], as_json: bool) -> None:
    import msgspec

    if as_json:
        print(msgspec.json.encode({"links": rows}).decode())
        return
    from rich.markup import escape

    titles = ("link", "worker", "state", "connections", "in flight", "advices", "last message", "echo", "keys")
    table = _table(titles, ("connections", "in flight", "advices"))
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
    _print(table)


def _permission_lines(permissions: dict[str, Any] | None) -> list[str]:
    """The permissions of a link, a line a setting."""
    if permissions is None:
        return ["may send           everything that its side may"]
    lines = []
    for setting, value in permissions.items():
        if setting == "amounts_minor":
            text = ", ".join(f"{currency} {most}" for currency, most in value.items()) or "any"
        elif setting == "forced":
            text = "yes" if value else "no"
        else:
            text = "any" if value is None else ", ".join(value) or "none"
        lines.append(f"{setting:18} {text}")
    return lines


def _limit_lines(shown: dict[str, Any]) -> list[str]:
    """Limits of DE 7, and of requests in a worker."""
    rate = f"{shown['rate']:g} requests a second" if shown["rate"] else "any"
    return [
        f"{'DE 7 at most':18} {shown['max_age_s']:.10g} s old, of advices, reversals and chargebacks "
        f"{shown['advice_max_age_s']:.10g} s; {shown['max_ahead_s']:g} s ahead",
        f"{'rate':18} {rate}; {shown['queue']} wait for a place, {shown['queue_s']:g} s at most",
    ]


def _show_told(rows: list[dict[str, Any]], name: str, as_json: bool) -> None:
    """The peer's answers, a row a connection; no answer, or another than 00, is an error."""
    import msgspec

    if as_json:
        print(msgspec.json.encode({"connections": rows}).decode())
    else:
        from rich.markup import escape

        table = _table(("link", "worker", "peer", "answer", "after", "state"), ("after",))
        for row in rows:
            answer = f"DE 39 = {row['code']}" if row["code"] else "none"
            table.add_row(
                escape(row["link"]), str(row["worker"]), escape(row["peer"]), escape(answer),
                f"{row['elapsed_s'] * 1000:.1f} ms", row["state"],
            )  # fmt: skip
        if rows:
            _print(table)
    if not rows:
        raise ConsoleError(f"link {name} has no open connection", "look at cardswitch link list")
    failed = sum(row["code"] != "00" for row in rows)
    if failed:
        raise ConsoleError(
            f"{failed} of {len(rows)} connections of link {name} were not answered 00", "look at the other end"
        )


def _table(titles: Sequence[str], numbers: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=200)).print(table)


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s ago"


def _keys(keys: list[dict[str, Any]] | None) -> str:
    if keys is None:
        return "the hsm does not say"
    return "\n".join(f"{key['name']}/{key['version']} {key['kcv']} {key['status']}" for key in keys)
