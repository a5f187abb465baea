"""`cardswitch gateway key …`: merchants' API keys are made, listed, rotated and revoked; a key is shown once.

`console.gateway_commands` and the demo call it; the database must run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from console.config import Config
from console.database_roles import GATEWAY
from console.errors import UsageError
from console.postgresql import resolve_dsn

Result = TypeVar("Result")
_LISTED = ("id", "merchant", "kind", "hint", "created_at", "ends_at")


def run_create(config: Config, merchant: str, publishable: bool, as_json: bool) -> None:
    """Print a new key. Raises UsageError for a merchant that is not in the configuration."""
    _print_created(create_key(config, merchant, publishable), as_json)


def run_rotate_sealing_key(config: Config) -> None:
    """Add a sealing key. Raises UsageError where there is no file yet, or one that cannot be used."""
    from gateway.errors import GatewayError
    from gateway.sealing import add_key

    path = Path(config.gateway_config().sealing_keys)
    try:
        version = add_key(path)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", "the gateway makes it at its first start") from None
    except GatewayError as error:
        raise UsageError(str(error)) from None
    print(f"{path} has a key of version {version}: copy it to each machine with a gateway, and restart the gateways")


def run_list(config: Config, as_json: bool) -> None:
    """Print all keys without their values."""
    from gateway import keys

    rows = _with_database(config, keys.list_keys)
    if as_json:
        import msgspec

        print(msgspec.json.encode(rows).decode())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in _LISTED:
        table.add_column(name.removesuffix("_at"), no_wrap=name == "id", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(row[name]) for name in _LISTED))
    Console(highlight=False).print(table)


def run_revoke(config: Config, key_id: str, grace_s: int) -> None:
    """End a key. Raises UsageError where no such key is in use."""
    from gateway import keys

    _with_database(config, lambda connection: keys.revoke_key(connection, key_id, timedelta(seconds=grace_s)))
    print(f"{key_id} is revoked" if grace_s == 0 else f"{key_id} ends in {grace_s} s")


def run_rotate(config: Config, key_id: str, grace_s: int, as_json: bool) -> None:
    """Print a new key in place of another. Raises UsageError where no such key is in use."""
    from gateway import keys

    grace = timedelta(seconds=grace_s)
    _print_created(_with_database(config, lambda connection: keys.rotate_key(connection, key_id, grace)), as_json)


def create_key(config: Config, merchant: str, publishable: bool = False) -> Any:
    """Make a key and return it as `gateway.keys.CreatedKey`."""
    from gateway import keys

    if all(known.id != merchant for known in config.merchant):
        known = ", ".join(entry.id for entry in config.merchant)
        others = f", or use one of {known}" if known else ""
        fix = f"add it to the configuration and restart what runs{others}"
        raise UsageError(f"there is no [[merchant]] with id {merchant!r}", fix)
    entry = next(known for known in config.merchant if known.id == merchant)

    async def create(connection: Any) -> Any:
        await keys.ensure_account(connection, entry.id, entry.name or entry.id, country=entry.country or "US")
        return await keys.create_key(connection, merchant, "publishable" if publishable else "secret")

    return _with_database(config, create)


def _with_database(config: Config, work: Callable[[Any], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        import asyncpg

        from console.database_errors import CONNECTING, unreachable
        from gateway.errors import GatewayError

        try:
            connection = await asyncpg.connect(resolve_dsn(config.postgresql, config.state_path, GATEWAY), timeout=10)
        except CONNECTING as error:
            raise unreachable(config.postgresql, error) from None
        try:
            return await work(connection)
        except GatewayError as error:
            raise UsageError(str(error), "cardswitch gateway key list shows which there are") from None
        finally:
            await connection.close()

    return asyncio.run(run())


def _print_created(created: Any, as_json: bool) -> None:
    if as_json:
        import msgspec

        print(msgspec.json.encode(created).decode())
    else:
        print(created.key)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else str(value)
