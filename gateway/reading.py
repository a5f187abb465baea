"""Reading objects: retrieve one, list a page, expand ids into objects. Called by `gateway.app`.

Every query names the account: another merchant's object does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway import objects
from gateway.client_view import client_view, secret_fits
from gateway.errors import invalid, missing
from gateway.objects import Object, Row
from gateway.operations import Context
from gateway.shapes import ChargePage, EventPage, Page, Range, RefundPage, Retrieve

# Abandoned webhooks count as well, so that the number reveals only the receiver's own answers.
# Source: Stripe's published object reference: webhooks "that haven't been successfully delivered".
_PENDING = """(SELECT count(*) FROM gateway.deliveries d WHERE d.event_id = t.id AND d.state <> 'delivered')
    AS pending_webhooks"""


class Resource(msgspec.Struct, frozen=True):
    """Where objects of a kind are, how they are shown, and which of their ids can be expanded into what."""

    name: str
    table: str
    url: str
    show: Callable[[Row], Object]
    expandable: dict[str, str] = {}
    extra: str = ""  # further columns
    where: str = ""  # further conditions


RESOURCES = {
    resource.name: resource
    for resource in (
        Resource(
            *("payment_intent", "payment_intents", "/v1/payment_intents", objects.payment_intent),
            {"latest_charge": "charge", "payment_method": "payment_method"},
        ),
        Resource("charge", "charges", "/v1/charges", objects.charge, {"payment_intent": "payment_intent"}),
        Resource(
            *("refund", "refunds", "/v1/refunds", objects.refund),
            {"charge": "charge", "payment_intent": "payment_intent"},
        ),
        Resource(
            *("dispute", "disputes", "/v1/disputes", objects.dispute),
            {"charge": "charge", "payment_intent": "payment_intent"},
        ),
        Resource("event", "events", "/v1/events", objects.event, extra=f", {_PENDING}"),
        Resource("payment_method", "payment_methods", "/v1/payment_methods", objects.payment_method),
        Resource(
            *("webhook_endpoint", "webhook_endpoints", "/v1/webhook_endpoints", objects.webhook_endpoint),
            where=" AND t.deleted_at IS NULL",
        ),
    )
}
_NULL = frozenset({"customer", "balance_transaction", "application", "on_behalf_of", "review", "transfer_data"})
_MAX_EXPANSION = 4


async def retrieve(connection: Any, context: Context, resource: Resource, object_id: str, params: Retrieve) -> Object:
    """GET of one object. With a publishable key: the part of it that a page may see, for its client secret."""
    if context.caller.kind == "publishable":
        return await _retrieve_for_page(connection, context, resource, object_id, params)
    row = await row_of(connection, context.account.id, resource, object_id)
    shown = resource.show(row)
    await expand(connection, context.account.id, [shown], params.expand)
    return shown


async def _retrieve_for_page(
    connection: Any, context: Context, resource: Resource, object_id: str, params: Retrieve
) -> Object:
    """Raises the same ApiError for an object that is not there and for a wrong or missing client secret."""
    if params.expand:
        raise invalid("expand cannot be used with a publishable key", "expand")
    row = await find_row(connection, context.account.id, resource, object_id)
    shown = resource.show(row) if row is not None else None
    if shown is None or not secret_fits(shown, params.client_secret):
        raise missing(resource.name)
    return client_view(shown)


async def find_row(connection: Any, account_id: str, resource: Resource, object_id: str) -> Row | None:
    """The row of an object of this account, None where there is none."""
    row: Row | None = await connection.fetchrow(
        f"SELECT t.*{resource.extra} FROM gateway.{resource.table} t "
        f"WHERE t.id = $1 AND t.account_id = $2{resource.where}",
        *(object_id, account_id),
    )
    return row


async def row_of(connection: Any, account_id: str, resource: Resource, object_id: str) -> Row:
    """The row of an object of this account. Raises ApiError 404."""
    row = await find_row(connection, account_id, resource, object_id)
    if row is None:
        raise missing(resource.name, "id")
    return row


async def page(connection: Any, context: Context, resource: Resource, params: Page) -> Object:
    """GET of a list, newest first."""
    if params.starting_after is not None and params.ending_before is not None:
        raise invalid("Send starting_after or ending_before, not both", "ending_before")
    where, values = _conditions(params)
    values.insert(0, context.account.id)
    for name, sign in (("starting_after", "<"), ("ending_before", ">")):
        if (cursor := getattr(params, name)) is not None:
            if not await _exists(connection, context.account.id, resource, cursor):
                raise missing(resource.name, name)
            values.append(cursor)
            where.append(f"t.id {sign} ${len(values)}")
    backwards = params.ending_before is not None
    conditions = "".join(f" AND {condition}" for condition in where)
    rows = await connection.fetch(
        f"SELECT t.*{resource.extra} FROM gateway.{resource.table} t WHERE t.account_id = $1{resource.where}"
        f"{conditions} ORDER BY t.id {'ASC' if backwards else 'DESC'} LIMIT {params.limit + 1}",
        *values,
    )
    shown = [resource.show(row) for row in rows[: params.limit]]
    if backwards:
        shown.reverse()
    paths = [path.removeprefix("data.") for path in params.expand if path.startswith("data.")]
    if len(paths) != len(params.expand):
        raise invalid("In a list, paths to expand start with 'data.'", "expand")
    await expand(connection, context.account.id, shown, paths)
    return {"object": "list", "data": shown, "has_more": len(rows) > params.limit, "url": resource.url}


async def expand(connection: Any, account_id: str, shown: list[Object], paths: list[str] | tuple[str, ...]) -> None:
    """Replace ids in `shown` by their objects, e.g. `latest_charge` or `charge.payment_intent`."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > _MAX_EXPANSION:
            raise invalid(f"Paths to expand can be {_MAX_EXPANSION} deep at most", "expand")
        here = shown
        for part in parts:
            there: list[Object] = []
            for item in here:
                there += await _expand_one(connection, account_id, item, part)
            here = there


