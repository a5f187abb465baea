"""Merchants' accounts and API keys: made by the command line, checked at each request by `gateway.key_check`.

A key is 32 random base-62 characters (190 bits), so its SHA-256 is stored and looked up by an index: a slow hash
protects secrets that people choose, and would cost each request what the payment itself costs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import timedelta
from typing import Any, Literal

import msgspec

from gateway.errors import ApiError, GatewayError
from gateway.ids import new_id, random_chars

Kind = Literal["secret", "publishable"]
PREFIXES: dict[Kind, str] = {"secret": "sk_test_", "publishable": "pk_test_"}
_SHAPE = re.compile(r"(?:sk|pk)_test_[A-Za-z0-9_]{1,120}")


class Account(msgspec.Struct, frozen=True):
    """A merchant. `merchant` is DE 42; name, city and country (alpha-2) are DE 43; `mcc` is DE 18."""

    id: str
    merchant: str
    name: str
    city: str
    country: str
    mcc: str


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key; `key` is shown this once and stored nowhere."""

    id: str
    key: str
    kind: Kind
    account: str


class Caller(msgspec.Struct, frozen=True):
    """The sender of a request."""

    account: Account
    kind: Kind


async def ensure_account(
    connection: Any, merchant: str, name: str, *, city: str = "", country: str = "DE", mcc: str = "5999"
) -> str:
    """The account of a `[[merchant]]`, made or brought up to date; returns its id (`acct_…`)."""
    account: str = await connection.fetchval(
        """INSERT INTO gateway.accounts (id, merchant, name, city, country, mcc) VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (merchant) DO UPDATE SET name = $3, city = $4, country = $5, mcc = $6 RETURNING id""",
        *(new_id("acct"), merchant, name, city, country, mcc),
    )
    return account


async def create_key(connection: Any, merchant: str, kind: Kind = "secret") -> CreatedKey:
    """Make a key for the merchant with that DE 42. Raises GatewayError where there is no such account."""
    account = await connection.fetchval("SELECT id FROM gateway.accounts WHERE merchant = $1", merchant)
    if account is None:
        raise GatewayError(f"no account of merchant {merchant!r}: add [[merchant]] id = {merchant!r} and start again")
    created = CreatedKey(new_id("key"), PREFIXES[kind] + random_chars(32), kind, account)
    await connection.execute(
        "INSERT INTO gateway.api_keys (id, account_id, kind, digest, hint) VALUES ($1, $2, $3, $4, $5)",
        *(created.id, account, kind, key_digest(created.key), created.key[-4:]),
    )
    return created


async def revoke_key(connection: Any, key_id: str, grace: timedelta = timedelta(0)) -> None:
    """End a key now, or after `grace`. Raises GatewayError where no such key is in use."""
    done = await connection.fetchval(
        """UPDATE gateway.api_keys SET ends_at = now() + $2
           WHERE id = $1 AND (ends_at IS NULL OR ends_at > now()) RETURNING id""",
        *(key_id, grace),
    )
    if done is None:
        raise GatewayError(f"no key {key_id!r} in use")


async def rotate_key(connection: Any, key_id: str, grace: timedelta = timedelta(hours=24)) -> CreatedKey:
    """A new key of the same account and kind; the old one ends after `grace`."""
    async with connection.transaction():
        row = await connection.fetchrow(
            """SELECT k.kind, a.merchant FROM gateway.api_keys k JOIN gateway.accounts a ON a.id = k.account_id
               WHERE k.id = $1""",
            key_id,
        )
        if row is None:
            raise GatewayError(f"no key {key_id!r} in use")
        await revoke_key(connection, key_id, grace)
        return await create_key(connection, row["merchant"], row["kind"])


async def list_keys(connection: Any) -> list[dict[str, Any]]:
    """All keys without their values: id, merchant, kind, the last four characters, created and end times."""
    rows = await connection.fetch(
        """SELECT k.id, a.merchant, k.kind, k.hint, k.created_at, k.ends_at
           FROM gateway.api_keys k JOIN gateway.accounts a ON a.id = k.account_id ORDER BY k.id"""
    )
    return [dict(row) for row in rows]


async def caller_of(connection: Any, digest: bytes) -> Caller | None:
    """The caller whose key has that digest; None where there is no such key, or it has ended."""
    row = await connection.fetchrow(
        """SELECT k.kind, a.id, a.merchant, a.name, a.city, a.country, a.mcc
           FROM gateway.api_keys k JOIN gateway.accounts a ON a.id = k.account_id
           WHERE k.digest = $1 AND (k.ends_at IS NULL OR k.ends_at > now())""",
        digest,
    )
    if row is None:
        return None
    fields = dict(row)
    kind: Kind = fields.pop("kind")
    return Caller(Account(**fields), kind)


async def newest_digests(connection: Any, count: int) -> list[tuple[bytes, str, Kind]]:
    """Digest, account and kind of the `count` keys made last that have not ended, the newest first."""
    rows = await connection.fetch(
        """SELECT digest, account_id, kind FROM gateway.api_keys
           WHERE ends_at IS NULL OR ends_at > now() ORDER BY id DESC LIMIT $1""",
        count,
    )
    return [(row["digest"], row["account_id"], row["kind"]) for row in rows]


def key_digest(key: str) -> bytes:
    """The stored form of a key: SHA-256, 32 bytes."""
    return hashlib.sha256(key.encode()).digest()


def key_of(authorization: str) -> str:
    """The key in an Authorization header: `Bearer sk_…`, or `Basic` with the key as user name and no password.

    Raises: ApiError 401 where there is none, or nothing that could be one.
    """
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(credentials, validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise unauthorized("The Basic credentials are not base64") from None
        credentials = decoded.partition(":")[0]
    elif scheme.lower() != "bearer":
        raise unauthorized(
            "You did not provide an API key. Provide it as 'Authorization: Bearer sk_test_…' "
            "or as the user name of HTTP Basic authentication"
        )
    if not _SHAPE.fullmatch(credentials):
        raise unauthorized("Invalid API Key provided")
    return credentials


def unauthorized(message: str) -> ApiError:
    """401, with a challenge."""
    return ApiError(401, "invalid_request_error", message, headers={"WWW-Authenticate": 'Basic realm="cardswitch"'})
