"""DE 39 of 1987 and the action codes of 1993 and 2003: one table, read both ways; pure.

Called by `messages.translation` for every answer that goes from one version of the standard to another.
"""

from __future__ import annotations

from messages.dictionary.iso2003 import action_2003

# Action code of 1993, direction, DE 39 of 1987. "=" both ways, nothing lost; ">" the action code becomes that DE 39,
# which has another action code of its own; "<" the DE 39 becomes that action code, which has another DE 39 of its own.
# Source: ISO 8583:1987 annex A.8 and ISO 8583:1993 annex A.1; which goes with which is inferred from their words.
_TABLE = """
000 = 00    001 = 08    002 = 10    003 = 11    004 = 16    005 > 00    006 > 10    007 > 00    000 < 85
100 = 05    101 = 54    102 = 59    103 = 60    104 = 62    105 = 66    106 = 75    107 = 01    108 = 02    109 = 03
110 = 13    111 = 14    112 > 55    113 = 23    114 = 78    115 = 40    116 = 51    117 = 55    118 = 56    119 = 57
120 = 58    121 = 61    122 = 63    123 = 65    124 = 93    125 > 54    126 = 81    127 > 55    128 = 86    129 > 59
100 < 17    100 < 18    100 < 32    110 < 64    114 < 39    114 < 42    114 < 44    114 < 52    114 < 53    122 < 82
200 = 04    201 = 33    202 = 34    203 = 35    204 = 36    205 = 37    206 = 38    207 = 07    208 = 41    209 = 43
210 > 34    200 < 67
300 > 00    301 = 24    302 > 25    303 = 26    304 = 27    305 = 28    306 = 29    307 > 30    308 > 26    309 > 29
400 > 00
500 > 00    501 > 00    502 > 00    503 > 95    504 > 00
600 > 00    601 > 25    602 > 25    603 > 77    604 > 25    605 > 00    606 > 25    680 > 00    681 > 09
700 > 00
800 > 00
900 > 00    901 > 00    902 = 12    903 = 19    904 = 30    905 = 31    906 = 90    907 = 91    908 = 92    909 = 96
910 > 91    911 = 68    912 > 91    913 = 94    914 = 25    915 = 95    916 > 63    917 > 63    918 > 96    919 > 81
920 > 96    921 > 96    922 > 12    923 = 09    950 > 57
902 < 77    904 < 80    908 < 15    909 < 06    909 < 20    909 < 22    914 < 21    914 < 76
"""
# Codes that only 2003 has, in the same notation. Source: inferred from jPOS-CMF's words.
_TABLE_2003 = """
0885 = 85   1030 > 57   1031 > 23   1032 > 41   1033 > 12   1034 > 12   1035 > 78   1036 > 53   1037 > 39   1039 > 52
1040 > 05   1045 = 82   1046 > 13   1047 > 55   1048 > 55   1060 = 17   1061 > 57   1062 > 57   1063 > 61   1064 > 05
1065 > 05
"""
# "00" of a class of messages has an action code of its own, and so have two refusals of file actions.
_BY_CLASS: dict[tuple[str, str], str] = {
    ("3", "00"): "300",
    ("3", "25"): "302",
    ("3", "30"): "307",
    ("4", "00"): "400",
    ("5", "00"): "500",
    ("6", "00"): "600",
    ("7", "00"): "700",
    ("8", "00"): "800",
}
# Codes without a name: by the first digit of an action code. A DE 39 that is not named is a refusal.
_UNKNOWN_ACTIONS = {"0": "08", "1": "05", "2": "04", "3": "29", "9": "96"}
_ELSE, _UNKNOWN_RESPONSE = "96", "100"
# The answer to a request may mean that the issuer has approved: 08 makes the switch take that back.
_UNKNOWN_APPROVAL, _REQUESTS_ANSWERED = "08", ("11", "21")
# DE 39 that approve, as a whole or in a way of their own. Source: ISO 8583:1987 annex A.8.
APPROVALS = frozenset({"00", "08", "10", "11", "16", "85"})


def _read(table: str) -> tuple[dict[str, str], dict[str, str]]:
    to_response: dict[str, str] = {}
    to_action: dict[str, str] = {}
    words = table.split()
    for action, direction, response in zip(words[::3], words[1::3], words[2::3], strict=True):
        if direction in "=>":
            assert to_response.setdefault(action, response) == response, action
        if direction in "=<":
            assert to_action.setdefault(response, action) == action, response
    return to_response, to_action


_RESPONSES_1993, _ACTIONS_1993 = _read(_TABLE)
_own_responses, _own_actions = _read(_TABLE_2003)
_RESPONSES: dict[str, dict[str, str]] = {
    "1993": _RESPONSES_1993,
    "2003": {**{action_2003(code): response for code, response in _RESPONSES_1993.items()}, **_own_responses},
}
_ACTIONS: dict[str, dict[str, str]] = {
    "1993": _ACTIONS_1993,
    "2003": {**{response: action_2003(code) for response, code in _ACTIONS_1993.items()}, **_own_actions},
}


def action_code(response_code: str, message_class: str, version: str) -> str:
    """DE 39 of 1987 → action code.

    Args:
        response_code: any two characters.
        message_class: second digit of the MTI.
        version: "1993" (three digits) or "2003" (four).
    """
    by_class = _BY_CLASS.get((message_class, response_code))
    if by_class is not None:
        return by_class if version == "1993" else action_2003(by_class)
    known = _ACTIONS[version].get(response_code)
    if known is not None:
        return known
    return _UNKNOWN_RESPONSE if version == "1993" else action_2003(_UNKNOWN_RESPONSE)


def response_code(action: str, version: str, mti: str) -> str:
    """Action code → DE 39 of 1987. No unknown code, and no approval of another class of messages, becomes an approval
    that is booked.

    Args:
        mti: canonical, of the message that has the action code.
    """
    response = _RESPONSES[version].get(action) or _UNKNOWN_ACTIONS.get(action[:1], _ELSE)
    if response in APPROVALS and not is_taken(action, version, mti):
        return _UNKNOWN_APPROVAL if mti[1:3] in _REQUESTS_ANSWERED else _ELSE
    return response


def is_taken(action: str, version: str, mti: str) -> bool:
    """Whether an action code is a refusal, or an approval that a message of this canonical type may have.

    Source: ISO 8583:1993 annex A.1: 0xx approve authorizations and financial messages, 3xx to 8xx those of their class,
    900 and 901 are of answers to advices. 000 is taken from every class, since it says the same everywhere.
    """
    response, digit = _RESPONSES[version].get(action), action[:1]
    if mti[1] not in "12" and mti[2] not in "135":
        return True  # repeats the decision on the message that it is about
    if response is None:
        return digit in "129"
    if response not in APPROVALS:
        return True
    if digit == "0":
        return mti[1] in "12" or not action.strip("0")
    return mti[2] == "3" if digit == "9" else digit == mti[1]
