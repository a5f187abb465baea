"""Messages that the switch serves: message types and transactions, from acquirers and from issuers.

A canonical message goes in, the `Form` that it has comes out, or a `Decline`. Screening, the pipeline, recovery and
what issuers start ask here; `docs/messages.md` shows the tables. Source: ISO 8583:1987 4.1, DE 3, DE 90, DE 95.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from ledger.journal import Intent, Kind
from messages.reconciliation import COMPARED
from switch.stages.contradiction import ORIGINAL_AMOUNTS
from switch.stages.request import Decline


class Way(StrEnum):
    """The party that decides a request."""

    ASK = "ask"  # its issuer, in time
    NOTE = "note"  # it is decided already: it is booked here, and the issuer gets a stored advice
    CHANGE = "change"  # the ledger: it changes an earlier message, and the other party gets a stored advice
    DESK = "desk"  # the switch itself; nothing is booked


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of message.

    Args:
        name: for people.
        codes: first two digits of DE 3 that it may have; () for any, or none.
        original: whether it refers to an earlier message by DE 90; None: it may.
        in_part: whether it needs DE 95 with something left, which distinguishes a part from the whole.
        mandatory: elements that must be there, on top of what the dialect's own rules say.
        zero: whether DE 4 may be zero or missing.
        stated: elements that are kept with the intent, because a later decision needs them.
    """

    name: str
    kind: Kind
    way: Way
    codes: tuple[str, ...] = ()
    original: bool | None = None
    in_part: bool = False
    mandatory: tuple[int, ...]
    zero: bool = False
    stated: tuple[int, ...] = ()

    def fits(self, elements: Mapping[int, str]) -> bool:
        """Whether a message of its type has this form."""
        if self.codes and elements.get(3, "")[:2] not in self.codes:
            return False
        if self.original is not None and self.original is not (90 in elements):
            return False
        return not self.in_part or leaves_something(elements)


# DE 3, first two digits. Source: ISO 8583:1987 DE 3; 33 as ISO 8583:2003 has it.
GOODS, CASH, WITH_CASH, RETURN, FUNDS, BALANCE, VERIFY = "00", "01", "09", "20", "30", "31", "33"
DECIDED = (38, 39)  # DE 38 and 39 of what was decided elsewhere
PAYMENT = (3, 4, 7, 11, 42, 49)  # DE 42: the ledger must know whom it owes

SALES = (GOODS, CASH, WITH_CASH)

_REVERSALS = (
    Form(
        name="reversal in part: DE 95 says what is left on hold",
        kind=Kind.REDUCTION,
        way=Way.CHANGE,
        in_part=True,
        mandatory=(7, 11, 49, 90, 95),
        stated=(4,),  # the amount of the payment
    ),
    Form(name="reversal in full", kind=Kind.REVERSAL, way=Way.CHANGE, mandatory=(7, 11, 90), zero=True),
)
_INQUIRY = Form(
    name="balance inquiry: the answer has DE 54",
    kind=Kind.INQUIRY,
    way=Way.ASK,
    codes=(FUNDS, BALANCE),
    mandatory=(3, 7, 11),
    zero=True,
)
_RECONCILIATION = Form(
    name="totals of a business day; the answer says in DE 66 whether ours are the same, and has ours where not",
    kind=Kind.RECONCILIATION,
    way=Way.DESK,
    mandatory=(7, 11, 15, 49),
    zero=True,
    stated=(15, *COMPARED),
)
_TEXT = Form(
    name="administrative text, DE 48; it is kept with card numbers and other long numbers masked",
    kind=Kind.ADMINISTRATIVE,
    way=Way.DESK,
    mandatory=(7, 11),
    zero=True,
    stated=(48,),
)
_CUT_OVER = Form(
    name="cut-over, DE 70 = 201: the business day in DE 15 begins",
    kind=Kind.CUT_OVER,
    way=Way.DESK,
    mandatory=(7, 11, 70),
    zero=True,
    stated=(15,),
)

