"""Messages that the other end of a link may send: `permissions` of [[acquirer]] and [[issuer]], and its compiled form.

`switch.links.settings` has the table of the file, `switch.config` lists what is wrong with it, and screening asks
`Permitted.refusal` once a request: set look-ups, about a microsecond. Pure.

Source: ISO 8583:1987 DE 39, 57 (not permitted to cardholder) and 58 (not permitted to terminal).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from messages.amounts_by_currency import named, table_problems

NOT_TO_CARDHOLDER, NOT_TO_TERMINAL = "57", "58"  # DE 39


class Permissions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The messages that a link may send. A list that is left out allows everything; an empty one nothing.

    Args:
        messages: types without their repeat digit, or the beginning of several: "0200", "04*".
        processing_codes: DE 3, its first two digits or all six.
        merchants: DE 42, or its beginning: "SHOP001", "SHOP*".
        acquirer_ids: DE 32, or a range: "400001", "400100-400199"; leading zeros do not count. DE 32 is needed then.
        currencies: DE 49, alphabetic.
        amounts_minor: by currency the most that a payment may be, increments included: of every currency that the link
            may send, or of none.
        forced: whether advices of what was decided elsewhere are booked: 0120, and 0220 without DE 90 or of a refund.
    """

    messages: tuple[str, ...] | None = None
    processing_codes: tuple[str, ...] | None = None
    merchants: tuple[str, ...] | None = None
    acquirer_ids: tuple[str, ...] | None = None
    currencies: tuple[str, ...] | None = None
    amounts_minor: dict[str, int] = {}
    forced: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """Why a message is not permitted: DE 39, a constant for logs and metrics, and DE 44, of 25 characters at most."""

    response_code: str
    reason: str
    detail: str


MESSAGE = Refusal(NOT_TO_TERMINAL, "message_not_permitted", "type not permitted")
FORCED = Refusal(NOT_TO_TERMINAL, "forced_not_permitted", "forced not permitted")
ACQUIRER = Refusal(NOT_TO_TERMINAL, "acquirer_not_permitted", "DE 32 not permitted")
MERCHANT = Refusal(NOT_TO_TERMINAL, "merchant_not_permitted", "DE 42 not permitted")
CODE = Refusal(NOT_TO_CARDHOLDER, "processing_code_not_permitted", "DE 3 not permitted")
CURRENCY = Refusal(NOT_TO_CARDHOLDER, "currency_not_permitted", "DE 49 not permitted")
AMOUNT = Refusal(NOT_TO_CARDHOLDER, "amount_not_permitted", "DE 4 above the limit")
TOTALS = Refusal(NOT_TO_TERMINAL, "totals_not_permitted", "totals need DE 32")
REFUSALS = (MESSAGE, FORCED, ACQUIRER, MERCHANT, CODE, CURRENCY, AMOUNT, TOTALS)


class _Names:
    """Exact values and beginnings."""

    __slots__ = ("_beginnings", "_exact")

    def __init__(self, values: Iterable[str]) -> None:
        self._exact = frozenset(value for value in values if not value.endswith("*"))
        self._beginnings = tuple(value[:-1] for value in values if value.endswith("*"))

    def __contains__(self, value: str) -> bool:
        return value in self._exact or value.startswith(self._beginnings)


class _Numbers:
    """Exact numbers and ranges; leading zeros do not count."""

    __slots__ = ("_exact", "_ranges")

    def __init__(self, values: Iterable[str]) -> None:
        parts = [value.partition("-") for value in values]
        self._exact = frozenset(first.lstrip("0") for first, dash, _ in parts if not dash)
        self._ranges = tuple((int(first), int(last)) for first, dash, last in parts if dash)

    def __contains__(self, value: str) -> bool:
        if value in self._exact or value.lstrip("0") in self._exact:
            return True
        if self._ranges and value.isascii() and value.isdigit():
            number = int(value)
            for first, last in self._ranges:
                if first <= number <= last:
                    return True
        return False


