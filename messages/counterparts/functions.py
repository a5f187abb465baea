"""The function and the result of a message: DE 24, 25, 26 and 39 of later versions."""

from __future__ import annotations

from messages.counterparts.amounts import is_reversal, was
from messages.counterparts.sides import CARRIED, Fault, Reading, Writing, is_answer
from messages.dictionary.actions import action_code, is_taken, response_code
from messages.dictionary.iso2003 import action_2003
from messages.errors import EncodeError

# Source: ISO 8583:1987 annex A.14 (DE 70), ISO 8583:1993 annex A.5 (DE 24).
MANAGEMENT = {"001": "801", "002": "802", "101": "811", "161": "811", "201": "821", "301": "831"}
MANAGEMENT_BACK = {"801": "001", "802": "002", "811": "101", "821": "201", "831": "301"}
# DE 91 → DE 24. Source: ISO 8583:1987 DE 91 (1 add, 2 change, 3 delete, 5 inquire), ISO 8583:1993 annex A.5.
FILE_ACTIONS = {"1": "301", "2": "302", "3": "303", "4": "304", "5": "305"}
FILE_ACTIONS_BACK = {function: update for update, function in FILE_ACTIONS.items()}
# Canonical MTI without repeat digit → DE 24, where neither DE 70 nor DE 91 says it, nor what the peer has said itself.
FUNCTIONS = {
    "0100": "100", "0120": "100", "0200": "200", "0220": "200", "0400": "400", "0420": "400", "0422": "450",
    "0500": "500", "0520": "500", "0600": "680", "0620": "680", "0700": "700", "0720": "700",
}  # fmt: skip
_INQUIRY, _INCREMENT, _AMOUNT_SAME, _AMOUNT_DIFFERS, _PARTIAL_REVERSAL = "108", "106", "201", "202", "401"
_RETURNS = "20"  # DE 3 of refunds
# Representments (1220): 1987 has no type for them, and taken for a purchase they would be booked once more.
REPRESENTMENTS = frozenset({"205", "206", "207", "211", "212", "213", *(str(code) for code in range(280, 286))})
# Chargebacks (1422) that are taken back: in 1987 they would be one chargeback more.
CHARGEBACK_REVERSALS = frozenset(str(code) for code in range(490, 496))
# Authorizations (1100) in place of an earlier one: in 1987 they would hold their amount besides.
REPLACEMENTS = frozenset({"102", "103"})
COMPLETIONS = frozenset({"201", "202"})
# DE 25 of reversals that come without a reason, as those of 1987 do: unspecified.
REASONS = {"0400": "4001", "0420": "4001"}


def read_function(reading: Reading, value: str) -> None:
    """DE 24; a function that would become another one in 1987 is a fault, since it would be booked as that."""
    reading.keep(24)
    if is_answer(reading.mti):
        pass  # the request is known with the answer
    elif reading.mti[1] == "2" and value in REPRESENTMENTS:
        raise Fault("is a representment, which 1987 does not have")
    elif reading.mti[1] == "2" and value in COMPLETIONS:
        _check_completion(reading)
    elif reading.mti[1] == "1" and value in REPLACEMENTS:
        raise Fault("replaces an authorization, which 1987 does not have")
    elif reading.mti[1] == "4" and value in CHARGEBACK_REVERSALS:
        raise Fault("takes back a chargeback, which 1987 does not have")
    elif value == _PARTIAL_REVERSAL and is_reversal(reading.mti) and not was(reading.given.get(30, "")).strip("0"):
        raise Fault("is a reversal in part, and DE 30 does not say what the amount was")
    if reading.mti[1] == "8" and value in MANAGEMENT_BACK:
        reading.put[70] = MANAGEMENT_BACK[value]
    elif reading.mti[1] == "3" and value in FILE_ACTIONS_BACK:
        reading.put[91] = FILE_ACTIONS_BACK[value]


