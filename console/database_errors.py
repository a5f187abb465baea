"""A database that cannot be reached, or lets nobody in: an exception in, a `ConsoleError` with the remedy out.

Called wherever the console connects to PostgreSQL.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import asyncpg

from console.errors import ConsoleError
from console.postgresql import PostgresqlConfig

# All that a connection can fail of; faults of a statement are none of these.
CONNECTING = (
    OSError,  # TimeoutError, too
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ClientConfigurationError,
)
_FORM = "write it as postgresql://owner:password@host/database"
_ROLES = "its password is in postgresql/roles.json of the state directory: docs/operations.md, Add a machine"


def unreachable(config: PostgresqlConfig, error: BaseException) -> ConsoleError:
    """The error of a connection, with the server's place and the remedy.

    Args:
        config: `[postgresql]`; neither its user nor its password is shown.
        error: one of `CONNECTING`.
    """
    reason = (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")
    if not config.dsn:
        return ConsoleError(f"the embedded PostgreSQL cannot be reached: {reason}", "start it with cardswitch up")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ConsoleError("[postgresql] dsn cannot be read", _FORM)
    place = f"the database {place_of(config.dsn)}"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        fix = f"the owner's password is in [postgresql] dsn; of another role, {_ROLES}"
        return ConsoleError(f"{place} lets nobody in: {reason}", fix)
    return ConsoleError(f"{place} cannot be reached: {reason}", "correct [postgresql] dsn, or start that server")


def place_of(dsn: str) -> str:
    """The server and database of a DSN, without user and password."""
    place = urlsplit(dsn)
    return f"{place.hostname or 'local server'}{place.path}"
