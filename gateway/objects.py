"""Rows of the database as Stripe's objects: pure functions, called by the handlers, events and lists.

Source: inferred from the object classes of the official `stripe` package, 16.1. Members that this gateway has no
use for are null, so that clients in typed languages find them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.amounts import from_minor
from gateway.declines import decline

Row = Mapping[str, Any]
Object = dict[str, Any]
API_VERSION = "2026-10-28.endive"


def epoch(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def payment_intent(row: Row) -> Object:
    details = row["details"]
    return {
        "id": row["id"],
        "object": "payment_intent",
        "amount": from_minor(row["amount_minor"], row["currency"]),
        "amount_capturable": from_minor(row["amount_capturable_minor"], row["currency"]),
        "amount_details": {"tip": {}},
        "amount_received": from_minor(row["amount_received_minor"], row["currency"]),
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": details.get("automatic_payment_methods"),
        "canceled_at": epoch(row["canceled_at"]),
        "cancellation_reason": row["cancellation_reason"],
        "capture_method": row["capture_method"],
        "client_secret": row["client_secret"],
        "confirmation_method": details.get("confirmation_method", "automatic"),
        "created": epoch(row["created_at"]),
        "currency": row["currency"].lower(),
        "customer": None,
        "description": details.get("description"),
        "last_payment_error": row["last_payment_error"],
        "latest_charge": row["latest_charge"],
        "livemode": False,
        "metadata": row["metadata"],
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": row["payment_method"],
        "payment_method_options": {},
        "payment_method_types": details.get("payment_method_types", ["card"]),
        "processing": None,
        "receipt_email": details.get("receipt_email"),
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": details.get("statement_descriptor"),
        "statement_descriptor_suffix": details.get("statement_descriptor_suffix"),
        "status": row["status"],
        "transfer_data": None,
        "transfer_group": None,
    }


def payment_method(row: Row) -> Object:
    return {
        "id": row["id"],
        "object": "payment_method",
        "billing_details": billing(row["billing_details"]),
        "card": {**row["card"], "checks": None, "networks": {"available": [row["card"]["brand"]], "preferred": None}},
        "created": epoch(row["created_at"]),
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


def billing(details: Row) -> Object:
    return {"address": None, "email": None, "name": None, "phone": None, "tax_id": None, **details}


_OUTCOME_TYPES = {"pending": None, "succeeded": "authorized", "failed": "issuer_declined"}


def charge(row: Row) -> Object:
    details, failed = row["details"], row["status"] == "failed"
    row_of = decline(row["response_code"]) if failed else None
    outcome = None
    if row["status"] != "pending":
        outcome = {
            "network_status": "declined_by_network" if failed else "approved_by_network",
            "reason": row_of.decline_code if row_of else None,
            "risk_level": "normal",
            "seller_message": row_of.message if row_of else "Payment complete.",
            "network_decline_code": row["response_code"] if failed and row["response_code"] else None,
            "type": _OUTCOME_TYPES[row["status"]],
        }
    card = {**row["card"], "authorization_code": row["auth_code"] or None, "network": row["card"]["brand"]}
    return {
        "id": row["id"],
        "object": "charge",
        "amount": from_minor(row["amount_minor"], row["currency"]),
        "amount_captured": from_minor(row["amount_captured_minor"], row["currency"]),
        "amount_refunded": from_minor(row["amount_refunded_minor"], row["currency"]),
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": billing(row["billing_details"]),
        "calculated_statement_descriptor": details.get("statement_descriptor"),
        "captured": row["captured"],
        "created": epoch(row["created_at"]),
        "currency": row["currency"].lower(),
        "customer": None,
        "description": details.get("description"),
        "disputed": row["disputed"],
        "failure_balance_transaction": None,
        "failure_code": row_of.code if row_of else None,
        "failure_message": row_of.message if row_of else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": row["metadata"],
        "on_behalf_of": None,
        "outcome": outcome,
        "paid": row["status"] == "succeeded",
        "payment_intent": row["payment_intent"],
        "payment_method": row["payment_method"],
        "payment_method_details": {"card": card, "type": "card"},
        "receipt_email": details.get("receipt_email"),
        "receipt_number": None,
        "receipt_url": None,
        "refunded": row["captured"] and row["amount_refunded_minor"] == row["amount_captured_minor"],
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": details.get("statement_descriptor"),
        "statement_descriptor_suffix": details.get("statement_descriptor_suffix"),
        "status": row["status"],
        "transfer_data": None,
        "transfer_group": None,
    }


def refund(row: Row) -> Object:
    result = {
        "id": row["id"],
        "object": "refund",
        "amount": from_minor(row["amount_minor"], row["currency"]),
        "balance_transaction": None,
        "charge": row["charge"],
        "created": epoch(row["created_at"]),
        "currency": row["currency"].lower(),
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": row["metadata"],
        "payment_intent": row["payment_intent"],
        "reason": row["reason"],
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": row["status"],
        "transfer_reversal": None,
    }
    return {**result, "failure_reason": row["failure_reason"]} if row["failure_reason"] else result


def dispute(row: Row) -> Object:
    return {
        "id": row["id"],
        "object": "dispute",
        "amount": from_minor(row["amount_minor"], row["currency"]),
        "balance_transactions": [],
        "charge": row["charge"],
        "created": epoch(row["created_at"]),
        "currency": row["currency"].lower(),
        "evidence": {},
        "evidence_details": {"due_by": None, "has_evidence": False, "past_due": False, "submission_count": 0},
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": row["metadata"],
        "payment_intent": row["payment_intent"],
        "reason": row["reason"],
        "status": row["status"],
    }


def event(row: Row) -> Object:
    return {
        "id": row["id"],
        "object": "event",
        "api_version": API_VERSION,
        "created": epoch(row["created_at"]),
        "data": {"object": row["object"]},
        "livemode": False,
        "pending_webhooks": row.get("pending_webhooks", 0),
        "request": {"id": row["request_id"], "idempotency_key": row["idempotency_key"]},
        "type": row["type"],
    }


def webhook_endpoint(row: Row, secret: str = "") -> Object:
    """`secret` is shown where it is given."""
    result = {
        "id": row["id"],
        "object": "webhook_endpoint",
        "api_version": None,
        "application": None,
        "created": epoch(row["created_at"]),
        "description": row["description"],
        "enabled_events": list(row["enabled_events"]),
        "livemode": False,
        "metadata": row["metadata"],
        "status": "enabled",
        "url": row["url"],
    }
    return {**result, "secret": secret} if secret else result