class Permitted:
    """`Permissions`, compiled."""

    __slots__ = ("_acquirers", "_codes", "_currencies", "_everything", "_forced", "_limits", "_merchants", "_messages")

    def __init__(self, permissions: Permissions | None) -> None:
        given = permissions or Permissions(forced=True)
        self._everything = permissions is None
        self._messages = None if given.messages is None else _Names(given.messages)
        self._codes = None if given.processing_codes is None else frozenset(given.processing_codes)
        self._merchants = None if given.merchants is None else _Names(given.merchants)
        self._acquirers = None if given.acquirer_ids is None else _Numbers(given.acquirer_ids)
        self._currencies = None if given.currencies is None else frozenset(given.currencies)
        self._limits = dict(given.amounts_minor)
        self._forced = given.forced

    def message(self, mti: str) -> bool:
        """Whether a type (without its repeat digit) may be sent."""
        return self._messages is None or mti in self._messages

    def limit_minor(self, currency: str) -> int | None:
        """The most that a payment in this currency may be, increments included; None for no limit."""
        return self._limits.get(currency)

    def refusal(
        self,
        mti: str,
        elements: Mapping[int, str],
        *,
        starts: bool,
        refers: bool,
        forced: bool,
        money: bool,
        totals: bool,
        amount_minor: int,
        currency: str,
    ) -> Refusal | None:
        """Why a message may not be sent; None where it may.

        Args:
            mti: without its repeat digit.
            starts: it is a payment of its own, or enlarges one. Other messages that name a payment must match that
                payment.
            refers: of these, it changes the payment that it names in DE 90, if it names one.
            forced: it is an advice of a decision made elsewhere.
            money: it is about a payment at all, and has a sender.
            totals: it asks for totals: where acquirer ids are listed, those of the one that it names, never the link's.
            currency: alphabetic; "" where there is none.
        """
        if self._everything:
            return None
        if self._messages is not None and mti not in self._messages:
            return MESSAGE
        if self._acquirers is not None:
            sender = elements.get(32, "")
            if totals and not sender:
                return TOTALS
            if (sender or money) and sender not in self._acquirers:
                return ACQUIRER
        if forced and not self._forced:
            return FORCED
        return self._of_payment(elements, amount_minor, currency, refers and 90 in elements) if starts else None

    def _of_payment(
        self, elements: Mapping[int, str], amount_minor: int, currency: str, of_original: bool
    ) -> Refusal | None:
        code = elements.get(3, "")
        merchant = elements.get(42, "").strip()
        if self._merchants is not None and (merchant or not of_original) and merchant not in self._merchants:
            return MERCHANT  # a change of a payment without DE 42 must match the merchant of the payment
        if self._codes is not None and code[:2] not in self._codes and code not in self._codes:
            return CODE
        if self._currencies is not None and currency and currency not in self._currencies:
            return CURRENCY
        limit_minor = self._limits.get(currency)
        return AMOUNT if limit_minor is not None and amount_minor > limit_minor else None


def permission_problems(label: str, given: Permissions, served: Iterable[str], currencies: Iterable[str]) -> list[str]:
    """Everything wrong with the permissions of one link, one line each.

    Args:
        label: the path of the table, as `acquirer[north].permissions`.
        served: types that its side may send at all, without repeats.
        currencies: alphabetic codes of all currencies.
    """
    types, known = tuple(served), frozenset(currencies)
    wrong = [
        f"messages: {v!r} is none of {', '.join(types)}, nor the beginning of one with *"
        for v in given.messages or ()
        if not any(mti.startswith(v[:-1]) if v.endswith("*") else mti == v for mti in types)
    ]
    wrong += [
        f"processing_codes: {v!r} must be two or six digits"
        for v in given.processing_codes or ()
        if not (v.isascii() and v.isdigit() and len(v) in (2, 6))
    ]
    wrong += [
        f"merchants: {v!r} must be 1–15 characters, * only at the end"
        for v in given.merchants or ()
        if not 1 <= len(v.removesuffix("*")) <= 15 or "*" in v[:-1] or v != v.strip()
    ]
    wrong += [
        f"acquirer_ids: {v!r} must be 1–11 digits, or two of them with - between"
        for v in given.acquirer_ids or ()
        if not _is_id_or_range(v)
    ]
    wrong += [
        f"currencies: {v!r} is no currency of ISO 4217, name it as EUR"
        for v in given.currencies or ()
        if v not in known
    ]
    wrong += table_problems("amounts_minor", given.amounts_minor)
    unlimited = set(known if given.currencies is None else given.currencies) - given.amounts_minor.keys()
    if given.amounts_minor and unlimited:
        wrong.append(
            f"amounts_minor has no limit for {named(unlimited)}, which the link may send: name it there, or list "
            "others in currencies"
        )
    return [f"{label}.{problem}" for problem in wrong]


def _is_id_or_range(value: str) -> bool:
    first, dash, last = value.partition("-")
    parts = (first, last) if dash else (first,)
    sound = all(part.isascii() and part.isdigit() and 1 <= len(part) <= 11 for part in parts)
    return sound and (not dash or int(first) <= int(last))
