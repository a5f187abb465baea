"""An amount goes in, the platform's fee on it comes out; exact, in minor units.

`ledger.posting` calls it. Rates are `Decimal`; the one rounding is ROUND_HALF_UP to a whole minor unit, once for
each amount, so that what merchants compute on paper is what they see.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import msgspec

from ledger.errors import FeeError

ROUNDING = ROUND_HALF_UP


class FeeSchedule(msgspec.Struct, frozen=True):
    """One merchant's price; see `ledger.config.FeesConfig` for the fields."""

    rate: Decimal = Decimal("0.029")
    fixed_minor: int = 30
    international_rate: Decimal = Decimal("0.01")
    conversion_rate: Decimal = Decimal("0.01")
    dispute_fee_minor: int = 1500

    def capture_fee_minor(self, amount_minor: int, *, international: bool = False, converted: bool = False) -> int:
        """The fee on a capture of `amount_minor` (> 0): rate × amount, rounded half up, + the fixed part.

        Never more than the amount: a fee above it would make the merchant pay for being paid.
        """
        if amount_minor < 0:
            raise FeeError(f"a capture of {amount_minor} minor units has no fee")
        rate = self.rate
        if international:
            rate += self.international_rate
        if converted:
            rate += self.conversion_rate
        share = (amount_minor * rate).quantize(Decimal(1), rounding=ROUNDING)
        return min(amount_minor, int(share) + self.fixed_minor)


def returned_fee_minor(fee_minor: int, captured_minor: int, before_minor: int, refund_minor: int) -> int:
    """The part of a fee that goes back with a refund, in proportion.

    It is the difference of two rounded running totals, so that any split of a full refund returns exactly the fee.

    Args:
        fee_minor: what was taken on all captures, >= 0.
        captured_minor: sum of the captures, > 0.
        before_minor: refunded before, >= 0.
        refund_minor: this refund, > 0; before + refund <= captured.
    """
    if not 0 <= before_minor <= before_minor + refund_minor <= captured_minor:
        raise FeeError(f"refund of {refund_minor} after {before_minor} exceeds the captured {captured_minor}")

    def share(refunded_minor: int) -> int:
        exact = Decimal(fee_minor * refunded_minor) / Decimal(captured_minor)
        return int(exact.quantize(Decimal(1), rounding=ROUNDING))

    return share(before_minor + refund_minor) - share(before_minor)
