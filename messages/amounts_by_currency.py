"""Amounts of the configuration that hold by currency, `{ EUR = 30, JPY = 50 }`, and what is wrong with one; pure.

`ledger.config` (fees), `switch.fraud_settings`, `switch.links.permissions` and `switch.routing.settings` (limits) have
such amounts, and the scenarios of the simulators. A number alone would be that many cents in one currency and that many
yen or fils in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from messages.errors import MoneyError
from messages.money import currency_exponent

AmountsByCurrency = int | dict[str, int]  # minor units of each currency; a number alone only where a section says so

MAX_AMOUNT_MINOR = 10**12 - 1  # DE 4 has twelve digits
_NAMED = 5  # currencies that an error names


def is_currency(code: str) -> bool:
    """Whether it is an alphabetic code that ISO 4217 knows or has known."""
    try:
        currency_exponent(code)
    except MoneyError:
        return False
    return True


def amount_in(amounts: AmountsByCurrency, currency: str) -> int | None:
    """The amount of a currency: of a table its own, None where it has none; a number alone is that of each currency."""
    return amounts if isinstance(amounts, int) else amounts.get(currency)


def table_problems(name: str, amounts: Mapping[str, int], most: int = MAX_AMOUNT_MINOR) -> list[str]:
    """The faults of a table of amounts, one line each.

    Args:
        name: the key of the file.
        most: the greatest allowed amount; the least is 0.
    """
    problems = [f"{name}: {code!r} is no currency of ISO 4217" for code in amounts if not is_currency(code)]
    wrong = {code: amount for code, amount in amounts.items() if not 0 <= amount <= most}
    return problems + [f"{name}: {code} = {amount} must be 0 to {most}" for code, amount in wrong.items()]


def same_number_problem(name: str, amount: int) -> str:
    """That a number alone would hold in every currency, and what to write."""
    return f"{name} = {amount} would be the same number in every currency: write {name} = {{ EUR = {amount} }}"


def named(codes: Iterable[str]) -> str:
    """Currencies for an error: the first few, and how many more there are; "" for none."""
    found = sorted(set(codes))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
