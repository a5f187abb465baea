"""`cardswitch ledger migrate|trial-balance`: a configuration in, the ledger brought up or summed up.

The database must run: embedded, `cardswitch up` has it; otherwise it is the one that `[postgresql] dsn` names.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from console.config import Config, require_switch
from console.database_roles import AUDITOR, OWNER
from console.ledger_access import in_ledger
from console.postgresql import EmbeddedPostgres, resolve_dsn, role_passwords

if TYPE_CHECKING:
    from rich.console import Console

    from ledger.trial_balance import TrialBalance


def run_migrate(config: Config, as_json: bool, set_passwords: bool = False) -> None:
    """Bring the schema up to date; an embedded server that does not run is started for it.

    Args:
        set_passwords: give the database roles the passwords of this state directory, which locks other machines out.
    """
    from console.database_errors import CONNECTING, unreachable
    from console.migration import migrate

    require_switch(config)
    server = None if config.postgresql.dsn else EmbeddedPostgres(config.state_path)
    if server is not None:
        server.start()
    try:
        dsn = resolve_dsn(config.postgresql, config.state_path, OWNER)
        passwords, prefix = role_passwords(config.state_path), config.postgresql.prefix
        done = asyncio.run(migrate(dsn, passwords, prefix=prefix, set_passwords=set_passwords))
    except CONNECTING as error:
        raise unreachable(config.postgresql, error) from None
    finally:
        if server is not None:
            server.stop()
    names = [f"{file.package}/schema/{file.name}" for file in done.applied]
    if as_json:
        print(msgspec.json.encode({"applied": names, "roles": done.roles}).decode())
        return
    verb = "set the password of" if set_passwords else "made"
    lines = [f"{verb} role {name}" for name in done.roles] + [f"applied {name}" for name in names]
    print("\n".join(lines) or "nothing to do: the schema is up to date")


def run_trial_balance(config: Config, as_json: bool) -> int:
    """Print the trial balance. Returns the exit status: 1 where debits and credits differ."""
    balance = trial_balance_of(config)
    if as_json:
        plain = {"balanced": balance.balanced, **msgspec.to_builtins(balance)}
        plain["totals"] = [
            {"layer": layer, "currency": currency, "debit_minor": debit, "credit_minor": credit}
            for (layer, currency), (debit, credit) in balance.totals().items()
        ]
        print(msgspec.json.encode(plain).decode())
    else:
        from rich.console import Console

        console = Console(highlight=False)
        print_trial_balance(console if console.is_terminal else Console(highlight=False, width=200), balance)
    return 0 if balance.balanced else 1


def trial_balance_of(config: Config) -> TrialBalance:
    """The balance of each account. Raises ConsoleError where the database is away."""
    from ledger.trial_balance import trial_balance

    return in_ledger(config, AUDITOR, trial_balance)


def print_trial_balance(console: Console, balance: TrialBalance) -> None:
    """A table: accounts with debit or credit balance, totals for each layer and currency."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from messages.money import Money

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="trial balance", title_justify="left")
    for title in ("layer", "account", "type"):
        table.add_column(title, overflow="fold")  # an account or amount that is cut short would be another one
    for title in ("debit", "credit", "balance"):
        table.add_column(title, justify="right", overflow="fold")
    for line in balance.lines:
        amounts = (line.debit_minor, line.credit_minor, line.balance_minor)
        shown = [Money(amount, line.currency).format() if amount else "" for amount in amounts]
        table.add_row(line.layer, escape(line.account), line.type, *shown)
    for (layer, currency), (debit, credit) in balance.totals().items():
        style = "bold green" if debit == credit else "bold red"
        totals = [f"[{style}]{Money(amount, currency).format()}[/]" for amount in (debit, credit)]
        table.add_row(f"[bold]{layer}[/]", "[bold]total[/]", "", *totals, Money(debit - credit, currency).format())
    console.print(table)
