"""Meanings of numbers and codes of ISO 8583:2003, in words; data, read by code that shows or translates messages.

Source: ISO 8583-1:2003 6.2 (data elements) and the code lists kept with it, as public packagers and formats built on it
have them; the notation is that of `messages.dictionary.iso1987`.
"""

from __future__ import annotations

from messages.dictionary.iso1993 import ACTION_CODES as _ACTIONS_1993
from messages.dictionary.iso1993 import FUNCTION_CODES as _FUNCTIONS_1993
from messages.dictionary.iso1993 import REASON_CODES

_DICTIONARY: tuple[tuple[int, str, str], ...] = (
    (2, "n..19", "Primary account number (PAN)"),
    (3, "an 6", "Processing code"),
    (4, "n 16", "Amount, transaction"),
    (5, "n 16", "Amount, reconciliation"),
    (6, "n 16", "Amount, cardholder billing"),
    (7, "n 10", "Date and time, transmission"),
    (8, "n 12", "Amount, cardholder billing fee"),
    (9, "n 8", "Conversion rate, reconciliation"),
    (10, "n 8", "Conversion rate, cardholder billing"),
    (11, "n 12", "System trace audit number (STAN)"),
    (12, "n 14", "Date and time, local transaction"),
    (13, "n 6", "Date, effective"),
    (14, "n 4", "Date, expiration"),
    (15, "n 8", "Date, settlement"),
    (16, "n 4", "Date, conversion"),
    (17, "n 4", "Date, capture"),
    (18, "ans...140", "Message error indicator"),
    (19, "n 3", "Country code, acquiring institution"),
    (20, "n 3", "Country code, primary account number"),
    (21, "ans 22", "Transaction life cycle identification data"),
    (22, "b 128", "Point of service data code"),
    (23, "n 3", "Card sequence number"),
    (24, "n 3", "Function code"),
    (25, "n 4", "Message reason code"),
    (26, "n 4", "Merchant category code (MCC)"),
    (27, "b 216", "POS capability"),
    (28, "n 8", "Date, reconciliation"),
    (29, "n 3", "Reconciliation indicator"),
    (30, "n 32", "Amounts, original"),
    (31, "n 23", "Acquirer reference number"),
    (32, "n..11", "Acquiring institution identification code"),
    (33, "n..11", "Forwarding institution identification code"),
    (34, "b....9999", "Electronic commerce data"),
    (35, "z..37", "Track 2 data"),
    (36, "z...104", "Track 3 data"),
    (37, "an 12", "Retrieval reference number (RRN)"),
    (38, "an 6", "Approval code"),
    (39, "n 4", "Action code"),
    (40, "n 3", "Service code"),
    (41, "ans 16", "Card acceptor terminal identification"),
    (42, "ans..35", "Card acceptor identification code"),
    (43, "b....9999", "Card acceptor name/location"),
    (44, "b....9999", "Additional response data"),
    (45, "ans..76", "Track 1 data"),
    (46, "ans...216", "Amounts, fees"),
    (47, "ans...999", "Additional data, national"),
    (48, "ans...999", "Additional data, private"),
    (49, "b....9999", "Verification data"),
    (50, "b....9999", "Reserved, ISO"),
    (51, "b....9999", "Customer related data"),
    (52, "b 64", "Personal identification number (PIN) data"),
    (53, "b..48", "Security related control information"),
    (54, "ans...126", "Amounts, additional"),
    (55, "b....9999", "Integrated circuit card system related data"),
    (56, "n..41", "Original data elements"),
    (57, "n 3", "Authorization life cycle code"),
    (58, "n..11", "Authorizing agent institution identification code"),
    (59, "ans...999", "Transport data"),
    (60, "ans...999", "Reserved, national"),
    (61, "ans...999", "Reserved, national"),
    (62, "ans...999", "Reserved, private"),
    (63, "ans...999", "Reserved, private"),
    (64, "b 64", "Message authentication code (MAC)"),
    (66, "ans...216", "Amounts, original fees"),
    (67, "n 2", "Extended payment data"),
    (68, "ans 9", "Batch/file transfer message control"),
    (69, "ans 40", "Batch/file transfer control data"),
    (70, "n 18", "File transfer description data"),
    (71, "b....9999", "Reserved, ISO"),
    (72, "ans...999", "Data record"),
    (73, "n 8", "Date, action"),
    (74, "n 156", "Reconciliation data, primary"),
    (75, "n 90", "Reconciliation data, secondary"),
    (76, "b....9999", "Reserved, ISO"),
    (77, "b....9999", "Reserved, ISO"),
    (78, "b....9999", "Reserved, ISO"),
    (79, "b....9999", "Reserved, ISO"),
    (80, "b....9999", "Reserved, ISO"),
    (81, "b....9999", "Reserved, ISO"),
    (82, "b....9999", "Reserved, ISO"),
    (83, "b....9999", "Reserved, ISO"),
    (84, "b....9999", "Reserved, ISO"),
    (85, "b....9999", "Reserved, ISO"),
    (86, "b....9999", "Reserved, ISO"),
    (87, "b....9999", "Reserved, ISO"),
    (88, "b....9999", "Reserved, ISO"),
    (89, "b....9999", "Reserved, ISO"),
    (90, "b....9999", "Reserved, ISO"),
    (91, "b....9999", "Reserved, ISO"),
    (92, "b....9999", "Reserved, ISO"),
    (93, "n..11", "Transaction destination institution identification code"),
    (94, "n..11", "Transaction originator institution identification code"),
    (95, "ans..99", "Card issuer reference data"),
    (96, "b...999", "Key management data"),
    (97, "an 21", "Amount, net reconciliation"),
    (98, "ans 25", "Payee"),
    (99, "an..11", "Settlement institution identification code"),
    (100, "n..11", "Receiving institution identification code"),
    (101, "ans..99", "File name"),
    (102, "ans..28", "Account identification 1"),
    (103, "ans..28", "Account identification 2"),
    (104, "b....9999", "Transaction specific data"),
    (105, "b....9999", "Reserved, ISO"),
    (106, "b....9999", "Reserved, ISO"),
    (107, "b....9999", "Reserved, ISO"),
    (108, "b....9999", "Reserved, ISO"),
    (109, "ans...144", "Reconciliation fee amounts, credit"),
    (110, "ans...144", "Reconciliation fee amounts, debit"),
    (111, "b....9999", "Reserved, private"),
    (112, "b....9999", "Reserved, private"),
    (113, "b....9999", "Reserved, private"),
    (114, "b....9999", "Reserved, private"),
    (115, "b....9999", "Reserved, private"),
    (116, "b....9999", "Reserved, national"),
    (117, "b....9999", "Reserved, national"),
    (118, "b....9999", "Reserved, national"),
    (119, "b....9999", "Reserved, national"),
    (120, "b....9999", "Reserved, national"),
    (121, "b....9999", "Reserved, national"),
    (122, "b....9999", "Reserved, national"),
    (123, "ans...999", "Reserved, private"),
    (124, "b....9999", "Reserved, private"),
    (125, "b....9999", "Reserved, private"),
    (126, "b....9999", "Reserved, private"),
    (127, "b....9999", "Reserved, private"),
    (128, "b 64", "Message authentication code (MAC)"),
)

