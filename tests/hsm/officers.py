"""Helpers of the tests of dual control: officers with their keys, and the commands as they sign them."""

from __future__ import annotations

import secrets
from typing import Any

from hsm.algorithms.check_value import clear_check_value
from hsm.key_commands import ImportComponents
from hsm.keys.attributes import ROLES
from hsm.officer_commands import Approve, Proposal, Proposals, Propose, Reject
from hsm.officers import OfficerKey, approval_text, new_officer_key, proposal_text, rejection_text

ALICE, BOB, CAROL = (new_officer_key(name) for name in ("alice", "bob", "carol"))


def component_check_value(request: Any, component: bytes) -> str:
    if not component:
        return ""
    assert isinstance(request, ImportComponents)
    algorithms = ROLES[request.role].algorithms
    attributes = algorithms[request.algorithm] if request.algorithm else next(iter(algorithms.values()))
    return clear_check_value(attributes.algorithm, component)


def propose(officer: OfficerKey, listed: Proposals, request: Any, component: bytes = b"", /, **changes: Any) -> Propose:
    """Return a signed proposal; `changes` are made after it was signed."""
    nonce, made_at = secrets.token_hex(16), changes.pop("signed_at", listed.now)
    text = proposal_text(listed.store, request, officer.name, nonce, made_at, component_check_value(request, component))
    fields: dict[str, Any] = {
        "request": request,
        "officer": officer.name,
        "nonce": nonce,
        "made_at": made_at,
        "signature": officer.sign(text),
        "component": component,
    }
    return Propose(**(fields | changes))


def approve(officer: OfficerKey, store: str, proposal: Proposal, component: bytes = b"", /, **changes: Any) -> Approve:
    text = approval_text(store, proposal, officer.name, component_check_value(proposal.request, component))
    fields: dict[str, Any] = {
        "id": proposal.id,
        "officer": officer.name,
        "signature": officer.sign(text),
        "component": component,
    }
    return Approve(**(fields | changes))


def reject(officer: OfficerKey, store: str, proposal: Proposal) -> Reject:
    signature = officer.sign(rejection_text(store, proposal, officer.name))
    return Reject(id=proposal.id, officer=officer.name, signature=signature)
