"""An issuer's book: one entry a request that it has answered, found by network key, RRN or trace id.

Decisions of `simulators.issuer` go in; entries, book lines and records for a file come out. The book is also what
repeats are answered from. Records hold no card data, so a restarted simulator knows its book but not the accounts
behind it: balances start afresh.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from simulators.book import BookLine
from simulators.issuer.accounts import Account

MAX_ENTRIES = 5_000_000

# Every change that an answered request can meet afterwards: which part of it moves.
CHANGES: dict[str, str] = {
    "increment": "hold grows; the increment has an entry of its own, without a line",
    "capture": "hold → posted; the rest of the hold ends with the final one",
    "reversal": "hold → 0; of a purchase or refund: posted → 0; of an increment: the hold shrinks by it",
    "partial reversal": "hold, or what a purchase has posted, → what DE 95 says; grown holds: less DE 4 − DE 95",
    "chargeback": "posted → cardholder",
}


# DE 39 of requests that took effect; 85: no reason to decline, of a verification of the account.
APPROVALS = frozenset({"00", "10", "85"})


class Entry(msgspec.Struct, eq=False, gc=False):
    """One authorization, purchase or refund, with its present standing.

    A struct that the garbage collector does not visit: a load test makes millions, and there are no cycles.

    Args:
        key: network key. mti: canonical. de7, stan, acquirer_id, rrn: DE 7, 11, 32, 37 as received.
        response_code: DE 39 that it got; "" for a tombstone.
        captures: (key, DE 39) of each advice about it, for its repeats.
        chargeback: (DE 7, DE 11, amount) of one that the switch has not acknowledged.
        parent: key of the hold that an increment has made larger; "" for everything else.
        extra: further elements of its answer.
        member: the issuer behind a network; "" without one.
        grown: whether an increment of it was ever approved.
        account: whose balance it uses; None after a restart, for an unknown card and for a tombstone.
    """

    key: str
    mti: str
    de7: str
    stan: str
    acquirer_id: str = ""
    rrn: str = ""
    trace_id: str = ""
    currency: str = ""
    amount_minor: int = 0
    response_code: str = ""
    auth_code: str = ""
    held_minor: int = 0
    posted_minor: int = 0
    reversed: bool = False
    captures: tuple[tuple[str, str], ...] = ()
    chargeback: tuple[str, str, int] | None = None
    parent: str = ""
    extra: tuple[tuple[int, str], ...] = ()
    member: str = ""
    grown: bool = False
    account: Account | None = None

    @property
    def standing(self) -> bool:
        """False for a tombstone: reversed before it arrived."""
        return self.response_code != ""

    @property
    def approved(self) -> bool:
        return self.response_code in APPROVALS

    def move(self, held_minor: int, posted_minor: int) -> None:
        """Set hold and posted; the account's balance follows."""
        if self.account is not None:
            self.account.use(self.currency, held_minor + posted_minor - self.held_minor - self.posted_minor)
        self.held_minor = held_minor
        self.posted_minor = posted_minor


class EntryRecord(msgspec.Struct, array_like=True):
    """An entry as it is written to the book file, whole at each change; the last record of a key counts."""

    key: str
    mti: str
    de7: str
    stan: str
    acquirer_id: str
    rrn: str
    trace_id: str
    currency: str
    amount_minor: int
    response_code: str
    auth_code: str
    held_minor: int
    posted_minor: int
    reversed: bool
    captures: tuple[tuple[str, str], ...]
    chargeback: tuple[str, str, int] | None
    parent: str = ""
    extra: tuple[tuple[int, str], ...] = ()
    member: str = ""
    grown: bool = False


FIELDS = EntryRecord.__struct_fields__


