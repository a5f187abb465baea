"""Sections [fees] and [[merchant]] of the configuration go in, the fee schedule of a merchant comes out.

`console` reads the TOML into these structs; the switch checks them with `fee_problems` and asks `FeeTable` for each
payment that it posts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from ledger.errors import FeeError
from ledger.fees import FeeSchedule
from messages.amounts_by_currency import MAX_AMOUNT_MINOR, AmountsByCurrency, named, table_problems
from messages.money import currencies_with

_HUNDREDTHS = 2  # decimal places
RATES = ("rate", "international_rate", "conversion_rate")
AMOUNTS = {"fixed_minor": 30, "dispute_fee_minor": 1_500}  # with the default, in hundredths


class FeesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section [fees]: the platform's price where a merchant has none of its own.

    Amounts are tables by currency, 0 … 10^12 - 1 in minor units of each. A number alone is hundredths, and holds in
    currencies of two decimal places only: 30 is 0.30 EUR, and nothing in JPY. 0 alone is nothing in every currency.

    Args:
        rate: share of each capture, a decimal string, 0 <= rate < 1; "0.029" is 2.9 %.
        fixed_minor: added to each capture, of its currency.
        international_rate: added to `rate` where card and merchant are in different countries.
        conversion_rate: added to `rate` where the merchant is paid in another currency.
        dispute_fee_minor: fee of a chargeback for the merchant, besides its amount, of its currency.
        other_currencies: "rate-only": a currency that a table does not name has the rates alone. None: a table must
            name each currency that may come.
    """

    rate: Decimal = Decimal("0.029")
    fixed_minor: AmountsByCurrency = AMOUNTS["fixed_minor"]
    international_rate: Decimal = Decimal("0.01")
    conversion_rate: Decimal = Decimal("0.01")
    dispute_fee_minor: AmountsByCurrency = AMOUNTS["dispute_fee_minor"]
    other_currencies: Literal["rate-only"] | None = None


class MerchantConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[merchant]]: DE 42, its name and country, and what differs from [fees] (None: nothing).

    A currency that a table of its own does not name has the amount of [fees]; 0 alone is nothing in every currency.
    """

    id: str
    name: str = ""
    country: str = ""
    rate: Decimal | None = None
    fixed_minor: AmountsByCurrency | None = None
    international_rate: Decimal | None = None
    conversion_rate: Decimal | None = None
    dispute_fee_minor: AmountsByCurrency | None = None


class FeeTable:
    """Every merchant's schedule, made once; `table.schedule("DEMOSHOP")`.

    Raises: FeeError with all `fee_problems` of the terms themselves.
    """

    def __init__(self, fees: FeesConfig | None = None, merchants: Sequence[MerchantConfig] = ()) -> None:
        fees = fees or FeesConfig()
        if problems := fee_problems(fees, merchants):
            raise FeeError("; ".join(problems))
        self._default = fee_schedule(fees)
        self._schedules = {merchant.id: fee_schedule(fees, merchant) for merchant in merchants}
        self._countries = {merchant.id: merchant.country for merchant in merchants}

    def schedule(self, merchant: str) -> FeeSchedule:
        """The schedule for DE 42 without padding; unknown merchants pay [fees]."""
        return self._schedules.get(merchant, self._default)

    def country(self, merchant: str) -> str:
        """ISO 3166 alpha-2 of the merchant, "" if not configured."""
        return self._countries.get(merchant, "")


def fee_problems(
    fees: FeesConfig, merchants: Sequence[MerchantConfig] = (), accepted: Mapping[str, Iterable[str]] | None = None
) -> list[str]:
    """The faults of [fees] and [[merchant]], one line each.

    Args:
        accepted: currencies in which a link takes payments, by the link's name; None: nothing is known of them.
    """
    problems = [f"[fees]: {problem}" for problem in _term_problems(fees)]
    for merchant in merchants:
        problems += [f"[[merchant]] {merchant.id}: {problem}" for problem in _term_problems(merchant)]
    if fees.other_currencies is None:
        problems += [f"[fees]: {problem}" for problem in _missing_amounts(fees, accepted or {})]
    return problems


def fee_schedule(fees: FeesConfig, merchant: MerchantConfig | None = None) -> FeeSchedule:
    """[fees] with the merchant's own terms laid over it. Both have been checked by `fee_problems`."""
    terms: dict[str, Decimal | dict[str, int]] = {}
    for name in RATES:
        own = getattr(merchant, name, None)
        terms[name] = getattr(fees, name) if own is None else own
    for name in AMOUNTS:
        own = getattr(merchant, name, None)
        general = _table(getattr(fees, name))
        terms[name] = {} if own == 0 else general | _table(own)
    return msgspec.convert(terms, FeeSchedule)


def _term_problems(terms: FeesConfig | MerchantConfig) -> list[str]:
    problems: list[str] = []
    for name in RATES:
        rate: Decimal | None = getattr(terms, name)
        if rate is not None and not (rate.is_finite() and 0 <= rate < 1):
            problems.append(f"{name} is {rate}, expected a decimal string from 0 up to 1")
    for name in AMOUNTS:
        amounts: AmountsByCurrency | None = getattr(terms, name)
        if isinstance(amounts, int):
            problems += [f"{name} = {amounts} must be 0 to {MAX_AMOUNT_MINOR}"] * (not 0 <= amounts <= MAX_AMOUNT_MINOR)
        else:
            problems += table_problems(name, amounts or {})
    return problems


def _missing_amounts(fees: FeesConfig, accepted: Mapping[str, Iterable[str]]) -> list[str]:
    problems: list[str] = []
    for name, example in AMOUNTS.items():
        amounts: AmountsByCurrency | None = getattr(fees, name)
        if isinstance(amounts, int):
            continue
        missing = {link: set(currencies) - _table(amounts).keys() for link, currencies in accepted.items()}
        if any(missing.values()):
            where = "; ".join(f"{named(codes)} (link {link})" for link, codes in missing.items() if codes)
            problems.append(
                f"{name} has no amount for currencies that links accept: {where}. Name them as in {name} = {{ EUR = "
                f"{example} }}, leave them out of the link's permissions.currencies, or set other_currencies = "
                f'"rate-only"; {name} = 0 is none in any currency'
            )
    return problems


def _table(amounts: AmountsByCurrency | None) -> dict[str, int]:
    if isinstance(amounts, int):
        return dict.fromkeys(currencies_with(_HUNDREDTHS), amounts) if amounts else {}
    return amounts or {}
