"""The API key of a request: an Authorization header goes in, the account and the key's kind come out.

`hsm.tokenizer.endpoint` asks at each request. Keys are the gateway's; this process sees one view with their SHA-256
(`gateway.key_digests`), read by a role that may read nothing else. Answers are remembered for seconds, so that a flood
of requests is no flood of queries, and for minutes where the database is away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec
import structlog

from hsm.errors import VaultError
from hsm.tokenizer.errors import ApiError, unauthorized, unavailable
from hsm.vault.database import CONNECTIONS, Database
from web.keyless import holder

log = structlog.get_logger(__name__)

# Lifetime of an answer: for a known key, for an unknown one, and for the former while the database is away.
KNOWN_S = 30.0
UNKNOWN_S = 5.0
AWAY_S = 300.0
_MAX_UNKNOWN = 10_000
_MAX_LOADED = 50_000
_LOOKUPS = CONNECTIONS // 2  # of keys that are not known: known ones find a connection beside any number of guesses
_SHAPE = re.compile(r"(?:pk|sk)_test_[A-Za-z0-9_]{1,120}")
_READ = "SELECT account_id, kind, ends_at FROM gateway.key_digests WHERE digest = $1"
_READ_ALL = """SELECT digest, account_id, kind, ends_at FROM gateway.key_digests
    WHERE ends_at IS NULL OR ends_at > now() LIMIT $1"""


class ApiKey(msgspec.Struct, frozen=True):
    """A key that may be used: `account` is "acct_…", `kind` secret or publishable, `name` its key in tables."""

    account: str
    kind: str
    name: str

    def require_secret(self) -> None:
        """Raise ApiError 403 for a publishable key: anybody can read it off a merchant's page."""
        if self.kind != "secret":
            raise ApiError(
                403,
                "invalid_request_error",
                "This API call cannot be made with a publishable API key. Use a secret key (sk_test_…), "
                "and only on your server.",
                "secret_key_required",
            )


class KeyRecord(msgspec.Struct, frozen=True):
    """A row of `gateway.key_digests`; `ends_at` is an aware time, or None for a key without an end."""

    account: str
    kind: str
    ends_at: datetime | None = None


class KeyRecords(Protocol):
    """The source of keys; VaultError if it is away."""

    async def find(self, digest: bytes) -> KeyRecord | None: ...

    async def valid(self, count: int) -> dict[bytes, KeyRecord]:
        """Return up to `count` keys that have not ended, by digest."""
        ...


class StoredKeys:
    """The keys in PostgreSQL.

    Args:
        database: connections of the role cardswitch_tokenizer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, digest: bytes) -> KeyRecord | None:
        async def read(connection: Any) -> Any:
            return await connection.fetchrow(_READ, digest)

        row = await self._database.run(read)
        return None if row is None else KeyRecord(row["account_id"], row["kind"], row["ends_at"])

    async def valid(self, count: int) -> dict[bytes, KeyRecord]:
        async def read(connection: Any) -> Any:
            return await connection.fetch(_READ_ALL, count)

        rows = await self._database.run(read)
        return {row["digest"]: KeyRecord(row["account_id"], row["kind"], row["ends_at"]) for row in rows}


class _Known(msgspec.Struct, frozen=True):
    record: KeyRecord
    asked_at: float


class KeyCheck:
    """Checks keys and remembers the answers.

    Those about unknown keys are 10,000 at most and apart: no number of guesses makes it forget a merchant.

    A key that is revoked works for at most `KNOWN_S` more where the database can be reached, and `AWAY_S` where it
    cannot; an end that was set before that is kept to the second.

    Args:
        records: where keys are looked up.
        now: for the ends of keys, aware. clock: for the age of answers, monotonic.
    """

    def __init__(
        self, records: KeyRecords, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._records = records
        self._now = now
        self._clock = clock
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._known: dict[bytes, _Known] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()

    async def check(self, authorization: str) -> ApiKey:
        """Return the key of `Bearer …`, or of `Basic` with the key as user name.

        Raises:
            ApiError: 401 for one that is missing, unknown, revoked or ended; 503 where that cannot be found out.
        """
        digest = hashlib.sha256(_key_of(authorization).encode()).digest()
        record = await self._record(digest)
        if record is None:
            raise unauthorized("Invalid API Key provided.")
        if record.ends_at is not None and record.ends_at <= self._now():
            raise unauthorized("Expired API Key provided.", "api_key_expired")
        return ApiKey(record.account, record.kind, digest.hex())

    def known_holder(self, authorization: str) -> str:
        """Return whose key that was when it was last valid, "" where it is not known. Asks nobody."""
        try:
            known = self._known.get(hashlib.sha256(_key_of(authorization).encode()).digest())
        except ApiError:
            return ""
        return holder(known.record.account, known.record.kind) if known is not None else ""

    async def _record(self, digest: bytes) -> KeyRecord | None:
        # Looked up by the digest, never by the key: its duration reveals nothing about a usable key.
        asked_at = self._clock()
        known = self._known.get(digest)
        if known is not None and asked_at - known.asked_at < KNOWN_S:
            return known.record
        if asked_at - self._unknown.get(digest, -UNKNOWN_S) < UNKNOWN_S:
            return None
        try:
            record = await self._found(digest, known is not None)
        except VaultError:
            if known is not None and asked_at - known.asked_at < AWAY_S:
                return known.record
            raise unavailable("API keys cannot be checked at the moment; try again.") from None
        if record is not None:
            self._known[digest] = _Known(record, asked_at)
            return record
        self._known.pop(digest, None)
        self._unknown[digest] = asked_at
        self._unknown.move_to_end(digest)
        if len(self._unknown) > _MAX_UNKNOWN:
            self._unknown.popitem(last=False)
        return None

    async def load(self) -> None:
        """Get to know the keys that there are, once, at the start: see `known_holder`. Without the database, none."""
        asked_at = self._clock()
        try:
            records = await self._records.valid(_MAX_LOADED)
        except VaultError:
            return
        for digest, record in records.items():
            self._known.setdefault(digest, _Known(record, asked_at))

    async def _found(self, digest: bytes, known: bool) -> KeyRecord | None:
        if known:
            return await self._records.find(digest)
        async with self._lookups:
            return await self._records.find(digest)


def _key_of(authorization: str) -> str:
    scheme, _, given = authorization.partition(" ")
    given = given.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("ascii").partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    elif scheme.lower() != "bearer":
        given = ""
    if not given:
        raise unauthorized("You did not provide an API key. Send 'Authorization: Bearer pk_test_…'.")
    if not _SHAPE.fullmatch(given):
        raise unauthorized("Invalid API Key provided.")
    return given