async def _expand_one(connection: Any, account_id: str, item: Object, name: str) -> list[Object]:
    """Put the object in place of the id; returns it, for what is to be expanded below it."""
    kind = RESOURCES[item["object"]].expandable.get(name) if item.get("object") in RESOURCES else None
    if kind is None:
        if name in _NULL and item.get(name, "") is None:
            return []
        raise invalid("This property cannot be expanded", "expand")
    value = item[name]
    if isinstance(value, str):
        resource = RESOURCES[kind]
        item[name] = value = resource.show(await row_of(connection, account_id, resource, value))
    return [value] if value is not None else []


async def _exists(connection: Any, account_id: str, resource: Resource, object_id: str) -> bool:
    found = await connection.fetchval(
        f"SELECT true FROM gateway.{resource.table} WHERE id = $1 AND account_id = $2", object_id, account_id
    )
    return bool(found)


_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _conditions(params: Page) -> tuple[list[str], list[Any]]:
    """The filters of a list: conditions from $2 on, and their values."""
    where: list[str] = []
    values: list[Any] = []

    def add(condition: str, value: Any) -> None:
        values.append(value)
        where.append(condition.format(f"${len(values) + 1}"))

    if isinstance(params.created, Range):
        for name, sign in _SIGNS.items():
            if (value := getattr(params.created, name)) is not None:
                add(f"floor(extract(epoch FROM t.created_at))::bigint {sign} {{}}::bigint", value)
    elif params.created is not None:
        add("floor(extract(epoch FROM t.created_at))::bigint = {}::bigint", params.created)
    if isinstance(params, ChargePage) and params.payment_intent is not None:
        add("t.payment_intent = {}", params.payment_intent)
    if isinstance(params, RefundPage) and params.charge is not None:
        add("t.charge = {}", params.charge)
    if isinstance(params, EventPage):
        if params.type is not None:
            add("t.type LIKE {}", params.type.replace("_", r"\_").replace("%", r"\%").replace("*", "%"))
        if params.types:
            add("t.type = ANY({}::text[])", params.types)
    return where, values
