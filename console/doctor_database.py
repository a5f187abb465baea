"""Whether the database would be taken at start: connection, roles, schema files, and the gateway's sealing keys.

The configuration goes in; findings as in `console.doctor` come out. Called by `cardswitch doctor`. It asks a server of
one's own, read-only; an embedded one may not run now, so that only its passwords are looked at. No DSN is shown.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.doctor import MISSING, OK, Finding

if TYPE_CHECKING:
    from console.config import Config

NAME = "database"
TIMEOUT_S = 5.0
_PRIVILEGES = "correct [postgresql] dsn, or start that server"


def database_findings(config: Config) -> list[Finding]:
    """The findings; none raises."""
    from console.database_errors import place_of
    from console.postgresql import PostgresqlError, stored_passwords

    try:
        passwords = stored_passwords(config.state_path)
    except PostgresqlError as error:
        return [Finding(NAME, MISSING, str(error), "put the file of a backup, or of the other machine, back")]
    if not config.postgresql.dsn:
        return [Finding(NAME, OK, "the embedded server of the state directory")]
    check = _problems if config.runs_switch else _gateway_problems
    try:
        problems = asyncio.run(check(config, passwords))
    except Exception as error:  # a check that fails is a finding, not a crash; asyncpg raises many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        return [Finding(NAME, MISSING, f"{place_of(config.postgresql.dsn)}: {reason}", _PRIVILEGES)]
    if problems:
        return [Finding(NAME, MISSING, problem, "docs/operations.md, Add a machine") for problem in problems]
    return [Finding(NAME, OK, f"{place_of(config.postgresql.dsn)}: roles and schema fit")]


async def _problems(config: Config, passwords: dict[str, str]) -> list[str]:
    from console.database_roles import GATEWAY, dsn_of, role_name
    from console.migration import obstacles

    dsn = config.postgresql.dsn
    if not config.runs_switch:  # a machine with nothing but a gateway: it brings no schema up to date
        if GATEWAY not in passwords:
            return [f"postgresql/roles.json has no password of {GATEWAY}: copy that entry from the switch's machine"]
        name = role_name(GATEWAY, config.postgresql.prefix)
        problem = await _sealing_problem(
            dsn_of(dsn, name, passwords[GATEWAY]), Path(config.gateway_config().sealing_keys)
        )
        return [problem] if problem else []
    problems = await obstacles(dsn, passwords, prefix=config.postgresql.prefix, timeout_s=TIMEOUT_S)
    sealing = await _sealing_problem(dsn, Path(config.gateway_config().sealing_keys))
    return [*problems, sealing] if sealing else problems


async def _gateway_problems(config: Config, passwords: dict[str, str]) -> list[str]:
    """On a machine with a gateway and no switch: another one makes roles and schema, and only one role is used here."""
    from console.database_roles import GATEWAY, dsn_of, role_name

    if GATEWAY not in passwords:
        return [f"postgresql/roles.json has no password of {GATEWAY}: copy it from the switch's machine"]
    dsn = dsn_of(config.postgresql.dsn, role_name(GATEWAY, config.postgresql.prefix), passwords[GATEWAY])
    sealing = await _sealing_problem(dsn, Path(config.gateway_config().sealing_keys))
    return [sealing] if sealing else []


async def _sealing_problem(dsn: str, path: Path) -> str:
    """Why the gateway would not take the sealing keys of this machine; "" where it would."""
    import asyncpg

    from gateway.errors import ConfigurationError
    from gateway.sealing import keys_for, needed_checks

    connection: Any = await asyncpg.connect(dsn, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
    try:
        if await connection.fetchval("SELECT to_regclass('gateway.sealing_keys') IS NULL"):
            return ""
        known = await needed_checks(connection)
    finally:
        await connection.close()
    try:
        if known:
            keys_for(path, known, make=False)
    except ConfigurationError as error:
        return str(error)
    return ""
