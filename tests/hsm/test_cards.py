"""Tokens, surrogates, and the bounded cache."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.vault.cards import Card, CardCache, Numbers, shown_digits
from messages.card import luhn_valid


def card(number: int) -> Card:
    return Card(
        token=f"card_{number}",
        fingerprint=number.to_bytes(16, "big"),
        surrogate=f"990000{number:010d}",
        key_version="pan-1",
        nonce=bytes(12),
        ciphertext=b"",
        bin="42424242",
        last4="4242",
        digits=16,
    )


@given(seed=st.integers(), now=st.integers(0, 2**47))
def test_surrogates_have_our_range_and_a_check_digit(seed: int, now: int) -> None:
    surrogate = Numbers(random.Random(seed).randbytes, lambda: now).surrogate()
    assert len(surrogate) == 16 and surrogate.startswith("990000") and luhn_valid(surrogate)


def test_identifiers_sort_by_time() -> None:
    clock = iter(range(1_700_000_000_000, 1_700_000_001_000))
    numbers = Numbers(now_ms=lambda: next(clock))
    made = [numbers.identifier("tok_") for _ in range(1000)]
    assert made == sorted(made)
    assert all(len(name) == 26 and name[4:].isalnum() for name in made)


@given(st.text("0123456789", min_size=12, max_size=19))
def test_shown_digits_leave_two_unseen(pan: str) -> None:
    leading, last4 = shown_digits(pan)
    assert len(leading) + len(last4) <= len(pan) - 2
    assert pan.startswith(leading) and pan.endswith(last4)


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=80), capacity=st.integers(1, 6))
def test_cache_is_a_bounded_lru(steps: list[tuple[bool, int]], capacity: int) -> None:
    cache, model = CardCache(capacity), dict[int, None]()
    for adds, number in steps:
        if adds:
            cache.add(card(number))
            model.pop(number, None)
            model[number] = None
            while len(model) > capacity:
                del model[next(iter(model))]
        else:
            found = cache.by_token(f"card_{number}")
            assert (found is not None) == (number in model)
            if found is not None:
                del model[number]
                model[number] = None
        assert len(cache) == len(model)
    for number in range(13):
        present = number in model
        assert (cache.by_fingerprint(number.to_bytes(16, "big")) is not None) == present
        assert (cache.by_surrogate(f"990000{number:010d}") is not None) == present


@pytest.mark.parametrize("number", [1, 2])
def test_card_repr_shows_its_token_only(number: int) -> None:
    assert repr(card(number)) == f"Card('card_{number}')"


def test_a_card_that_is_forgotten_does_not_come_back() -> None:
    cache = CardCache(10)
    cache.add(card(1))
    cache.forget("card_1")
    cache.add(card(1))
    assert len(cache) == 0 and cache.by_fingerprint(card(1).fingerprint) is None
    cache.drop("card_1")


def test_a_dropped_card_leaves_its_successor_of_the_same_number() -> None:
    cache = CardCache(10)
    old, new = card(1), msgspec.structs.replace(card(2), fingerprint=card(1).fingerprint)
    for order in ((old, new), (new, old)):
        for item in order:
            cache.add(item)
        cache.drop(old.token)
        assert cache.by_token(new.token) == new
        assert cache.by_fingerprint(new.fingerprint) in (new, None)
        cache.drop(new.token)
        assert len(cache) == 0 and cache.by_fingerprint(new.fingerprint) is None


def test_cards_under_a_data_key_are_dropped_together() -> None:
    cache = CardCache(10)
    for number in range(4):
        cache.add(msgspec.structs.replace(card(number), key_version=f"pan-{number % 2}"))
    cache.drop_version("pan-0")
    assert [cache.by_token(f"card_{number}") is None for number in range(4)] == [True, False, True, False]
