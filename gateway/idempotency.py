"""Idempotency keys: a key and a digest of the request in, the stored answer or the right to do the work out.

The row is durable before any work. The first transaction of the work stores its continuation in it, so a retry after
a crash goes on instead of beginning again. A row is taken over when its holder is dead or silent for `claim_s`; a
holder that has lost its row cannot begin: `bind` fails inside its transaction.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import msgspec

from gateway.errors import ApiError
from gateway.operations import Continuation
from gateway.presence import ALIVE
from gateway.sealing import Sealer, bound_to_answer

_MAX_KEY = 255
KEPT = "24 hours"
_HOLDER_ALIVE = ALIVE.format(process="split_part(i.holder, ':', 1)")


class Stored(msgspec.Struct, frozen=True):
    """An answer that was given before."""

    status: int
    body: bytes


class Claim(msgspec.Struct, frozen=True):
    """The right to do the work of a key. `continuation` is there where the work has begun already."""

    account_id: str
    key: str
    holder: str
    continuation: Continuation | None


def request_digest(method: str, path: str, params: dict[str, Any]) -> bytes:
    """SHA-256 over what makes two requests the same."""
    encoded = msgspec.json.encode([method, path, params], order="sorted")
    return hashlib.sha256(encoded).digest()


async def claim(
    connection: Any, account_id: str, key: str, digest: bytes, process: str, claim_s: float, sealer: Sealer
) -> Claim | Stored:
    """Take the key, or find its answer.

    Args:
        process: number of this process, `gateway.presence`.

    Raises: ApiError 400 `idempotency_error` for other parameters, 409 `idempotency_key_in_use` while another
    request holds it.
    """
    if not 1 <= len(key) <= _MAX_KEY:
        raise ApiError(400, "idempotency_error", f"Idempotency-Key must have 1 to {_MAX_KEY} characters")
    holder = f"{process}:{secrets.token_hex(8)}"
    row = await connection.fetchrow(
        f"""INSERT INTO gateway.idempotency AS i (account_id, key, digest, holder, held_until)
           VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
           ON CONFLICT (account_id, key) DO UPDATE SET holder = $4, held_until = excluded.held_until
           WHERE i.status IS NULL AND i.digest = $3 AND (i.held_until < now() OR NOT {_HOLDER_ALIVE})
           RETURNING continuation""",
        *(account_id, key, digest, holder, claim_s),
    )
    if row is not None:
        begun = row["continuation"]
        return Claim(account_id, key, holder, None if begun is None else msgspec.convert(begun, Continuation))
    row = await connection.fetchrow(
        """SELECT digest, status, body, sealed_body, key_version FROM gateway.idempotency
           WHERE account_id = $1 AND key = $2""",
        *(account_id, key),
    )
    if row is not None and row["digest"] != digest:
        raise ApiError(
            400,
            "idempotency_error",
            "Keys for idempotent requests can only be used with the same parameters they were first used with. "
            "Try using another key.",
        )
    if row is not None and row["status"] is not None:
        body = row["body"]  # in clear only where a gateway of an earlier version stored it
        if body is None:
            body = sealer.open(row["sealed_body"], row["key_version"], bound_to_answer(account_id, key))
        return Stored(row["status"], body.encode())
    raise in_use()


async def bind(connection: Any, held: Claim, continuation: Continuation) -> None:
    """Store where the work goes on, in the transaction that begins it. Raises ApiError 409 where the row is lost."""
    done = await connection.fetchval(
        """UPDATE gateway.idempotency SET continuation = $4
           WHERE account_id = $1 AND key = $2 AND holder = $3 AND continuation IS NULL AND status IS NULL
           RETURNING true""",
        *(held.account_id, held.key, held.holder, msgspec.to_builtins(continuation)),
    )
    if not done:
        raise in_use()


async def finish(connection: Any, held: Claim, answer: Stored, sealer: Sealer) -> None:
    """Store the answer for all repeats, sealed: it may show a secret, and says what a customer paid."""
    await connection.execute(
        """UPDATE gateway.idempotency SET status = $4, sealed_body = $5, key_version = $6
           WHERE account_id = $1 AND key = $2 AND holder = $3 AND status IS NULL""",
        *(held.account_id, held.key, held.holder, answer.status),
        *sealer.seal(answer.body.decode(), bound_to_answer(held.account_id, held.key)),
    )


async def release(connection: Any, held: Claim) -> None:
    """Let the next request with this key go on at once."""
    await connection.execute(
        """UPDATE gateway.idempotency SET held_until = now() - interval '1 second'
           WHERE account_id = $1 AND key = $2 AND holder = $3""",
        *(held.account_id, held.key, held.holder),
    )


async def forget(connection: Any, limit: int = 1000) -> None:
    """Delete keys older than `KEPT`, some at a time; those whose work has begun and not ended stay."""
    await connection.execute(
        f"""DELETE FROM gateway.idempotency WHERE ctid IN (
                SELECT ctid FROM gateway.idempotency WHERE created_at < now() - interval '{KEPT}'
                    AND (status IS NOT NULL OR continuation IS NULL) AND held_until < now() LIMIT $1)""",
        limit,
    )


def in_use() -> ApiError:
    return ApiError(
        409,
        "idempotency_error",
        "There is currently another in-progress request using this Idempotency-Key. Try again later.",
        code="idempotency_key_in_use",
    )