# Types without their repeat digit → their forms; the first that fits counts.
FROM_ACQUIRERS: dict[str, tuple[Form, ...]] = {
    "0100": (
        Form(
            name="authorization: a hold; of zero: an account verification",
            kind=Kind.AUTHORIZATION,
            way=Way.ASK,
            codes=SALES,
            original=False,
            mandatory=PAYMENT,
            zero=True,
        ),
        Form(
            name="incremental authorization: the hold that DE 90 names grows by DE 4",
            kind=Kind.INCREMENT,
            way=Way.ASK,
            codes=SALES,
            original=True,
            mandatory=(3, 4, 7, 11, 49),
            stated=(ORIGINAL_AMOUNTS,),
        ),
        Form(
            name="account verification; DE 4 is zero or missing",
            kind=Kind.AUTHORIZATION,
            way=Way.ASK,
            codes=(VERIFY,),
            mandatory=(3, 7, 11),
            zero=True,
        ),
        _INQUIRY,
    ),
    "0120": (
        Form(
            name="authorization that was decided elsewhere; DE 39, 00 by default, says how",
            kind=Kind.AUTHORIZATION,
            way=Way.NOTE,
            codes=SALES,
            original=False,
            mandatory=PAYMENT,
            stated=DECIDED,
        ),
    ),
    "0200": (
        Form(
            name="purchase, cash, purchase with cash-back (DE 54, amount type 40): posted at once",
            kind=Kind.PURCHASE,
            way=Way.ASK,
            codes=SALES,
            mandatory=PAYMENT,
        ),
        Form(
            name="refund",
            kind=Kind.REFUND,
            way=Way.ASK,
            codes=(RETURN,),
            mandatory=PAYMENT,
            stated=(ORIGINAL_AMOUNTS,),
        ),
        _INQUIRY,
    ),
    "0220": (
        Form(
            name="refund that was decided elsewhere",
            kind=Kind.REFUND,
            way=Way.NOTE,
            codes=(RETURN,),
            mandatory=PAYMENT,
            stated=(*DECIDED, ORIGINAL_AMOUNTS),
        ),
        Form(
            name="completion or capture of a hold; DE 60 says whether more will follow",
            kind=Kind.CAPTURE,
            way=Way.CHANGE,
            original=True,
            mandatory=(4, 7, 11, 49),
            stated=(1024, ORIGINAL_AMOUNTS),  # DE 24 of later versions: whether the amount is that of the hold
        ),
        Form(
            name="purchase that was decided elsewhere; DE 39, 00 by default, says how",
            kind=Kind.PURCHASE,
            way=Way.NOTE,
            codes=SALES,
            original=False,
            mandatory=PAYMENT,
            stated=DECIDED,
        ),
    ),
    "0400": _REVERSALS,
    "0420": _REVERSALS,
    "0500": (_RECONCILIATION,),
    "0520": (_RECONCILIATION,),
    "0600": (_TEXT,),
    "0620": (_TEXT,),
    "0800": (_CUT_OVER,),
    "0820": (_CUT_OVER,),
}
FROM_ISSUERS: dict[str, tuple[Form, ...]] = {
    "0302": (
        Form(
            name="file update: DE 91 puts the card on the negative list NEGATIVE (DE 101), takes it off or asks for it",
            kind=Kind.FILE_UPDATE,
            way=Way.DESK,
            mandatory=(2, 7, 11, 91, 101),
            zero=True,
            stated=(91, 101),
        ),
    ),
    "0422": (
        Form(
            name="chargeback; the acquirer gets a 0422, too",
            kind=Kind.CHARGEBACK,
            way=Way.CHANGE,
            mandatory=(4, 7, 11, 49, 90),
            stated=(ORIGINAL_AMOUNTS,),
        ),
    ),
    "0500": (_RECONCILIATION,),
    "0520": (_RECONCILIATION,),
    "0600": (_TEXT,),
    "0620": (_TEXT,),
    "0800": (_CUT_OVER,),
    "0820": (_CUT_OVER,),
}


def _with_repeats(types: Mapping[str, object]) -> dict[str, str]:
    return {mti: original for original in types for mti in (original, original[:3] + str(int(original[3]) + 1))}


