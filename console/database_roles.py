"""The database roles of an installation: passwords and a connection go in, roles that log in come out.

`console.migration.migrate` calls it before it applies anything. Roles belong to a whole PostgreSQL server, and several
machines, or several installations, may use one server. So a role is made once and its password is never changed in
passing: a machine that does not have the password of an existing role is refused, with the file that it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import asyncpg

OWNER = "owner"
LEDGER = "cardswitch_ledger"
VAULT = "cardswitch_vault"
GATEWAY = "cardswitch_gateway"
TOKENIZER = "cardswitch_tokenizer"
AUDITOR = "cardswitch_auditor"
ROLES = (OWNER, LEDGER, VAULT, GATEWAY, TOKENIZER, AUDITOR)

PREFIX = "cardswitch"
"""The prefix of role names in the schema files and on an embedded server."""

# PostgreSQL cuts names after 63 bytes; the longest role here is `_tokenizer`.
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,49}")
_IN_SQL = re.compile(rf"\b{PREFIX}_(ledger|vault|gateway|tokenizer|auditor)\b")
_NO_CREATEROLE = (
    "the owner of the database may not make the role {name}: give that user CREATEROLE, or make the roles by hand with"
    " the passwords of postgresql/roles.json"
)
_LOGIN_REFUSED = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)


class RolesError(Exception):
    """Roles exist with other passwords, or cannot log in; the message says what to copy or to set."""


def is_prefix(text: str) -> bool:
    """Whether role names can begin with `text`: 1–50 of a–z, 0–9 and _, not a digit first."""
    return _PREFIX.fullmatch(text) is not None


def prefix_for(dsn: str) -> str:
    """The prefix of role names for a server of your own: the database's name, as far as a role name takes it.

    Two databases on one server so have roles of their own, and neither can read the other.
    """
    name = unquote(urlsplit(dsn).path.lstrip("/")).lower()
    plain = re.sub(r"[^a-z0-9_]", "_", name)[:50]
    return plain if is_prefix(plain) else f"{PREFIX}_{plain}"[:50].rstrip("_")


def role_name(role: str, prefix: str) -> str:
    """The name of a role (not the owner) on the server: `cardswitch_ledger` with prefix `test` is `test_ledger`."""
    return prefix + role.removeprefix(PREFIX)


def renamed(sql: str, prefix: str) -> str:
    """The text of a schema file with the role names of this installation."""
    return sql if prefix == PREFIX else _IN_SQL.sub(lambda match: f"{prefix}_{match[1]}", sql)


def dsn_of(owner_dsn: str, name: str, password: str) -> str:
    """The owner's DSN with another user and password; host, database and parameters (certificates) stay."""
    parts = urlsplit(owner_dsn)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}"))


async def ensure_roles(
    connection: Any, dsn: str, passwords: Mapping[str, str], prefix: str, *, reset: bool = False
) -> list[str]:
    """Make the roles that are missing, and see that each one that was there lets this machine in.

    Args:
        connection: asyncpg, the owner's.
        dsn: the owner's.
        passwords: role → password; the owner's own is left alone.
        reset: give roles that exist these passwords. Other machines are locked out until they have them.

    Returns: names of the roles that were made, or whose password was set.
    Raises: RolesError for roles that exist with another password; nothing was changed then.
    """
    wanted = {role_name(role, prefix): password for role, password in passwords.items() if role != OWNER}
    present = await _present(connection, wanted)
    if not reset and (refused := await refused_roles(dsn, wanted, present)):
        raise RolesError(refusal(refused, prefix))
    changed = []
    for name, password in wanted.items():
        if name in present and not reset:
            continue
        verb = "ALTER" if name in present else "CREATE"
        quoted = await connection.fetchval("SELECT format('%I LOGIN PASSWORD %L', $1::text, $2::text)", name, password)
        try:
            await connection.execute(f"{verb} ROLE {quoted}")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            # Another machine made it at this moment, on another database of the server.
            if not await _logs_in(dsn_of(dsn, name, password)):
                raise RolesError(refusal([name], prefix)) from None
        except asyncpg.InsufficientPrivilegeError:
            raise RolesError(_NO_CREATEROLE.format(name=name)) from None
        changed.append(name)
    return changed


async def _present(connection: Any, names: Iterable[str]) -> set[str]:
    """Those of `names` that are roles of the server."""
    rows = await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname = ANY($1::text[])", list(names))
    return {row["rolname"] for row in rows}


async def refused_roles(dsn: str, wanted: Mapping[str, str], present: Iterable[str]) -> list[str]:
    """Those of the roles `present` that the server does not let in with the password of `wanted`."""
    return [name for name in sorted(present) if not await _logs_in(dsn_of(dsn, name, wanted[name]))]


async def roles_problem(connection: Any, dsn: str, passwords: Mapping[str, str], prefix: str) -> str:
    """Why `ensure_roles` would refuse; "" where it would not. Nothing is changed.

    Args: as of `ensure_roles`; no passwords: this machine has none yet.
    Raises: RolesError where the server refuses a role for another reason than its password.
    """
    names = [role_name(role, prefix) for role in ROLES if role != OWNER]
    present = await _present(connection, names)
    wanted = {role_name(role, prefix): passwords.get(role, "") for role in ROLES}
    if refused := await refused_roles(dsn, wanted, present):
        return refusal(refused, prefix)
    if len(present) < len(names) and not await connection.fetchval(
        "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"
    ):
        return _NO_CREATEROLE.format(name=min(set(names) - present))
    return ""


async def _logs_in(dsn: str) -> bool:
    """Whether the server lets this role in, by any means of its pg_hba.conf."""
    try:
        connection: Any = await asyncpg.connect(dsn, timeout=30)
    except _LOGIN_REFUSED:
        return False
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise RolesError(f"the role {urlsplit(dsn).username} cannot log in: {error}") from None
    await connection.close()
    return True


def refusal(names: list[str], prefix: str) -> str:
    """The remedy for roles whose passwords this machine does not have."""
    return (
        f"{', '.join(names)} on this server have other passwords than this state directory. "
        "If another machine runs this installation: copy postgresql/roles.json from its state directory into this one "
        "(mode 0600). "
        f"If this is another installation on the same server: set [postgresql] role_prefix to something other than "
        f"{prefix!r}. "
        "If that file is lost: `cardswitch ledger migrate --set-passwords` sets new passwords, and every other machine "
        "is locked out until it has a copy of this machine's file"
    )
