"""`cardswitch gateway key create`: the DE 42 of a merchant in, a new API key out; it is shown this once."""

from __future__ import annotations

import asyncio
from typing import Any

from console.config import Config
from console.errors import ConsoleError, UsageError
from console.postgresql import GATEWAY, resolve_dsn


def run_create(config: Config, merchant: str, publishable: bool, as_json: bool) -> None:
    """Print a new key. Raises UsageError for a merchant that is not in the configuration."""
    created = create_key(config, merchant, publishable)
    if as_json:
        import msgspec

        print(msgspec.json.encode(created).decode())
    else:
        print(created.key)


def create_key(config: Config, merchant: str, publishable: bool = False) -> Any:
    """Make a key and return it as `gateway.keys.CreatedKey`; the database must run."""
    if all(known.id != merchant for known in config.merchant):
        known = ", ".join(entry.id for entry in config.merchant) or "none"
        raise UsageError(f"there is no merchant {merchant!r}", f"use one of [[merchant]]: {known}")
    return asyncio.run(_create(config, merchant, "publishable" if publishable else "secret"))


async def _create(config: Config, merchant: str, kind: Any) -> Any:
    import asyncpg

    from gateway import keys

    try:
        connection = await asyncpg.connect(resolve_dsn(config.postgresql, config.state_path, GATEWAY), timeout=10)
    except (OSError, asyncpg.PostgresError) as error:
        raise ConsoleError(f"the database cannot be reached: {error}", "start it with cardswitch up") from None
    try:
        entry = next(known for known in config.merchant if known.id == merchant)
        await keys.ensure_account(connection, entry.id, entry.name or entry.id, country=entry.country or "US")
        return await keys.create_key(connection, merchant, kind)
    finally:
        await connection.close()
