"""Trace ids: every one that is made may be shown, and nothing that could be a card number is one."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.logging import mask_event, masked_text
from messages.mask import masked
from messages.message import Message
from messages.trace import is_trace_id, trace_id

PAN = "4242424242424242"


@given(seed=st.integers(0, 2**64), digits=st.sampled_from([8, 16, 24, 32]))
def test_no_mask_touches_a_trace_id(seed: int, digits: int) -> None:
    made = trace_id(random.Random(seed).getrandbits, digits)
    assert len(made) == digits
    assert is_trace_id(made)
    assert masked(Message("0100", {2: PAN, 63: made}))[63] == made
    event = {"event": f"payment {made}", "trace_id": made, "request_id": f"req_{made}", "path": f"/x/{made}"}
    assert mask_event(None, "info", event) == event
    assert masked_text(json.dumps(event)) == json.dumps(event)


def test_random_bits_alone_would_be_masked_now_and_then() -> None:
    rng = random.Random(1)
    unfit = sum(not is_trace_id(f"{rng.getrandbits(128):032x}") for _ in range(2_000))
    assert 30 < unfit < 100, "else the property above shows nothing"


def test_bits_that_look_like_a_card_number_are_drawn_again() -> None:
    draws = iter([int(PAN, 16), int("f4" * 12, 16), int("3234" * 8, 16), int("ab" * 16, 16)])
    assert trace_id(lambda bits: next(draws)) == "ab" * 16
    assert next(draws, None) is None


def test_a_source_without_chance_is_given_up() -> None:
    with pytest.raises(AssertionError, match="nothing but digits"):
        trace_id(lambda bits: 0)


def test_leading_zeros_are_kept() -> None:
    assert trace_id(lambda bits: 0xABC, 8) == "00000abc"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "ab" * 17,
        "AB" * 16,
        "ab-cd-ef-01",
        "abababab\n",
        f"a{PAN}",
        f"{PAN[:12]}abcd",
        PAN,
        PAN.encode().hex(),
    ],
)
def test_what_could_hold_a_card_number_is_no_trace_id(text: str) -> None:
    assert not is_trace_id(text)
