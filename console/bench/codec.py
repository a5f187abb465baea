"""How long a message takes the codec, beside pyiso8583 in the same run: `cardswitch bench codec`.

Three messages in each shipped dialect: an echo test, an authorization with 19 elements, and a large one. Ours and
theirs take turns in small rounds, so that a busy machine slows down both; the medians of the rounds count. "Unseen" is
what a message costs whose bitmap the codec meets for the first time: no compiled code, no reason to compile any.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import iso8583
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from console.bench.codec_cases import CASES, DIALECTS, SPARE
from messages.codec import COMPILE_AFTER, Codec
from messages.dialect import Dialect, load_dialect
from messages.message import Message

_ROUND = 200  # messages a round
_UNSEEN = 50  # of them, each with other elements
_LEAST = 3  # rounds, however little time there is
_WAYS = ("decode", "encode")


def run(as_json: bool, seconds: float = 18.0) -> None:
    """Measure and print, for the command line."""
    if as_json:
        print(json.dumps(bench_codec(seconds), indent=2))
        return
    with Progress(transient=True) as progress:
        task = progress.add_task("codec", total=len(DIALECTS) * 3)
        result = bench_codec(seconds, lambda: progress.advance(task))
    table = Table("dialect", "case", "bytes", title="µs a message, and how many times as long pyiso8583 takes")
    ways = (*_WAYS, *(f"unseen_{way}" for way in _WAYS))
    for way in ways:
        table.add_column(way.replace("_", " "), justify="right")
    for case in result["cases"]:
        figures = (f"{case[f'{way}_us']:.2f} {case[f'{way}_ratio']:5.1f}×" for way in ways)
        table.add_row(case["dialect"], case["case"], str(case["bytes"]), *figures)
    Console().print(table)


def bench_codec(seconds: float = 18.0, measured: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Measures all cases.

    Args:
        seconds: for all of them together.
        measured: called after each case.

    Returns:
        {"cases": [{"dialect", "case", "bytes", "decode_us", "encode_us", "pyiso8583_decode_us",
        "pyiso8583_encode_us", "decode_ratio", "encode_ratio", and the last six with "unseen_" before "decode" and
        "encode"}]}, medians in microseconds a message.
    """
    cases = []
    each = seconds / sum(len(CASES[load_dialect(name).version]) for name in DIALECTS)
    for name in DIALECTS:
        dialect = load_dialect(name)
        for case, message in CASES[dialect.version].items():
            cases.append({"dialect": name, "case": case, **_figures(dialect, message, each)})
            measured()
    return {"cases": cases}


def _figures(dialect: Dialect, message: Message, seconds: float) -> dict[str, Any]:
    spec = dialect.pyiso8583_spec()
    codec = Codec(dialect)
    data = codec.encode(message)
    texts, _ = iso8583.decode(data, spec)
    for _ in range(COMPILE_AFTER + 1):
        codec.encode(message)
        codec.decode(data)
    unseen = list(itertools.islice(_variants(message), _UNSEEN))
    unseen_data = [codec.encode(variant) for variant in unseen]
    unseen_texts = [iso8583.decode(each, spec)[0] for each in unseen_data]
    rounds: dict[str, list[float]] = {}

    def take(key: str, call: Callable[[Any], object], arguments: list[Any]) -> None:
        started = time.perf_counter()
        for argument in arguments:
            call(argument)
        rounds.setdefault(key, []).append((time.perf_counter() - started) / len(arguments) * 1e6)

    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rounds.get("decode_us", ())) < _LEAST:
        take("decode_us", codec.decode, [data] * _ROUND)
        take("pyiso8583_decode_us", lambda raw: iso8583.decode(raw, spec), [data] * _ROUND)
        take("encode_us", codec.encode, [message] * _ROUND)
        take("pyiso8583_encode_us", lambda given: iso8583.encode(given, spec), [texts] * _ROUND)
        codec_that_knows_nothing = Codec(dialect)
        take("unseen_decode_us", codec_that_knows_nothing.decode, unseen_data)
        take("pyiso8583_unseen_decode_us", lambda raw: iso8583.decode(raw, spec), unseen_data)
        take("unseen_encode_us", codec_that_knows_nothing.encode, unseen)
        take("pyiso8583_unseen_encode_us", lambda given: iso8583.encode(given, spec), unseen_texts)
    medians = {key: statistics.median(measured) for key, measured in rounds.items()}
    ratios = {
        f"{way}_ratio": round(medians[f"pyiso8583_{way}_us"] / medians[f"{way}_us"], 2)
        for way in (*_WAYS, *(f"unseen_{way}" for way in _WAYS))
    }
    return {"bytes": len(data), **{key: round(median, 3) for key, median in medians.items()}, **ratios}


def _variants(message: Message) -> Iterator[Message]:
    """Messages of nearly the same size, no two with the same elements: three are there or not, each time others."""
    pool = {**SPARE, **message.elements}
    for changed in itertools.combinations(pool, 3):
        elements = dict(message.elements)
        for number in changed:
            if number in elements:
                del elements[number]
            else:
                elements[number] = pool[number]
        yield Message(message.mti, elements)