class IssuerBook:
    """All entries of one issuer.

    Args:
        link: the issuer's link name.
        keep_records: collect changed entries for `drain_records`.
    """

    def __init__(self, link: str, *, keep_records: bool = False) -> None:
        self._link = link
        self._entries: dict[str, Entry] = {}
        self._advices: dict[str, tuple[Entry, str]] = {}
        self._chargebacks: dict[tuple[str, str], Entry] = {}
        self._keep_records = keep_records
        self._changed: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        return len(self._entries) >= MAX_ENTRIES

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def add(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        self.changed(entry)

    def changed(self, entry: Entry) -> None:
        """To be called after each change of an entry, so that it is recorded."""
        if self._keep_records:
            self._changed[entry.key] = entry

    def advice(self, key: str) -> str | None:
        """DE 39 that the advice with this key got before; None for a new one."""
        found = self._advices.get(key)
        return None if found is None else found[1]

    def note_advice(self, entry: Entry, key: str, response_code: str) -> None:
        """Remember the answer to an advice about `entry`."""
        entry.captures = (*entry.captures, (key, response_code))
        self._advices[key] = (entry, response_code)
        self.changed(entry)

    def note_chargeback(self, entry: Entry) -> None:
        """To be called when `entry.chargeback` was set or taken away."""
        if entry.chargeback is not None:
            self._chargebacks[entry.chargeback[:2]] = entry
        else:
            self._chargebacks = {key: held for key, held in self._chargebacks.items() if held is not entry}
        self.changed(entry)

    def open_chargebacks(self) -> list[Entry]:
        """Entries whose chargeback has not been acknowledged, oldest first."""
        return list(self._chargebacks.values())

    def awaiting_acknowledgement(self, de7: str, stan: str) -> Entry | None:
        """The entry whose chargeback went out with this DE 7 and DE 11."""
        return self._chargebacks.get((de7, stan))

    def find(self, reference: str) -> Entry | None:
        """The newest entry with this network key, RRN or trace id."""
        entry = self._entries.get(reference)
        if entry is not None or not reference:
            return entry
        for entry in reversed(self._entries.values()):
            if reference in (entry.rrn, entry.trace_id):
                return entry
        return None

    def entries(self) -> list[Entry]:
        """A snapshot, oldest first."""
        return list(self._entries.values())

    def lines(self) -> Iterator[BookLine]:
        """One line an entry, oldest first; tombstones and increments have none."""
        for entry in self.entries():
            if entry.standing and not entry.parent:
                yield BookLine(
                    link=self._link,
                    key=entry.key,
                    currency=entry.currency,
                    held_minor=entry.held_minor,
                    posted_minor=entry.posted_minor,
                    settled=entry.chargeback is None,
                    member=entry.member,
                )

    def drain_records(self) -> bytes:
        """JSON lines of what has changed since the last call; b"" for nothing."""
        if not self._changed:
            return b""
        changed, self._changed = self._changed, {}
        return b"".join(encode_entry(entry) for entry in changed.values())

    def restore(self, records: bytes) -> int:
        """Read records back into an empty book; a last line cut short by a crash is dropped. Returns the entries.

        Raises:
            ValueError: a line in the middle is no record.
        """
        lines = records.split(b"\n")
        decode = msgspec.json.Decoder(EntryRecord).decode
        for number, text in enumerate(lines, 1):
            if not text:
                continue
            try:
                record = decode(text)
            except msgspec.DecodeError:
                if number == len(lines):
                    break
                raise ValueError(f"line {number} is no record of an issuer's book") from None
            entry = Entry(*(getattr(record, field) for field in FIELDS))
            self._entries[entry.key] = entry
            for key, response_code in entry.captures:
                self._advices[key] = (entry, response_code)
            if entry.chargeback is not None:
                self._chargebacks[entry.chargeback[:2]] = entry
        return len(self._entries)


_ENCODER = msgspec.json.Encoder()


def encode_entry(entry: Entry) -> bytes:
    """One JSON line, newline included."""
    return _ENCODER.encode([getattr(entry, field) for field in FIELDS]) + b"\n"
