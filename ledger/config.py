"""Sections [fees] and [[merchant]] of the configuration go in, the fee schedule of a merchant comes out.

`console` reads the TOML into these structs; the switch asks `fee_schedule` for each payment that it posts.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from ledger.errors import FeeError
from ledger.fees import FeeSchedule


class FeesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section [fees]: the platform's price where a merchant has none of its own.

    Args:
        rate: share of each capture, a decimal string, 0 <= rate < 1; "0.029" is 2.9 %.
        fixed_minor: added to each capture, >= 0, in minor units of the capture's currency.
        international_rate: added to `rate` where card and merchant are in different countries.
        conversion_rate: added to `rate` where the merchant is paid in another currency.
        dispute_fee_minor: what a chargeback costs the merchant besides its amount, >= 0.
    """

    rate: Decimal = Decimal("0.029")
    fixed_minor: int = 30
    international_rate: Decimal = Decimal("0.01")
    conversion_rate: Decimal = Decimal("0.01")
    dispute_fee_minor: int = 1500


class MerchantConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[merchant]]: DE 42, its name and country, and what differs from [fees] (None: nothing)."""

    id: str
    name: str = ""
    country: str = ""
    rate: Decimal | None = None
    fixed_minor: int | None = None
    international_rate: Decimal | None = None
    conversion_rate: Decimal | None = None
    dispute_fee_minor: int | None = None


class FeeTable:
    """Every merchant's schedule, made once; `table.schedule("DEMOSHOP")`."""

    def __init__(self, fees: FeesConfig | None = None, merchants: Sequence[MerchantConfig] = ()) -> None:
        self._default = fee_schedule(fees or FeesConfig())
        self._schedules = {merchant.id: fee_schedule(fees or FeesConfig(), merchant) for merchant in merchants}
        self._countries = {merchant.id: merchant.country for merchant in merchants}

    def schedule(self, merchant: str) -> FeeSchedule:
        """The schedule for DE 42 without padding; unknown merchants pay [fees]."""
        return self._schedules.get(merchant, self._default)

    def country(self, merchant: str) -> str:
        """ISO 3166 alpha-2 of the merchant, "" if not configured."""
        return self._countries.get(merchant, "")


def fee_schedule(fees: FeesConfig, merchant: MerchantConfig | None = None) -> FeeSchedule:
    """[fees] with the merchant's own terms laid over it.

    Raises: FeeError that names section and field for a rate outside 0 … 1 or a negative amount.
    """
    where = "[fees]" if merchant is None else f"[[merchant]] {merchant.id}"
    terms: dict[str, Decimal | int] = {}
    for field in FeesConfig.__struct_fields__:
        own = None if merchant is None else getattr(merchant, field)
        value = getattr(fees, field) if own is None else own
        if not value.is_finite() if isinstance(value, Decimal) else False:
            raise FeeError(f"{where}: {field} is not a number")
        if value < 0 or (field.endswith("rate") and value >= 1):
            raise FeeError(f"{where}: {field} is {value}, expected {'0 … 1' if field.endswith('rate') else '>= 0'}")
        terms[field] = value
    return msgspec.convert(terms, FeeSchedule)
