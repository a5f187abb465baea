"""A bounded dictionary; the codec keeps compiled functions in it, because peers choose the keys."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(dict[K, V]):
    """Remembers the keys that were used lately, in two generations.

    Entries in use live in the dictionary itself; when that is half the size, it becomes the old generation and the
    former one is forgotten. That is nearly least-recently-used, and a hit costs one look-up in C. Only `[key]`, `put`,
    `discard` and `entries` know both generations.

    Args:
        size: entries at most, 2 or more.
    """

    __slots__ = ("_half", "_old")

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 2:
            raise ValueError("a bounded cache needs room for 2 entries")
        self._half = size // 2
        self._old: dict[K, V] = {}

    def __missing__(self, key: K) -> V:
        value = self._old[key]
        self.put(key, value)
        return value

    @property
    def entries(self) -> int:
        """Number of remembered entries, in both generations."""
        return len(self) + len(self._old)

    def put(self, key: K, value: V) -> None:
        """Remembers; may forget the older half."""
        self._old.pop(key, None)
        if key not in self and len(self) >= self._half:
            self._old = dict(self)
            self.clear()
        self[key] = value

    def discard(self, key: K) -> None:
        """Forgets one key, known or not."""
        self.pop(key, None)
        self._old.pop(key, None)
