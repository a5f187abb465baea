"""Mutates kept inputs and runs a target on them: the loop that all fuzz targets share.

A target is a function from bytes to a word for what became of them. It catches the errors that are documented and
raises any other. An input whose word is new joins the pool that is mutated further, so the search goes where the target
does something new. Raising inputs are put into the corpus when run from the command line, and from there every later
run starts with them.

    TARGET = Target("codec", run)
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parent / "corpus"
_POOL = 512  # inputs that are mutated further, at most
_LARGEST = 16_384  # bytes of an input
_WORDS = 1_000  # different outcomes that are told apart
_SHOWN = 10  # of them on the command line, the most frequent ones
_STRANGE = (0x00, 0x01, 0x0A, 0x0D, 0x1F, 0x20, 0x30, 0x39, 0x3D, 0x41, 0x7F, 0x80, 0x81, 0x82, 0x9F, 0xC3, 0xF0, 0xFF)
_LENGTHS = (b"0", b"00", b"99", b"999", b"-1", b"+1", b" 1", b"\x00\x00", b"\xff\xff", b"\x7f\xff\xff\xff", b"\x84")


class Target(NamedTuple):
    """The fuzz targets.

    Args:
        name: of its corpus directory.
        run: bytes → what became of them ("read", "DE 4: expected digits"), the same word for the same way through;
            raises for a bug and nothing else.
        seeds: inputs beside those in the corpus, such as whole samples of other tests.
        words: text that is put into inputs (tags, keywords) beside what the driver knows.
    """

    name: str
    run: Callable[[bytes], str]
    seeds: Callable[[], Iterable[bytes]] = tuple
    words: tuple[bytes, ...] = ()


class Found(AssertionError):
    """An input on which the target raised; its cause is what was raised."""

    def __init__(self, target: str, seed: int, data: bytes) -> None:
        super().__init__(f"{target} with seed {seed} fails on {len(data)} bytes: {data.hex()}")
        self.data = data


def corpus(name: str) -> list[bytes]:
    """The kept inputs of a target, by file name: *.hex is hexadecimal with # comments, all else as it is."""
    inputs = []
    for path in sorted((CORPUS / name).iterdir()):
        raw = path.read_bytes()
        if path.suffix == ".hex":
            lines = raw.decode("ascii").splitlines()
            raw = bytes.fromhex(" ".join(line.partition("#")[0] for line in lines))
        inputs.append(raw)
    return inputs


def fuzz(target: Target, seconds: float, seed: int = 0) -> Counter[str]:
    """Runs the corpus, the seeds and then mutations of them.

    Args:
        target: the targets.
        seconds: duration; corpus and seeds are run in any case.
        seed: of the mutations.

    Returns:
        Number of runs of the target that ended with each word.

    Raises:
        Found: the target raised.
    """
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    pool = [*corpus(target.name), *target.seeds()]
    assert pool, f"{target.name} has no corpus"
    for data in pool:
        outcomes[_run(target, seed, data)] += 1
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(50):
            data = mutated(chance, pool, target.words)
            word = _run(target, seed, data)
            if word not in outcomes and len(outcomes) >= _WORDS:
                word = "other"
            elif word not in outcomes and len(pool) < _POOL:
                pool.append(data)
            outcomes[word] += 1
    return outcomes


def mutated(chance: random.Random, pool: list[bytes], words: tuple[bytes, ...] = ()) -> bytes:
    """One of the inputs with one to a few changes."""
    broken = bytearray(chance.choice(pool))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        _change(chance, broken, pool, words)
    return bytes(broken[:_LARGEST])


def _change(chance: random.Random, broken: bytearray, pool: list[bytes], words: tuple[bytes, ...]) -> None:
    at = chance.randrange(len(broken) + 1)
    to = min(len(broken), at + chance.choice((1, 2, 4, 8, 64)))
    kind = chance.randrange(10)
    if kind == 0:
        del broken[at:]
    elif kind == 1:
        del broken[at:to]
    elif kind == 2 and at < len(broken):
        broken[at] ^= 1 << chance.randrange(8)
    elif kind == 3 and at < len(broken):
        broken[at] = chance.choice(_STRANGE)
    elif kind == 4 and at < len(broken):
        broken[at] = (broken[at] + chance.choice((-1, 1))) % 256
    elif kind == 5:
        broken[at:at] = broken[at:to] * chance.choice((1, 2, 16))
    elif kind == 6:
        other = chance.choice(pool)
        start = chance.randrange(len(other) + 1)
        broken[at:] = other[start:]
    elif kind == 7:
        broken[at : to if chance.random() < 0.5 else at] = chance.choice((*_LENGTHS, *words))
    elif kind == 8:
        broken[at:at] = chance.randbytes(chance.choice((1, 2, 9)))
    else:
        broken[at:to] = chance.randbytes(to - at)


def _run(target: Target, seed: int, data: bytes) -> str:
    try:
        return target.run(data)
    except Exception as error:
        raise Found(target.name, seed, data) from error


def main(targets: Sequence[Target]) -> None:
    """Command line: runs targets for a while, says what came of each, keeps what raised."""
    names = {target.name: target for target in targets}
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Runs fuzz targets, all or the named ones."
    )
    parser.add_argument("target", nargs="*", help=", ".join(names), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each of them; 60")
    parser.add_argument("--seed", type=int, default=None, help="of the mutations; else a new one")
    options = parser.parse_args()
    unknown = [name for name in options.target if name not in names]
    if unknown:
        parser.error(f"there is no target {unknown[0]}, there are {', '.join(names)}")
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    for name in options.target or names:
        _run_and_tell(names[name], options.seconds, seed)


def _run_and_tell(target: Target, seconds: float, seed: int) -> None:
    try:
        outcomes = fuzz(target, seconds, seed)
    except Found as found:
        kept = CORPUS / target.name / f"found-{hashlib.sha256(found.data).hexdigest()[:12]}.hex"
        kept.write_text(found.data.hex() + "\n", encoding="ascii")
        traceback.print_exception(found)
        sys.exit(f"kept as {kept}")
    print(f"{target.name}, seed {seed}: {outcomes.total()} inputs, {len(outcomes)} different outcomes", flush=True)
    for word, count in outcomes.most_common(_SHOWN):
        print(f"{count:9}  {word}")
