"""The messages that the codec's bench measures: three sizes in each version of the standard; data.

Each version has an echo test, an authorization with 19 elements, chip data among them, and a large message. Card
numbers are test numbers, keys and cryptograms are made up.
"""

from __future__ import annotations

from messages.message import Message

# In the order in which they are measured; the file of each has its version.
DIALECTS = ("iso87-ascii", "iso87-bcd", "iso87-ebcdic", "iso93-ascii", "iso93-binary", "iso2003-ascii")

_CHIP = (
    "9F26088C1B2D3E4F5061729F2701809F10120110A00003220000000000000000000000FF9F3704A1B2C3D4"
    "9F36020042950580000000009A032611229C01005F2A0209789F02060000000010009F1A020276820239009F3303E0F8C8"
)
_ADDITIONAL = {
    23: "001",
    48: "01003ABC02010KEEP THIS 1".ljust(180, "."),
    52: "0123456789ABCDEF",
    60: "ADDITIONAL PRIVATE DATA ".ljust(60, "-"),
    61: "POINT OF SERVICE DATA ".ljust(40, "-"),
    62: "TRANSPORT ".ljust(90, "-"),
    63: "4bf92f3577b34da6a3ce929d0e0e4736",
    100: "400200",
    102: "DE00500105170000000001",
    103: "DE00500105170000000002",
    123: "NETWORK DATA ".ljust(120, "="),
    128: "0000000000000000",
}
_1987 = {
    2: "4242424242424242",
    3: "000000",
    4: "000000001000",
    7: "1122154500",
    11: "123456",
    12: "164500",
    13: "1122",
    14: "3012",
    18: "5411",
    22: "051",
    25: "00",
    32: "400100",
    35: "4242424242424242=30122010000000000000",
    37: "632615123456",
    41: "TERM0001",
    42: "MERCHANT0000001",
    43: "CORNER SHOP              BERLIN       DE",
    49: "978",
    55: _CHIP,
}
_1993 = {
    **{number: _1987[number] for number in (2, 3, 4, 7, 11, 14, 32, 35, 37, 41, 42, 49, 55)},
    12: "261122164500",
    19: "276",
    22: "A1010151134C",
    24: "100",
    26: "5411",
    43: "CORNER SHOP\\MARKET STREET 1\\BERLIN\\10115        DEU",
}
_2003 = {
    **{number: _1993[number] for number in (2, 3, 7, 14, 19, 24, 26, 32, 35, 37, 55)},
    4: "9782000000001000",
    11: "000000123456",
    12: "20261122164500",
    22: "20000000040000000200000001000000",
    41: "TERM000100000000",
    42: "MERCHANT0000001",
    43: "710024DF01" + "0B434F524E45522053484F50" + "DF02064245524C494E" + "DF0303444555".ljust(22, "0"),
    49: "71000CDF0108A1B2C3D4E5F60718",
}

# version → case → its message
CASES: dict[str, dict[str, Message]] = {
    "1987": {
        "echo": Message("0800", {7: "1122154500", 11: "123456", 70: "301"}),
        "authorization": Message("0100", _1987),
        "large": Message(
            "0100",
            {
                **_1987,
                **_ADDITIONAL,
                53: "2600000000000000",
                54: "0002978C000000012345",
                90: "010012345611221544000000040010000000000000",
                95: "000000000500".ljust(42, "0"),
            },
        ),
    },
    "1993": {
        "echo": Message("1804", {11: "123456", 12: "261122164500", 24: "831"}),
        "authorization": Message("1100", _1993),
        "large": Message(
            "1100",
            {
                **_1993,
                **_ADDITIONAL,
                30: "000000000500000000000400",
                53: "A1B2C3D4E5F60718",
                54: "0002978C000000012345",
                56: "1100123456" + "261122164500" + "06400100",
            },
        ),
    },
    "2003": {
        "echo": Message("2804", {11: "000000123456", 12: "20261122164500", 24: "831"}),
        "authorization": Message("2100", _2003),
        "large": Message(
            "2100",
            {
                **_2003,
                **_ADDITIONAL,
                30: "97820000000005009782000000000400",
                53: "A1B2C3D4E5F60718",
                54: "00029782C000000012345",
                104: "710004DF010101",
            },
        ),
    },
}
# Elements that a new message has besides, or lacks: numbers and text that each version has in the same format.
SPARE = {2: "4242424242424242", 14: "3012", 23: "001", 32: "400100", 33: "400200", 37: "632615123456", 38: "A1B2C3"}
