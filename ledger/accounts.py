"""The chart of accounts: a path goes in, its type comes out; and the paths the posting rules use.

A path is parts joined by `:`; the first part says whose it is, the last what it is for. The journal creates
an account when it is first posted to. Called by `ledger.posting` and both journals.
"""

from __future__ import annotations

from enum import StrEnum

from ledger.errors import PostingError


class AccountType(StrEnum):
    """Assets and expenses grow by debits, liabilities and income by credits."""

    ASSET = "asset"
    LIABILITY = "liability"
    INCOME = "income"
    EXPENSE = "expense"


# (first part, last part) → type, and its content. A path that fits no row cannot be posted to.
CHART: dict[tuple[str, str], tuple[AccountType, str]] = {
    ("issuer", "receivable"): (AccountType.ASSET, "debt of this issuer link's cardholders to us"),
    ("settlement", "pending"): (AccountType.LIABILITY, "between card and merchant; zero when all is captured"),
    ("merchant", "pending"): (AccountType.LIABILITY, "earnings of the merchant, not yet paid out"),
    ("merchant", "available"): (AccountType.LIABILITY, "amount that can be paid out"),
    ("platform", "revenue"): (AccountType.INCOME, "fees on captures"),
    ("platform", "dispute_fees"): (AccountType.INCOME, "fees on chargebacks"),
    ("platform", "interchange"): (AccountType.EXPENSE, "share of issuers at settlement"),
    ("cash", "bank"): (AccountType.ASSET, "our bank account"),
}

SETTLEMENT_PENDING = "settlement:pending"
PLATFORM_REVENUE = "platform:revenue"
DISPUTE_FEES = "platform:dispute_fees"
INTERCHANGE = "platform:interchange"
CASH = "cash:bank"


def issuer_receivable(issuer: str) -> str:
    """`issuer:<link>:receivable`."""
    return f"issuer:{_part(issuer)}:receivable"


def merchant_pending(merchant: str) -> str:
    """`merchant:<DE 42>:pending`."""
    return f"merchant:{_part(merchant)}:pending"


def merchant_available(merchant: str) -> str:
    """`merchant:<DE 42>:available`."""
    return f"merchant:{_part(merchant)}:available"


def account_type(account: str) -> AccountType:
    """The type of an account path.

    Raises: PostingError for a path that the chart does not know.
    """
    first, _, rest = account.partition(":")
    row = CHART.get((first, rest.rpartition(":")[2]))
    if row is None or "" in account.split(":") or len(account) > 200:
        raise PostingError(f"no account type for {account!r}")
    return row[0]


def is_receivable(account: str) -> bool:
    """Whether lines on this account are a cardholder's holds and debts (the issuers' books show the same)."""
    return account.startswith("issuer:") and account.endswith(":receivable")


def _part(name: str) -> str:
    """A name as one part of a path. DE 42 is the acquirer's to choose, so `:` in it must not make parts."""
    return name.replace("%", "%25").replace(":", "%3A") or "-"