ELEMENT_NAMES: dict[int, str] = {number: name for number, _, name in _DICTIONARY}
FORMATS: dict[int, str] = {number: notation for number, notation, _ in _DICTIONARY}


def action_2003(action_1993: str) -> str:
    """An action code of 1993 with four digits: "116" → "1016", "904" → "9104".

    Source: inferred from ISO 8583-1:2003's groups and the codes of jPOS-CMF (1016, 9102, 9107).
    """
    return action_1993[0] + ("1" if action_1993[0] == "9" else "0") + action_1993[1:]


# DE 39, n 4. Source: the groups of ISO 8583-1:2003 DE 39; those from 1030 on as in jPOS-CMF.
ACTION_CODES: dict[str, str] = {
    **{action_2003(code): words for code, words in _ACTIONS_1993.items()},
    "0885": "No reason to decline",
    "1030": "Currency unacceptable to issuer",
    "1031": "Declined, fees disputed",
    "1032": "Lost or stolen card",
    "1033": "Authorization life cycle unacceptable",
    "1034": "Authorization life cycle expired",
    "1035": "Closed account",
    "1036": "Closed savings account",
    "1037": "Closed credit account",
    "1039": "Closed checking account",
    "1040": "Bad debt",
    "1045": "Card verification data failed",
    "1046": "Amount not found",
    "1047": "PIN change required",
    "1048": "New PIN invalid",
    "1060": "Aborted at terminal",
    "1061": "Transaction not supported by issuer",
    "1062": "Cash-back not allowed",
    "1063": "Cash-back amount exceeded",
    "1064": "Declined, processed offline by terminal",
    "1065": "Declined, terminal cannot process offline",
}
FUNCTION_CODES: dict[str, str] = {
    **_FUNCTIONS_1993,
    "113": "account verification",
    "187": "incremental authorization",
    "832": "response received",
}

