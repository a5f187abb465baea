"""The trial balance: the balance of each account, debits beside credits; `ledger trial-balance` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.accounts import AccountType
from ledger.journal import Layer


class AccountBalance(msgspec.Struct, frozen=True):
    """One account in one layer and currency; `debit_minor` and `credit_minor` are totals of lines, both >= 0."""

    account: str
    type: AccountType
    layer: Layer
    currency: str
    debit_minor: int
    credit_minor: int

    @property
    def balance_minor(self) -> int:
        """Debits less credits: > 0 is a debit balance."""
        return self.debit_minor - self.credit_minor


class TrialBalance(msgspec.Struct, frozen=True):
    """All accounts, posted before pending, by currency and name."""

    lines: list[AccountBalance]

    def totals(self) -> dict[tuple[Layer, str], tuple[int, int]]:
        """(layer, currency) → (debits, credits), minor units."""
        sums: dict[tuple[Layer, str], tuple[int, int]] = {}
        for line in self.lines:
            debit, credit = sums.get((line.layer, line.currency), (0, 0))
            sums[line.layer, line.currency] = (debit + line.debit_minor, credit + line.credit_minor)
        return sums

    @property
    def balanced(self) -> bool:
        """Whether debits equal credits in each layer and currency."""
        return all(debit == credit for debit, credit in self.totals().values())


_SQL = """
SELECT a.name, a.type, p.layer, p.currency,
       COALESCE(sum(p.amount_minor) FILTER (WHERE p.amount_minor > 0), 0)::numeric AS debit,
       COALESCE(-sum(p.amount_minor) FILTER (WHERE p.amount_minor < 0), 0)::numeric AS credit
  FROM ledger.postings p JOIN ledger.accounts a ON a.id = p.account_id
 GROUP BY a.name, a.type, p.layer, p.currency
 ORDER BY p.layer DESC, p.currency, a.name
"""


async def trial_balance(connection: Any, layers: Sequence[Layer] = tuple(Layer)) -> TrialBalance:
    """The balance of every account that has a line in `layers`; asyncpg, role cardswitch_auditor or owner."""
    return TrialBalance(
        [
            AccountBalance(row[0], AccountType(row[1]), Layer(row[2]), row[3], int(row[4]), int(row[5]))
            for row in await connection.fetch(_SQL)
            if row["layer"] in layers
        ]
    )
