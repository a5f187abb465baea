"""The bounded cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages.cache import BoundedCache


@given(size=st.integers(2, 9), keys=st.lists(st.integers(0, 30), max_size=200))
def test_it_never_grows_beyond_its_size_and_never_lies(size: int, keys: list[int]) -> None:
    cache: BoundedCache[int, str] = BoundedCache(size)
    for key in keys:
        try:
            assert cache[key] == str(key)
        except KeyError:
            cache.put(key, str(key))
        assert cache.entries <= size
        assert cache[key] == str(key)


def test_what_is_used_stays_while_others_come_and_go() -> None:
    cache: BoundedCache[int, str] = BoundedCache(8)
    cache.put(0, "used")
    for key in range(1, 100):
        cache.put(key, "once")
        assert cache[0] == "used"
    assert cache.entries <= 8


def test_discard_forgets_in_both_generations() -> None:
    cache: BoundedCache[int, str] = BoundedCache(4)
    for key in range(4):
        cache.put(key, "x")
    for key in range(5):
        cache.discard(key)
    assert cache.entries == 0
    with pytest.raises(KeyError):
        cache[0]


def test_a_cache_needs_room() -> None:
    with pytest.raises(ValueError, match="2"):
        BoundedCache(1)
