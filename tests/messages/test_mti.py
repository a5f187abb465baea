"""Message type indicators."""

from __future__ import annotations

import pytest

from messages.errors import DecodeError
from messages.mti import (
    Mti,
    canonical_mti,
    describe_mti,
    in_version,
    is_repeat,
    is_response,
    parse_mti,
    repeat_mti,
    response_mti,
)


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        ("0100", "0110"),
        ("0101", "0110"),
        ("0120", "0130"),
        ("0121", "0130"),
        ("0200", "0210"),
        ("0220", "0230"),
        ("0221", "0230"),
        ("0400", "0410"),
        ("0401", "0410"),
        ("0420", "0430"),
        ("0421", "0430"),
        ("0422", "0432"),
        ("0423", "0432"),
        ("0800", "0810"),
        ("0801", "0810"),
        ("0820", "0830"),
    ],
)
def test_answers(request_: str, response: str) -> None:
    assert response_mti(request_) == response
    assert is_response(response) and not is_response(request_)


@pytest.mark.parametrize(
    ("original", "repeat"), [("0100", "0101"), ("0120", "0121"), ("0420", "0421"), ("0422", "0423"), ("0800", "0801")]
)
def test_repeats(original: str, repeat: str) -> None:
    assert repeat_mti(original) == repeat
    assert repeat_mti(repeat) == repeat
    assert canonical_mti(repeat) == canonical_mti(original) == original
    assert is_repeat(repeat) and not is_repeat(original)


@pytest.mark.parametrize(
    ("mti", "offset"),
    [("", 0), ("010", 0), ("01000", 0), ("01a0", 0), ("٠١٠٠", 0), ("3100", 0), ("0000", 1), ("0190", 2), ("0109", 3)],
)
def test_unknown_indicators_are_refused_at_the_digit(mti: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_mti(mti)
    assert (caught.value.path, caught.value.offset) == ("MTI", offset)


def test_answers_are_not_answered() -> None:
    with pytest.raises(DecodeError, match="answer"):
        response_mti("0110")


def test_in_words() -> None:
    assert parse_mti("0422") == Mti("0", "4", "2", "2")
    assert str(parse_mti("0422")) == "0422"
    assert describe_mti("0100") == "authorization request, acquirer (1987)"
    assert describe_mti("1432") == "reversal or chargeback advice response, issuer (1993)"


COUNTERPARTS = {
    "0100": ("1100", "2100"),
    "0201": ("1201", "2201"),
    "0302": ("1304", "2304"),
    "0422": ("1422", "2422"),
    "0432": ("1432", "2432"),
    "0520": ("1520", "2520"),
    "0600": ("1604", "2604"),
    "0620": ("1624", "2624"),
    "0640": ("1644", "2644"),
    "0810": ("1814", "2814"),
    "0801": ("1805", "2805"),
}


@pytest.mark.parametrize("mti", sorted(COUNTERPARTS))
def test_each_indicator_has_one_counterpart_a_version(mti: str) -> None:
    later = dict(zip(("1993", "2003"), COUNTERPARTS[mti], strict=True))
    for version, counterpart in later.items():
        assert in_version(mti, version) == counterpart
        assert in_version(counterpart, "1987") == mti
        assert in_version(counterpart, version) == counterpart
        assert in_version(later["1993"], version) == counterpart
