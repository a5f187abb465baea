"""Where a peer listens, as configurations write it: text in, host and port out; pure.

Called by everything that listens or dials.
"""

from __future__ import annotations


def address_of(text: str) -> tuple[str, int]:
    """ "127.0.0.1:5010" → ("127.0.0.1", 5010); "[::1]:5010" → ("::1", 5010).

    Raises:
        ValueError: no host, or no port of 0–65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"expected host:port, got {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
