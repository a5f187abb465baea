"""Time of the codec for a message, beside pyiso8583 in the same run: `cardswitch bench codec`.

Three messages in each shipped dialect: an echo test, an authorization with 19 elements, and a large one. Ours and
theirs take turns in rounds of about half a millisecond of CPU time, which does not pass while others have the core; the
medians of the rounds count. "Unseen" is what a message costs whose bitmap the codec meets for the first time: no
compiled code, no reason to compile any.
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

_ROUND_US = 500.0
_UNSEEN = 50  # messages, each with other elements
_LEAST = 5  # rounds, however little time there is
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
        "encode"}]}, medians in microseconds of CPU time a message.
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
    texts = iso8583.decode(data, spec)[0]
    for _ in range(COMPILE_AFTER + 1):
        codec.encode(message)
        codec.decode(data)
    unseen = list(itertools.islice(_variants(message), _UNSEEN))
    unseen_data = [codec.encode(variant) for variant in unseen]
    unseen_texts = [iso8583.decode(each, spec)[0] for each in unseen_data]

    def their_decode(raw: bytes) -> object:
        return iso8583.decode(raw, spec)

    def their_encode(given: dict[str, str]) -> object:
        return iso8583.encode(given, spec)

    rows = (
        _Row("decode_us", lambda: codec.decode, [data]),
        _Row("pyiso8583_decode_us", lambda: their_decode, [data]),
        _Row("encode_us", lambda: codec.encode, [message]),
        _Row("pyiso8583_encode_us", lambda: their_encode, [texts]),
        _Row("unseen_decode_us", lambda: Codec(dialect).decode, unseen_data, most=_UNSEEN),
        _Row("pyiso8583_unseen_decode_us", lambda: their_decode, unseen_data),
        _Row("unseen_encode_us", lambda: Codec(dialect).encode, unseen, most=_UNSEEN),
        _Row("pyiso8583_unseen_encode_us", lambda: their_encode, unseen_texts),
    )
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rows[0].rounds) < _LEAST:
        for row in rows:
            row.take_turn()
    medians = {row.key: statistics.median(row.rounds) for row in rows}
    ratios = {
        f"{way}_ratio": round(medians[f"pyiso8583_{way}_us"] / medians[f"{way}_us"], 2)
        for way in (*_WAYS, *(f"unseen_{way}" for way in _WAYS))
    }
    return {"bytes": len(data), **{key: round(median, 3) for key, median in medians.items()}, **ratios}


class _Row:
    """One figure.

    Args:
        prepare: gives what is called; not measured itself.
        arguments: taken one after the other, round after round.
        most: messages a round.
    """

    def __init__(self, key: str, prepare: Callable[[], Callable[[Any], object]], arguments: list[Any], most: int = 500):
        self.key = key
        self.rounds: list[float] = []  # microseconds a message
        self._prepare = prepare
        self._arguments = itertools.cycle(arguments)
        self._most = most
        self._count = min(5, most)

    def take_turn(self) -> None:
        """A round; the next one has as many messages as take the time that a round should."""
        arguments = list(itertools.islice(self._arguments, self._count))
        call = self._prepare()
        started = time.thread_time()
        for argument in arguments:
            call(argument)
        self.rounds.append((time.thread_time() - started) / self._count * 1e6)
        self._count = max(1, min(self._most, int(_ROUND_US / min(self.rounds))))


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