def _check_completion(reading: Reading) -> None:
    """A completion of an authorization: in 1987 it is an advice that names it, all else is a purchase besides."""
    if reading.mti[2] != "2":
        raise Fault("completes an authorization, which only an advice does in 1987")
    if 56 not in reading.given:
        raise Fault("completes an authorization, and DE 56 does not say which")


def write_management(writing: Writing, value: str) -> None:
    if writing.mti[1] != "8" or value not in MANAGEMENT:
        raise EncodeError("DE 70", f"has no function code in {writing.version}")
    if MANAGEMENT_BACK.get(writing.kept(24)) != value:
        writing.put[24] = MANAGEMENT[value]


def write_file_action(writing: Writing, value: str) -> None:
    if writing.mti[1] != "3" or value not in FILE_ACTIONS:
        raise EncodeError("DE 91", f"has no function code in {writing.version}")
    if FILE_ACTIONS_BACK.get(writing.kept(24)) != value:
        writing.put[24] = FILE_ACTIONS[value]


def write_function(writing: Writing) -> None:
    """DE 24 and DE 25 of what says them by its MTI in 1987."""
    mti = writing.mti[:3] + str(int(writing.mti[3]) // 2 * 2)
    given = writing.given
    if 24 not in writing.put and (kept := writing.kept(24)):
        writing.put[24] = kept
    elif 24 not in writing.put and mti in FUNCTIONS:
        function = FUNCTIONS[mti]
        if mti in ("0100", "0120") and given.get(3, "").startswith("3"):
            function = _INQUIRY
        elif mti in ("0100", "0120") and 90 in given:
            function = _INCREMENT
        elif mti == "0220" and 90 in given and not given.get(3, "").startswith(_RETURNS):
            # A caller that knows the authorized amount passes 201 or 202 under 1024. 201 claims that DE 4 is that
            # amount, and is refused where it is not; a final completion (DE 60) may be of any amount.
            authorized = was(given.get(CARRIED + 30, ""))
            function = _AMOUNT_SAME if authorized and authorized == given.get(4) else _AMOUNT_DIFFERS
        elif mti in ("0400", "0420") and 95 in given:
            function = _PARTIAL_REVERSAL
        writing.put[24] = function
    reason = writing.kept(25) or REASONS.get(mti)
    if reason:
        writing.put[25] = reason


# Settlement code (DE 66) of reconciliation answers ⇄ action code. Source: ISO 8583:1987 DE 66, ISO 8583:1993 annex A.1.
BALANCES = {"1": "500", "2": "501", "3": "503"}
BALANCES_BACK = {"500": "1", "501": "2", "502": "2", "503": "3", "504": "2"}


def read_action(reading: Reading, value: str) -> None:
    message_class = reading.mti[1]
    if not is_answer(reading.mti) and not is_taken(value, reading.version, reading.mti):
        raise Fault("is no decision for a message of this class")
    reading.put[39] = response_code(value, reading.version, reading.mti)
    reading.keep(39)
    if message_class == "5" and (code := _of_1993(value)) in BALANCES_BACK:
        reading.put[66] = BALANCES_BACK[code]


def write_action(writing: Writing, value: str) -> None:
    message_class = writing.mti[1]
    kept = writing.kept(39)
    if kept and response_code(kept, writing.version, writing.mti) == value:
        writing.put[39] = kept
        return
    code = action_code(value, message_class, writing.version)
    balance = BALANCES.get(writing.given.get(66, "")) if message_class == "5" and value == "00" else None
    if balance:
        code = balance if writing.version == "1993" else action_2003(balance)
    writing.put[39] = code


def _of_1993(action: str) -> str:
    return action if len(action) == 3 else action[0] + action[2:]


def read_business(reading: Reading, value: str) -> None:
    reading.put[18] = value


def read_merchant_type(reading: Reading, value: str) -> None:
    reading.keep(18)
    if 26 not in reading.given:
        reading.put[18] = value


def write_business(writing: Writing, value: str) -> None:
    writing.put[26] = value
