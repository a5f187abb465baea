"""How long a message takes the codec, beside pyiso8583 in the same run: `cardswitch bench codec`.

Two dialects, three messages: an echo test, an authorization with 19 elements, and a large one. Ours and
theirs take turns in small rounds, so that a busy machine slows down both; the medians of the rounds count.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import iso8583
from rich.console import Console
from rich.table import Table

from messages.codec import COMPILE_AFTER, Codec
from messages.dialect import load_dialect
from messages.message import Message

DIALECTS = ("iso87-ascii", "iso87-bcd")
_ROUND = 50  # messages a round

_ECHO = Message("0800", {7: "1122154500", 11: "123456", 70: "301"})
_AUTHORIZATION = Message(
    "0100",
    {
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
        55: "9F26088C1B2D3E4F5061729F2701809F10120110A00003220000000000000000000000FF9F3704A1B2C3D4"
        "9F36020042950580000000009A032611229C01005F2A0209789F02060000000010009F1A020276820239009F3303E0F8C8",
    },
)
_LARGE = Message(
    "0100",
    {
        **_AUTHORIZATION.elements,
        23: "001",
        48: "01003ABC02010KEEP THIS 1".ljust(180, "."),
        52: "0123456789ABCDEF",
        53: "2600000000000000",
        54: "0002978C000000012345",
        60: "ADDITIONAL PRIVATE DATA ".ljust(60, "-"),
        61: "POINT OF SERVICE DATA ".ljust(40, "-"),
        62: "TRANSPORT ".ljust(90, "-"),
        63: "4bf92f3577b34da6a3ce929d0e0e4736",
        90: "010012345511221544000000040010000000000000",
        95: "000000000500".ljust(42, "0"),
        100: "400200",
        102: "DE00500105170000000001",
        103: "DE00500105170000000002",
        127: "NETWORK DATA ".ljust(120, "="),
        128: "0000000000000000",
    },
)
CASES = (("echo", _ECHO), ("authorization", _AUTHORIZATION), ("large", _LARGE))


def run(as_json: bool, seconds: float = 6.0) -> None:
    """Measure and print, for the command line."""
    result = bench_codec(seconds)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table("dialect", "case", "bytes", "decode µs", "pyiso8583", "ratio", "encode µs", "pyiso8583", "ratio")
    for case in result["cases"]:
        table.add_row(
            case["dialect"],
            case["case"],
            str(case["bytes"]),
            *(
                figure
                for way in ("decode", "encode")
                for figure in (
                    f"{case[f'{way}_us']:.2f}",
                    f"{case[f'pyiso8583_{way}_us']:.1f}",
                    f"{case[f'{way}_ratio']:.1f}×",
                )
            ),
        )
    Console().print(table)


def bench_codec(seconds: float = 6.0) -> dict[str, Any]:
    """Measures all cases.

    Args:
        seconds: for all of them together.

    Returns:
        {"cases": [{"dialect", "case", "bytes", "decode_us", "encode_us", "pyiso8583_decode_us",
        "pyiso8583_encode_us", "decode_ratio", "encode_ratio"}]}, medians in microseconds a message.
    """
    each = seconds / (len(DIALECTS) * len(CASES))
    return {"cases": [_case(dialect, name, message, each) for dialect in DIALECTS for name, message in CASES]}


def _case(dialect: str, name: str, message: Message, seconds: float) -> dict[str, Any]:
    codec = Codec(load_dialect(dialect))
    spec = codec.dialect.pyiso8583_spec()
    data = codec.encode(message)
    texts, _ = iso8583.decode(data, spec)
    for _ in range(COMPILE_AFTER + 1):
        codec.encode(message)
        codec.decode(data)
    figures = _medians(
        {
            "decode_us": lambda: codec.decode(data),
            "encode_us": lambda: codec.encode(message),
            "pyiso8583_decode_us": lambda: iso8583.decode(data, spec),
            "pyiso8583_encode_us": lambda: iso8583.encode(texts, spec),
        },
        seconds,
    )
    return {
        "dialect": dialect,
        "case": name,
        "bytes": len(data),
        **{key: round(figure, 3) for key, figure in figures.items()},
        "decode_ratio": round(figures["pyiso8583_decode_us"] / figures["decode_us"], 2),
        "encode_ratio": round(figures["pyiso8583_encode_us"] / figures["encode_us"], 2),
    }


def _medians(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Microseconds a call; at least five rounds however little time there is."""
    rounds: dict[str, list[float]] = {key: [] for key in calls}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rounds["decode_us"]) < 5:
        for key, call in calls.items():
            started = time.perf_counter()
            for _ in range(_ROUND):
                call()
            rounds[key].append((time.perf_counter() - started) / _ROUND * 1e6)
    return {key: statistics.median(measured) for key, measured in rounds.items()}
