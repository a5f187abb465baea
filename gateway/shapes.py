"""The parameters of each endpoint as structs: named parameters are accepted, all others are refused.

`gateway.parameters.convert` fills them; the handlers take them. Source: inferred from the parameter types of the
official `stripe` package, 16.1 (`PaymentIntentCreateParams` and so on).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Amount = Annotated[int, Meta(ge=1, le=10**15)]  # `gateway.amounts` has the limits of each currency
Text = Annotated[str, Meta(max_length=500)]
Long = Annotated[str, Meta(max_length=5000)]
Id = Annotated[str, Meta(max_length=100)]
Descriptor = Annotated[str, Meta(max_length=22)]
CaptureMethod = Literal["automatic", "automatic_async", "manual"]
CancellationReason = Literal["duplicate", "fraudulent", "requested_by_customer", "abandoned"]
RefundReason = Literal["duplicate", "fraudulent", "requested_by_customer"]

LISTS = frozenset({"expand", "enabled_events", "payment_method_types", "types"})

# Parameters of Stripe's that are known and come with a later version.
NOT_YET = {
    "customer": "customers are not stored here; send payment_method or payment_method_data",
    "customer_account": "customers are not stored here",
    "setup_future_usage": "cards cannot be saved for later",
    "mandate": "there are no mandates",
    "mandate_data": "there are no mandates",
    "transfer_data": "there are no connected accounts",
    "transfer_group": "there are no connected accounts",
    "on_behalf_of": "there are no connected accounts",
    "application_fee_amount": "there are no connected accounts",
    "shipping": "keep it in metadata",
    "payment_method_options": "cards have no options",
    "radar_options": "the switch's own rules decide",
    "source": "send payment_method or payment_method_data[card][token]",
}


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of every request."""

    expand: Annotated[list[Text], Meta(max_length=10)] = []


class CardToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: Id


class MethodData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["card"]
    card: CardToken
    billing_details: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    allow_redisplay: Literal["always", "limited", "unspecified"] = "unspecified"


class AutomaticMethods(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool
    allow_redirects: Literal["always", "never"] = "always"


class _Descriptive(Shape, frozen=True, kw_only=True):
    metadata: dict[str, str] | UnsetType = UNSET
    description: Long | UnsetType = UNSET
    receipt_email: Text | UnsetType = UNSET
    statement_descriptor: Descriptor | UnsetType = UNSET
    statement_descriptor_suffix: Descriptor | UnsetType = UNSET


class _Confirming(_Descriptive, frozen=True, kw_only=True):
    payment_method: Id | None = None
    payment_method_data: MethodData | None = None
    payment_method_types: list[Literal["card"]] | UnsetType = UNSET
    capture_method: CaptureMethod | UnsetType = UNSET
    return_url: Text | UnsetType = UNSET
    off_session: bool = False
    use_stripe_sdk: bool = False
    error_on_requires_action: bool = False


class IntentCreate(_Confirming, frozen=True, kw_only=True):
    amount: Amount
    currency: Annotated[str, Meta(max_length=10)]
    confirm: bool = False
    confirmation_method: Literal["automatic", "manual"] = "automatic"
    automatic_payment_methods: AutomaticMethods | UnsetType = UNSET


class IntentUpdate(_Confirming, frozen=True, kw_only=True):
    amount: Amount | None = None
    currency: Annotated[str, Meta(max_length=10)] | None = None


class IntentConfirm(_Confirming, frozen=True, kw_only=True):
    client_secret: Text | None = None


class IntentCapture(_Descriptive, frozen=True, kw_only=True):
    amount_to_capture: Amount | None = None
    final_capture: bool = True


class IntentCancel(Shape, frozen=True, kw_only=True):
    cancellation_reason: CancellationReason | None = None


class RefundCreate(Shape, frozen=True, kw_only=True):
    payment_intent: Id | None = None
    charge: Id | None = None
    amount: Amount | None = None
    reason: RefundReason | None = None
    metadata: dict[str, str] | UnsetType = UNSET


class EndpointCreate(Shape, frozen=True, kw_only=True):
    url: Annotated[str, Meta(max_length=2000)]
    enabled_events: Annotated[list[Text], Meta(min_length=1, max_length=100)]
    description: Long | None = None
    metadata: dict[str, str] | UnsetType = UNSET
    api_version: Text | None = None


class Retrieve(Shape, frozen=True, kw_only=True):
    client_secret: Text | None = None


class Nothing(Shape, frozen=True, kw_only=True):
    pass


Seconds = Annotated[int, Meta(ge=0, le=2**53)]


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    gt: Seconds | None = None
    gte: Seconds | None = None
    lt: Seconds | None = None
    lte: Seconds | None = None


class Page(Shape, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    starting_after: Id | None = None
    ending_before: Id | None = None
    created: Seconds | Range | None = None


class ChargePage(Page, frozen=True, kw_only=True):
    payment_intent: Id | None = None


class RefundPage(ChargePage, frozen=True, kw_only=True):
    charge: Id | None = None


class EventPage(Page, frozen=True, kw_only=True):
    type: Text | None = None
    types: Annotated[list[Text], Meta(max_length=20)] = []
