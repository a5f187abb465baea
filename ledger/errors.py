"""What the ledger raises, besides `ledger.journal.JournalUnavailable`."""

from __future__ import annotations


class LedgerError(Exception):
    """Base of the errors of this package."""


class PostingError(LedgerError):
    """Lines that cannot be booked: unbalanced, an unknown account path, an event that does not fit. A bug of ours."""


class RowRefused(LedgerError):
    """The store refuses this one row (an unknown intent, unbalanced lines …); nothing of it was written."""


class FeeError(LedgerError):
    """A fee schedule or amount that makes no sense; the message names the field."""
