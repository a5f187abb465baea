"""An amount and its currency go in, the platform's fee on it comes out; exact, in minor units of that currency.

`ledger.posting` calls it. Rates are `Decimal`; the one rounding is ROUND_HALF_UP to a whole minor unit, once for
each amount, so that what merchants compute on paper is what they see.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import msgspec

from ledger.errors import FeeError

ROUNDING = ROUND_HALF_UP


class FeeSchedule(msgspec.Struct, frozen=True):
    """One merchant's price; see `ledger.config.FeesConfig` for the fields. Amounts are by currency, in minor units of
    it; a currency that is not there has none."""

    rate: Decimal = Decimal("0.029")
    fixed_minor: dict[str, int] = {}
    international_rate: Decimal = Decimal("0.01")
    conversion_rate: Decimal = Decimal("0.01")
    dispute_fee_minor: dict[str, int] = {}

    def capture_fee_minor(
        self, amount_minor: int, currency: str, *, international: bool = False, converted: bool = False
    ) -> int:
        """The fee on a capture: rate × amount, rounded half up, + the fixed part of the currency.

        Never more than the amount: a fee above it would make the merchant pay for being paid.

        Args:
            amount_minor: >= 0, in minor units of `currency`.
            currency: ISO 4217 alphabetic.
        """
        if amount_minor < 0:
            raise FeeError(f"a capture of {amount_minor} minor units has no fee")
        rate = self.rate
        if international:
            rate += self.international_rate
        if converted:
            rate += self.conversion_rate
        share = (amount_minor * rate).quantize(Decimal(1), rounding=ROUNDING)
        return min(amount_minor, int(share) + self.fixed_minor.get(currency, 0))


def returned_fee_minor(
    *, taken_minor: int, returned_minor: int, captured_minor: int, refunded_minor: int, refund_minor: int
) -> int:
    """The part of the fees of a payment that goes back with one refund, >= 0 and <= `refund_minor`.

    After the refund, as much has gone back in all as the refunded part of the captures bears: taken × refunded ÷
    captured, rounded half up. Earlier returns count as they were booked, because later captures and reversed refunds
    change the proportion. So returned fees never exceed those taken, and a full refund returns all of them, in any
    order of captures, refunds and reversals of refunds.

    Args:
        taken_minor: fees on all captures so far, 0 … captured_minor.
        returned_minor: fees returned with the refunds in force, >= 0; where that is more than was taken (in books of
            earlier versions), no more are returned.
        captured_minor: sum of the captures so far, > 0; charged back parts included.
        refunded_minor: sum of the refunds in force, >= 0.
        refund_minor: this refund, > 0; refunded + refund <= captured.

    Raises: FeeError for a refund of more than was captured.
    """
    after_minor = refunded_minor + refund_minor
    if not 0 <= refunded_minor < after_minor <= captured_minor:
        raise FeeError(f"refund of {refund_minor} after {refunded_minor} exceeds the captured {captured_minor}")
    left_minor = taken_minor - returned_minor
    due_minor = int((Decimal(taken_minor * after_minor) / captured_minor).quantize(Decimal(1), rounding=ROUNDING))
    # The fee that stays must fit into what can still be refunded: no refund returns more than itself.
    least_minor = left_minor - (captured_minor - after_minor)
    return max(0, min(max(due_minor - returned_minor, least_minor), refund_minor, left_minor))
