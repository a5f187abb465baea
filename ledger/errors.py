"""Exceptions of the ledger, besides `ledger.journal.JournalUnavailable`."""

from __future__ import annotations

from ledger.journal import JournalUnavailable


class LedgerError(Exception):
    """Base of the errors of this package."""


class PostingError(LedgerError):
    """Lines that cannot be booked: unbalanced, an unknown account path, an event that does not fit. A bug of ours."""


class RowRefused(LedgerError, JournalUnavailable):
    """The store refuses this one row (a NUL in a text, unbalanced lines …); nothing of it was written.

    To its caller a refused row is one that could not be written: decline with 96. Doing it again will not help.
    """


class FeeError(LedgerError):
    """A fee schedule or amount that makes no sense; the message names the field."""


class SealNotSigned(Exception):
    """The token made no MAC for a seal; the message says why. Refused is worse than away: another chain was signed."""
