"""Message types looked at before: each of these is asked several times a message, for a handful of types.

The functions of `messages.mti` behind bounded caches (a peer chooses the type); errors are not kept.
"""

from __future__ import annotations

from functools import lru_cache

from messages import mti

MAX_TYPES = 256

is_response = lru_cache(maxsize=MAX_TYPES)(mti.is_response)
is_repeat = lru_cache(maxsize=MAX_TYPES)(mti.is_repeat)
response_mti = lru_cache(maxsize=MAX_TYPES)(mti.response_mti)
