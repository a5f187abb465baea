"""The address where a peer listens: the text of a configuration in, host and port out, or the path of a unix socket;
pure.

Called by everything that listens or dials.
"""

from __future__ import annotations

UNIX = "unix:"
LONGEST_PATH = 107  # bytes of the path of a unix socket. Source: unix(7), sun_path


def address_of(text: str) -> tuple[str, int]:
    """ "127.0.0.1:5010" → ("127.0.0.1", 5010); "[::1]:5010" → ("::1", 5010); "unix:/a.sock" → ("unix:/a.sock", 0).

    Raises:
        ValueError: no host, or no port of 0–65535; a path that a unix socket cannot have.
    """
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not path or "\0" in path or "\n" in path or len(path.encode()) > LONGEST_PATH:
            raise ValueError(f"expected unix: and a path of 1 to {LONGEST_PATH} bytes, got {text!r}")
        return text, 0
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"expected host:port, got {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def unix_path(host: str) -> str:
    """The path in the host of `address_of`, or in an address, of a unix socket; "" for everything else."""
    return host.removeprefix(UNIX) if host.startswith(UNIX) else ""


def shown_address(address: tuple[str, int]) -> str:
    """An address for people: host:port, or unix: and the path."""
    host, port = address
    return host if unix_path(host) else f"{host}:{port}"