# DE 22, b 128: four groups of 32 bits, the first bit of a group the lowest of its first byte.
# Name of a group, bit (from 0) → words.
# Source: inferred from jPOS-CMF DE 22, whose order of bits is the one in use.
POS_DATA: tuple[tuple[str, dict[int, str]], ...] = (
    (
        "card reading",
        {
            0: "unknown",
            1: "not taken from card",
            2: "physical entry",
            3: "bar code",
            4: "magnetic stripe",
            5: "chip",
            6: "data on file",
            11: "chip read failed",
            12: "magnetic stripe read failed",
            13: "fallback",
        },
    ),
    (
        "cardholder verification",
        {
            0: "unknown",
            1: "none",
            2: "manual signature",
            3: "online PIN",
            4: "offline PIN in clear",
            5: "offline PIN encrypted",
            6: "digitized signature",
            7: "biometrics",
            8: "manual verification",
            9: "biographics",
            10: "account based digital signature",
            11: "public key based digital signature",
        },
    ),
    (
        "environment",
        {
            0: "unknown",
            1: "attended",
            2: "unattended",
            3: "mail or telephone order",
            4: "electronic commerce",
            5: "mobile commerce",
            6: "recurring",
            7: "stored details",
            8: "cardholder activated terminal",
            9: "ATM on bank premises",
            10: "ATM off bank premises",
            11: "deferred",
            12: "installments",
        },
    ),
    (
        "security",
        {
            0: "unknown",
            1: "private network",
            2: "open network",
            3: "channel MAC",
            4: "pass-through MAC",
            5: "channel encryption",
            6: "end-to-end encryption",
            7: "private encryption",
            8: "PKI encryption",
            9: "private MAC",
            10: "standard MAC",
        },
    ),
)


def describe(number: int, value: str) -> str:
    """The meaning of a value, "" where it is obvious; never repeats the value."""
    if number == 22 and len(value) == 32 and not set(value) - set("0123456789ABCDEFabcdef"):
        said = []
        for group, (name, words) in enumerate(POS_DATA):
            bits = int.from_bytes(bytes.fromhex(value[8 * group : 8 * group + 8]), "little")
            named = [words.get(bit, "unknown bit") for bit in range(32) if bits >> bit & 1]
            if named:
                said.append(f"{name}: {', '.join(named)}")
        return "; ".join(said)
    if number == 24:
        return FUNCTION_CODES.get(value, "unknown function code")
    if number == 25:
        return REASON_CODES.get(value, "unknown message reason code")
    if number == 39:
        return ACTION_CODES.get(value, "unknown action code")
    return ""