# Served types, repeats included → the type without its repeat digit.
SERVED = _with_repeats(FROM_ACQUIRERS)
SERVED_FROM_ISSUERS = _with_repeats(FROM_ISSUERS)
# Kinds that an issuer is asked about, or would be; their messages have a card.
WITH_CARD = frozenset({Kind.AUTHORIZATION, Kind.INCREMENT, Kind.PURCHASE, Kind.REFUND, Kind.INQUIRY})
# Kinds of these that change an earlier payment where they name one; it must be of the same card.
REFERRING = frozenset({Kind.REFUND, Kind.INCREMENT})
# Kinds to which DE 90 says what they change. A purchase or an inquiry is routed by its own card, even if it names
# another payment.
OF_AN_ORIGINAL = REFERRING | {Kind.CAPTURE, Kind.REVERSAL, Kind.REDUCTION}
# Kinds without a card of their own: one that is there is compared with that of their original.
COMPARING = frozenset({Kind.CAPTURE, Kind.REVERSAL, Kind.REDUCTION, Kind.CHARGEBACK})
# Kinds that need to know who sends them: DE 32 or DE 41.
ABOUT_MONEY = WITH_CARD | {Kind.CAPTURE, Kind.REVERSAL, Kind.REDUCTION}
DESK = frozenset({Kind.FILE_UPDATE, Kind.RECONCILIATION, Kind.ADMINISTRATIVE, Kind.CUT_OVER})

OF_A_DAY = frozenset({Kind.RECONCILIATION, Kind.CUT_OVER})  # they have DE 15


def form_of(mti: str, elements: Mapping[int, str], forms: Mapping[str, tuple[Form, ...]]) -> Form | Decline:
    """Which form a message has; `mti` is one of `forms`."""
    for form in forms[mti]:
        if form.fits(elements):
            return form
    if 3 not in elements:
        return Decline("30", "element_missing", "DE 3 is missing")
    return Decline("12", "processing_code", "DE 3: the transaction type is not served")


def missing_element(form: Form, elements: Mapping[int, str]) -> Decline | None:
    """The first mandatory element that is not there."""
    for number in form.mandatory:
        if number not in elements:
            return Decline("30", "element_missing", f"DE {number} is missing")
    return None


def way_of(intent: Intent) -> Way:
    """The party that decides an intent."""
    if intent.kind in WITH_CARD:
        return Way.NOTE if intent.mti[2] == "2" else Way.ASK
    return Way.DESK if intent.kind in DESK else Way.CHANGE


REPLACEMENT_DIGITS = 12  # of DE 95: the amount of the transaction that is left. Source: ISO 8583:1987 DE 95


def leaves_something(elements: Mapping[int, str]) -> bool:
    """Whether DE 95 leaves something of a transaction; one of zeros reverses all of it."""
    return bool(elements.get(95, "")[:REPLACEMENT_DIGITS].strip("0 "))


def forms_table(forms: Mapping[str, tuple[Form, ...]]) -> str:
    """`FROM_ACQUIRERS` or `FROM_ISSUERS` in Markdown: a row a form, those of types with the same forms in one."""
    types: dict[tuple[Form, ...], list[str]] = {}
    for mti, rows in forms.items():
        types.setdefault(rows, []).append(mti)
    lines = ["| type | DE 3 | meaning | must have, DE | decided by |", "|---|---|---|---|---|"]
    for rows, names in types.items():
        for form in rows:
            codes = ", ".join(f"{code}…" for code in form.codes)
            needed = ", ".join(str(number) for number in form.mandatory)
            lines.append(f"| {', '.join(names)} | {codes} | {form.name} | {needed} | {_DECIDED_BY[form.way]} |")
    return "\n".join(lines)


_DECIDED_BY = {
    Way.ASK: "its issuer",
    Way.NOTE: "the sender; the issuer gets it as a stored advice",
    Way.CHANGE: "the ledger; the other party gets a stored advice",
    Way.DESK: "the switch",
}
