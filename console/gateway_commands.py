"""`cardswitch gateway …`: the gateway's process, and merchants' API keys; arguments in, one command run.

`console.cli` hangs it into the command line.
"""

from __future__ import annotations

from typing import Annotated

import typer

from console.options import ConfigOption, JsonOption, StateOption, load, load_running, run_process

gateway_app = typer.Typer(
    help="The merchant gateway: JSON API on one side, ISO 8583 on the other.", add_completion=False
)
gateway_key_app = typer.Typer(help="API keys of merchants.", no_args_is_help=True)
gateway_app.add_typer(gateway_key_app, name="key")

KeyArgument = Annotated[str, typer.Argument(help="The key's id, key_…, as `key list` shows it.")]


@gateway_app.callback(invoke_without_command=True)
def gateway(context: typer.Context, config: ConfigOption = None, state: StateOption = None) -> None:
    """Run the merchant gateway."""
    if context.invoked_subcommand is None:
        run_process("gateway", config, state)


@gateway_app.command("rotate-sealing-key")
def gateway_rotate_sealing_key(config: ConfigOption = None, state: StateOption = None) -> None:
    """Add a key to the file that seals the gateway's secrets in the database; it takes effect at the next start."""
    from console.gateway_key import run_rotate_sealing_key

    run_rotate_sealing_key(load(config, state))


@gateway_key_app.command("create")
def gateway_key_create(
    merchant: Annotated[str, typer.Argument(help="DE 42 of the merchant that the key belongs to.")],
    config: ConfigOption = None,
    state: StateOption = None,
    publishable: Annotated[bool, typer.Option("--publishable", help="pk_…: may make tokens only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an API key for a merchant; it is shown once."""
    from console.gateway_key import run_create

    run_create(load_running(config, state), merchant, publishable, as_json)


@gateway_key_app.command("list")
def gateway_key_list(config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Show all keys without their values: id, merchant, kind, last four characters, times."""
    from console.gateway_key import run_list

    run_list(load_running(config, state), as_json)


@gateway_key_app.command("revoke")
def gateway_key_revoke(
    key: KeyArgument,
    config: ConfigOption = None,
    state: StateOption = None,
    grace_s: Annotated[int, typer.Option(min=0, max=31_536_000, help="Seconds for which it still works.")] = 0,
) -> None:
    """End a key. Without a grace the tokenizer may take it for 30 seconds more."""
    from console.gateway_key import run_revoke

    run_revoke(load_running(config, state), key, grace_s)


@gateway_key_app.command("rotate")
def gateway_key_rotate(
    key: KeyArgument,
    config: ConfigOption = None,
    state: StateOption = None,
    grace_s: Annotated[int, typer.Option(min=0, max=31_536_000, help="Seconds that the old one works for.")] = 86_400,
    as_json: JsonOption = False,
) -> None:
    """Make a new key of the same merchant and kind; the old one ends after the grace."""
    from console.gateway_key import run_rotate

    run_rotate(load_running(config, state), key, grace_s, as_json)
