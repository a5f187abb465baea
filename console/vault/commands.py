"""`cardswitch vault …`: cards into the vault in bulk, and out of it with a proof.

The command line goes in; the work is in `console.vault.card_import` and `console.vault.deletion`. No card number is
ever an argument: they come from a file or standard input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.options import ConfigOption, JsonOption, StateOption, load_running

vault_app = typer.Typer(help="The card vault: import, deletion, proofs.", no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(metavar="TOKEN", help="A card_…, a surrogate, or any tok_… or pm_… of the card.")
]


@vault_app.command("import")
def vault_import(
    source: Annotated[str, typer.Argument(metavar="FILE", help="CSV or JSON lines, or - for standard input.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the tokens, as CSV.")],
    max_bad: Annotated[int, typer.Option("--max-bad", min=0, help="Stop after more bad lines than that.")] = 1000,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the cards of a file and write a token for each.

    Columns or keys: pan, exp_month, exp_year and, where the tokens are a merchant's, domain (acct_…). Run it again
    after an interruption to continue; the same card gives the same token.
    """
    from console.vault.card_import import run_import

    raise typer.Exit(run_import(load_running(config, state), source, output, max_bad, as_json))


@vault_app.command("delete")
def vault_delete(
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", help="E.g. data_subject_request; a wrong one lists them.")],
    by: Annotated[str, typer.Option("--by", help="The requester; default: your user name.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a card, its tokens and network tokens for all merchants, and print the proof. The ledger stays as it is."""
    from console.vault.deletion import run_delete

    run_delete(load_running(config, state), name, reason, by, yes, as_json)


@vault_app.command("proof")
def vault_proof(
    name: NameArgument, config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """Print the proof that a card was erased, and verify the chain of all deletions. Status 1 where it is broken."""
    from console.vault.deletion import run_proof

    raise typer.Exit(run_proof(load_running(config, state), name, as_json))
