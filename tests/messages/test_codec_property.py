"""Compiled code, the interpreter and pyiso8583 agree on every input, valid or not, in every dialect."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.codec import Codec
from messages.decoder_source import REFUSALS as DECODE_REFUSALS
from messages.decoder_source import compile_decoder
from messages.encoder_source import REFUSALS as ENCODE_REFUSALS
from messages.encoder_source import compile_encoder
from messages.errors import DecodeError, EncodeError, SpecError
from messages.header import TERTIARY, read_header
from messages.interpreter import Interpreter
from messages.message import Message
from tests.messages.sample_dialects import (
    DIALECTS,
    decoded_by_pyiso8583,
    encoded_by_pyiso8583,
    message,
    their_texts,
)

INTERPRETERS = {name: Interpreter(dialect) for name, dialect in DIALECTS.items()}
INSIDE = "third-inside"  # its bitmap is among the elements: decoded by the interpreter alone

every_dialect = pytest.mark.parametrize("name", DIALECTS)


@functools.lru_cache(maxsize=64)
def decoder(name: str, numbers: tuple[int, ...], start: int):  # type: ignore[no-untyped-def]
    return compile_decoder(DIALECTS[name], numbers, start)


def decode_compiled(name: str, data: bytes) -> Message | None:
    """The result of compiled code for any bytes; None is a refusal."""
    try:
        header = read_header(DIALECTS[name], data)
    except DecodeError:
        return None  # no bitmap that a compiled function could be found by
    if name == INSIDE and TERTIARY in header.numbers:
        return decode_interpreted(name, data)
    try:
        return decoder(name, header.numbers, header.end)(data)
    except DECODE_REFUSALS:
        return None


def decode_interpreted(name: str, data: bytes) -> Message | None:
    try:
        return INTERPRETERS[name].decode(data)
    except DecodeError as error:
        assert error.path and error.reason
        assert error.offset is not None and 0 <= error.offset <= len(data)
        return None


def encode_compiled(name: str, given: Message) -> bytes | None:
    if not all(number in DIALECTS[name].elements for number in given.elements):
        return None  # no function is ever compiled for it
    try:
        return compile_encoder(DIALECTS[name], tuple(sorted(given.elements)))(given.mti, given.elements)
    except ENCODE_REFUSALS:
        return None


def encode_interpreted(name: str, given: Message) -> bytes | None:
    try:
        return INTERPRETERS[name].encode(given)
    except EncodeError as error:
        assert error.path and error.reason
        return None


@every_dialect
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_valid_messages_survive_every_way_there_and_back(name: str, seed: int) -> None:
    given = message(random.Random(seed), DIALECTS[name])
    data = encode_compiled(name, given)
    assert data is not None
    assert data == encode_interpreted(name, given)
    assert decode_compiled(name, data) == given
    assert decode_interpreted(name, data) == given


def expressible(name: str) -> bool:
    try:
        DIALECTS[name].pyiso8583_spec()
    except SpecError as error:
        assert all("pyiso8583 has no" in problem or "takes it for a bitmap" in problem for problem in error.problems)
        return False
    return True


def test_pyiso8583_has_words_for_all_dialects_but_these() -> None:
    assert {name for name in DIALECTS if not expressible(name)} == {
        "always-two",
        "beyond",
        "filled",
        INSIDE,
    }


@pytest.mark.parametrize("name", [name for name in DIALECTS if expressible(name)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_pyiso8583_reads_and_writes_the_same(name: str, seed: int) -> None:
    dialect = DIALECTS[name]
    given = message(random.Random(seed), dialect)
    data = encode_compiled(name, given)
    assert data is not None
    assert decoded_by_pyiso8583(dialect, data) == their_texts(dialect, given)
    assert encoded_by_pyiso8583(dialect, given) == data


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Bytes with something wrong, often in a place where it hides."""
    broken = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(broken)) if broken else 0
        kind = chance.randrange(6)
        if kind == 0:
            del broken[at:]
        elif kind == 1:
            broken += bytes(chance.choices(b"0 9A\x00\xff", k=chance.randint(1, 3)))
        elif kind == 2 and broken:
            broken[at] = chance.randrange(256)
        elif kind == 3 and broken:
            broken[at] = chance.choice(b"0189AaFfDd=+-_ \x00\x1f\x7f\x80\xb2\xd0\xff")
        elif kind == 4 and broken:
            broken[at] ^= 1 << chance.randrange(8)
        else:
            broken[at:at] = bytes(chance.choices(b"0123 =\x12", k=chance.randint(1, 2)))
    return bytes(broken)


@every_dialect
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_compiled_code_and_interpreter_accept_and_refuse_the_same_bytes(name: str, seed: int) -> None:
    chance = random.Random(seed)
    data = encode_interpreted(name, message(chance, DIALECTS[name]))
    assert data is not None
    for _ in range(6):
        broken = mutated(chance, data)
        assert decode_compiled(name, broken) == decode_interpreted(name, broken)


@every_dialect
def test_every_truncation_is_refused_by_both(name: str) -> None:
    chance = random.Random(7)
    for _ in range(3):
        data = encode_interpreted(name, message(chance, DIALECTS[name]))
        assert data is not None
        for size in range(min(len(data), 300)):
            assert decode_compiled(name, data[:size]) is None
            assert decode_interpreted(name, data[:size]) is None


def spoiled(chance: random.Random, given: Message) -> Message:
    """A message with something in it that may not be expressible."""
    mti, elements = given.mti, dict(given.elements)
    kind = chance.randrange(8)
    if kind == 0 or not elements:
        mti = chance.choice(("", "010", "01000", "01A0", "٠١٠٠", "010²", 100, None, b"0100"))  # type: ignore[assignment]
        return Message(mti, elements)
    number = chance.choice(list(elements))
    text = elements[number]
    at = chance.randrange(len(text) + 1)
    strange = chance.choice("0Aa =DdFfgz_+-\x00\x1f\x7f²é٣١\ud800")
    elements[number] = (
        text[:at] + text[at + 1 :],
        text[:at] + strange + text[at:],
        text[:at] + strange + text[at + 1 :],
        "",
        text.lower(),
        text + text,
        chance.choice((None, 7, text.encode("utf-8", "replace"), [text], list(text))),
    )[kind - 1]
    return Message(mti, elements)


@every_dialect
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_compiled_code_and_interpreter_accept_and_refuse_the_same_messages(name: str, seed: int) -> None:
    chance = random.Random(seed)
    given = message(chance, DIALECTS[name])
    for _ in range(4):
        broken = spoiled(chance, given)
        assert encode_compiled(name, broken) == encode_interpreted(name, broken)


@every_dialect
@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=80))
def test_noise_is_refused_with_a_path_and_never_anything_else(name: str, data: bytes) -> None:
    assert decode_compiled(name, data) == decode_interpreted(name, data)


@every_dialect
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_codec_answers_as_the_interpreter_before_and_after_compiling(name: str, seed: int) -> None:
    chance = random.Random(seed)
    codec, interpreter = Codec(DIALECTS[name], cache_size=4), INTERPRETERS[name]
    given = message(chance, DIALECTS[name])
    data = interpreter.encode(given)
    broken = [mutated(chance, data) for _ in range(4)]
    for _ in range(40):
        assert codec.encode(given) == data
        assert codec.decode(data) == given
    for candidate in broken:
        expected = _outcome(interpreter.decode, candidate)
        assert _outcome(codec.decode, candidate) == expected


def _outcome(decode, data):  # type: ignore[no-untyped-def]
    try:
        return decode(data)
    except DecodeError as error:
        return error.path, error.offset, error.reason
