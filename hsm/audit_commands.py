"""The command with which an officer has the running process check seals of the audit trail: the token is in its hands.

It says which seals are wrong and never makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hsm.audit import MAX_CLAIMS, Claim, Seal, is_sealed_text, wrong_claims
from hsm.commands import HsmRefused


class CheckSeals(msgspec.Struct, frozen=True, tag="check_seals", kw_only=True):
    """At most 500 seals as `hsm.audit` found them."""

    claims: tuple[Claim, ...]


class CheckedSeals(msgspec.Struct, frozen=True, tag="seals_checked"):
    """Positions (from 0) of the claims that are not the token's seals."""

    wrong: tuple[int, ...]


AuditRequest = CheckSeals
AuditAnswer = CheckedSeals


def audit_handlers(seal: Seal) -> dict[type, Callable[[Any], Any]]:
    """Return what answers the command.

    Args:
        seal: the HMAC of the token's key `audit-1`.
    """

    def check(request: CheckSeals) -> CheckedSeals:
        if len(request.claims) > MAX_CLAIMS or not all(is_sealed_text(claim.data) for claim in request.claims):
            raise HsmRefused("malformed", f"at most {MAX_CLAIMS} seals of the audit trail")
        return CheckedSeals(wrong_claims(seal, request.claims))

    return {CheckSeals: check}
