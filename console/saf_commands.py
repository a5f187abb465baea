"""`cardswitch saf list|retry|drop`: advices that their link has not answered, and what an operator does about them.

The database must run; the switch need not. Each action is on record for ever with its actor and reason, and senders see
it within a second.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.errors import UsageError
from console.options import ConfigOption, JsonOption, StateOption, load_running

if TYPE_CHECKING:
    from rich.console import Console

    from console.config import Config
    from ledger.saf import Action, Waiting


saf_app = typer.Typer(
    help="Stored advices: list waiting and parked ones, send them again, give them up.", no_args_is_help=True
)

LinkOption = Annotated[str | None, typer.Option("--link", help="Of this link only.")]
IdsArgument = Annotated[list[int] | None, typer.Argument(metavar="ID…", help="Numbers of advices, from the list.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stays on record.")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Your name; by default the user of this machine.")]

STYLES = {"waiting": "", "parked": "bold red", "retried": "yellow", "dropped": "dim"}
# Answers of `ledger.saf.act_on_advice` without an action, and their consequence.
REFUSALS = {
    "unknown": "there is no such advice",
    "acknowledged": "its link has answered it already",
    "dropped": "it was dropped before",
    "not_parked": "it is not parked: it is being sent anyway",
}
MAX_REASON, MAX_ACTOR = 1000, 200
PROGRESS_FROM = 20


@saf_app.command("list")
def saf_list(
    link: LinkOption = None,
    dropped: Annotated[bool, typer.Option("--dropped", help="Those that were dropped, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Greatest number of rows.")] = 100,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Advices without an answer, in the order in which they are sent."""
    import msgspec
    from rich.console import Console

    rows, more = listed(load_running(config, state), link or "", dropped, limit)
    if as_json:
        print(msgspec.json.encode({"advices": rows, "more": more}).decode())
        return
    console = Console(highlight=False)
    _print(console if console.is_terminal else Console(highlight=False, width=200), rows, more)


@saf_app.command("retry")
def saf_retry(
    reason: ReasonOption,
    ids: IdsArgument = None,
    link: Annotated[
        str | None, typer.Option("--link", help="Instead of numbers: all that are parked of a link.")
    ] = None,
    actor: ActorOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have parked advices sent again, before those that were stored after them."""
    running = load_running(config, state)
    if bool(ids) == bool(link):
        raise UsageError("saf retry needs numbers of advices, or --link", "see cardswitch saf list")
    if link:
        rows, _ = listed(running, link, False, 100_000)
        ids = [row.advice_id for row in rows if row.state == "parked"]
    raise typer.Exit(_acted(running, ids or [], "retried", actor, reason, as_json))


@saf_app.command("drop")
def saf_drop(
    ids: Annotated[list[int], typer.Argument(metavar="ID…", help="Numbers of advices, from the list.")],
    reason: ReasonOption,
    actor: ActorOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give advices up for ever: the other end never gets them, and the books differ until they are corrected."""
    raise typer.Exit(_acted(load_running(config, state), ids, "dropped", actor, reason, as_json))


def listed(config: Config, link: str, dropped: bool, limit: int) -> tuple[list[Waiting], bool]:
    """Rows, and whether there are more.

    Raises: UsageError for a link that does not exist; ConsoleError where the database is away.
    """
    from console.database_roles import AUDITOR
    from console.ledger_access import in_ledger
    from ledger.saf import waiting_advices

    if link and config.acquirer_link(link) is None and config.issuer_link(link) is None:
        known = ", ".join([entry.name for entry in config.acquirer] + [entry.name for entry in config.issuer])
        raise UsageError(f"there is no link {link!r}", f"use one of {known}")
    rows = in_ledger(config, AUDITOR, lambda c: waiting_advices(c, link, dropped=dropped, limit=limit + 1))
    return rows[:limit], len(rows) > limit


def act(config: Config, ids: Sequence[int], action: Action, actor: str, reason: str) -> dict[int, str]:
    """Answers of `ledger.saf.act_on_advice` for each, in the order given; a bar where there are many."""
    from console.database_roles import LEDGER
    from console.ledger_access import in_ledger
    from ledger.saf import act_on_advice

    async def work(connection: Any) -> dict[int, str]:
        from rich.progress import track

        shown = track(
            ids, description=f"{action} …", transient=True, console=_stderr(), disable=len(ids) < PROGRESS_FROM
        )
        return {number: await act_on_advice(connection, number, action, actor, reason) for number in shown}

    return in_ledger(config, LEDGER, work)


def _acted(config: Config, ids: Sequence[int], action: Action, actor: str | None, reason: str, as_json: bool) -> int:
    """Act and report. Returns the exit status: 1 where something could not be done."""
    import msgspec

    who, why = (actor or getpass.getuser()).strip(), reason.strip()
    if not 1 <= len(why) <= MAX_REASON:
        raise UsageError(f"--reason must have 1–{MAX_REASON} characters", "say why; it stays on record")
    if not 1 <= len(who) <= MAX_ACTOR:
        raise UsageError(f"--actor must have 1–{MAX_ACTOR} characters")
    said = act(config, list(dict.fromkeys(ids)), action, who, why)
    if as_json:
        rows = [{"advice_id": number, "result": result} for number, result in said.items()]
        print(msgspec.json.encode({"action": action, "actor": who, "advices": rows}).decode())
    else:
        for number, result in said.items():
            print(f"advice {number}: {action}" if result == "done" else f"advice {number}: {REFUSALS[result]}")
        if not said:
            print("nothing is parked")
    return 0 if all(result == "done" for result in said.values()) else 1


def _print(console: Console, rows: list[Waiting], more: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from messages.money import Money

    if not rows:
        console.print("nothing waits: every advice was answered")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("advice", "link", "type", "card", "amount", "stored", "state", "by", "reason"):
        table.add_column(title, justify="right" if title in ("advice", "amount") else "left")
    now = datetime.now(UTC)
    for row in rows:
        style = STYLES[row.state]
        table.add_row(
            str(row.advice_id),
            escape(row.link),
            escape(row.mti),
            row.masked_pan,
            Money(row.amount_minor, row.currency).format() if row.currency else "",
            f"{_ago((now - row.stored_at).total_seconds())} ago" if row.stored_at else "",
            f"[{style}]{row.state}[/]" if style else row.state,
            escape(row.actor),
            escape(row.reason),
        )
    console.print(table)
    if more:
        console.print(f"there are more than these {len(rows)}; see --limit")


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)
