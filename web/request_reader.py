"""Strict framing of HTTP/1.1 requests, sans-I/O: bytes go in, checked pieces of one request after the other come out.

`web.protocol` feeds what the socket gave and hands the pieces to the parser, which so never sees an unbounded header,
an ambiguous length or a second request. Everything that two servers in a row could read differently is refused, because
that is how requests are smuggled: Content-Length beside Transfer-Encoding, bare line feeds, folded headers, blanks
before colons, repeated headers. Upgrades are ignored and trailers dropped. A chunked body is framed anew: the parser's
work depends on the bytes that came, not on the number of chunks.

Source: RFC 9112, sections 2.2, 3, 5, 6, 7 and 11.2; RFC 9110, sections 6.5, 7.8 and 10.1.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from web.config import HttpConfig
from web.refusals import METHODS, Refused

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,40}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*+([\t\x20-\x7e\x80-\xff]*)")
# Absolute-form, as for a proxy: the server that it names counts for as little as Host, nothing here asks for either.
_ABSOLUTE = re.compile(rb"https?://[^/?#@]+", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*+(?:;[\t\x20-\x7e\x80-\xff]*)?")
_ONCE = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"expect", b"authorization", b"content-type", b"idempotency-key"}
)
_DROPPED = frozenset({b"upgrade", b"http2-settings", b"trailer", b"te"})
_METHODS = frozenset(name.encode() for name in METHODS)
_END_OF_HEAD, _LINE_END = b"\r\n\r\n", b"\r\n"
_BLANK_LINES = 2
_MAX_CHUNK_LINE = 256
_LEAST_CHUNK_OVERHEAD = 16_384
# A body may come in this many chunks, and in one more for each 16 bytes.
_FREE_CHUNKS = 1_000
_BYTES_PER_CHUNK = 16
_CHUNKS_PER_PIECE = 256


class Head(NamedTuple):
    """The start of a request: bytes for the parser, with its last blank line; whether a body follows."""

    data: bytes
    has_body: bool


class Body(NamedTuple):
    """A piece of the body, framed for the parser; `size` is its length without framing."""

    data: bytes
    size: int


class End(NamedTuple):
    """The request is complete; `data` is what the parser still needs. Nothing comes before `start_next`."""

    data: bytes


class RequestReader:
    """Reads the requests of one connection.

    Call `receive` with each piece from the socket, then `next_piece` until it returns None. After `End`, call
    `start_next` once the response is complete. After `Refused` the reader is of no more use.

    Args:
        config: the limits.
        max_body_bytes: of a body, chunk framing not counted.
    """

    def __init__(self, config: HttpConfig, max_body_bytes: int) -> None:
        self._config = config
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._blank_lines = 0
        self._left: int | None = None
        self._body_bytes = 0
        self._overhead = self._chunks = self._trailers = 0
        self._step: Callable[[], Head | Body | End | None] = self._read_head

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that belong to no piece yet."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def next_piece(self) -> Head | Body | End | None:
        """Return the next piece, None where more bytes are needed. Raises Refused."""
        return self._step()

    def start_next(self) -> None:
        """Go on with the next request of the connection."""
        self._searched = self._blank_lines = 0
        self._body_bytes = self._overhead = self._chunks = self._trailers = 0
        self._left = None
        self._step = self._read_head

    def _read_head(self) -> Head | None:
        self._skip_blank_lines()
        end = self._buffer.find(_END_OF_HEAD, max(0, self._searched - 3))
        if end < 0:
            self._check_beginning()
            self._searched = len(self._buffer)
            return None
        if end + 4 > self._config.max_head_bytes:
            raise Refused("headers_too_long")
        lines = bytes(self._buffer[:end]).split(_LINE_END)
        del self._buffer[: end + 4]
        version, line = self._request_line(lines[0])
        return self._headers(line, version, lines[1:])

    def _skip_blank_lines(self) -> None:
        while self._buffer.startswith(_LINE_END):
            self._blank_lines += 1
            self._searched = 0
            if self._blank_lines > _BLANK_LINES:
                raise Refused("request_line_malformed")
            del self._buffer[:2]

    def _check_beginning(self) -> None:
        """Refuse what is too long already, before its end has come."""
        config, buffer = self._config, self._buffer
        last = buffer.rfind(_LINE_END)
        if last < 0:
            if len(buffer) > config.max_request_line_bytes:
                raise Refused("request_line_too_long")
        elif len(buffer) - last - 2 > config.max_header_line_bytes:
            raise Refused("header_too_long")
        if len(buffer) > config.max_head_bytes:
            raise Refused("headers_too_long")
        # Lines that end in a bare line feed, as in HTTP/0.9, never make an end that counts: do not wait for it.
        if _BARE_LINE_FEED.search(buffer, self._searched):
            raise Refused("request_line_malformed" if last < 0 else "header_malformed")

    def _request_line(self, line: bytes) -> tuple[bytes, bytes]:
        """Return the version, such as b"1.1", and the line in origin-form."""
        if len(line) > self._config.max_request_line_bytes:
            raise Refused("request_line_too_long")
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Refused("request_line_malformed")
        method, target, version = match[1], match[2], match[3] + b"." + match[4]
        if version not in (b"1.0", b"1.1"):
            raise Refused("version_unknown")
        if method not in _METHODS:
            raise Refused("method_unknown")
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:
            target = target[absolute.end() :]
            if not target.startswith(b"/"):
                target = b"/" + target
        if target == b"*" and method == b"OPTIONS":
            target = b"/"
        if not target.startswith(b"/") or b"#" in target:
            raise Refused("request_line_malformed")
        return version, b"%s %s HTTP/%s" % (method, target, version)

    def _headers(self, line: bytes, version: bytes, lines: list[bytes]) -> Head:
        if len(lines) > self._config.max_headers:
            raise Refused("headers_too_many")
        kept, once = [line], {}
        for text in lines:
            if len(text) > self._config.max_header_line_bytes:
                raise Refused("header_too_long")
            match = _HEADER.fullmatch(text)
            if match is None:
                raise Refused("header_malformed")
            name = match[1].lower()
            if name in _ONCE:
                if name in once:
                    raise Refused("length_ambiguous" if name == b"content-length" else "header_repeated")
                once[name] = match[2].strip(b" \t")
            if name not in _DROPPED:
                kept.append(text)
        host = once.get(b"host", b"" if version == b"1.0" else None)
        if host is None or not _HOST.fullmatch(host):
            raise Refused("host_missing")
        if once.get(b"expect", b"100-continue").lower() != b"100-continue":
            raise Refused("expectation_unknown")
        has_body = self._body_framing(once.get(b"content-length"), once.get(b"transfer-encoding"), version)
        return Head(_LINE_END.join(kept) + _END_OF_HEAD, has_body)

    def _body_framing(self, length: bytes | None, coding: bytes | None, version: bytes) -> bool:
        """Decide how the body ends; return whether there is one."""
        if coding is not None:
            if length is not None:
                raise Refused("length_ambiguous")
            if coding.lower() != b"chunked" or version == b"1.0":
                raise Refused("coding_unknown")
            self._left, self._step = 0, self._read_chunks
            return True
        if length is not None and not _LENGTH.fullmatch(length):
            raise Refused("length_ambiguous")
        self._left = int(length or b"0")
        if self._left > self._max_body_bytes:
            raise Refused("body_too_long")
        self._step = self._read_counted
        return self._left > 0

    def _read_counted(self) -> Body | End | None:
        assert self._left is not None
        if self._left == 0:
            return self._end(b"")
        data = self._take(self._left)
        return Body(data, len(data)) if data else None

    def _read_chunks(self) -> Body | End | None:
        """Return the data of the chunks that have come as one chunk; `_left` counts the line end of the present one."""
        assert self._left is not None
        buffer, at, data = self._buffer, 0, bytearray()
        for _ in range(_CHUNKS_PER_PIECE):
            if self._left == 0:
                end = buffer.find(_LINE_END, at, at + _MAX_CHUNK_LINE + 2)
                if end < 0:
                    self._check_chunk_line(at)
                    break
                size = self._chunk_size(buffer[at:end])
                at = end + 2
                if size == 0:
                    self._step = self._read_trailers
                    break
                self._left = size + 2
            if self._left > 2:
                part = buffer[at : at + self._left - 2]
                data += part
                at += len(part)
                self._left -= len(part)
            if self._left > 2 or len(buffer) - at < 2:
                break
            if buffer[at : at + 2] != _LINE_END:
                raise Refused("chunk_malformed")
            at += 2
            self._left = 0
        del buffer[:at]
        if data:
            return Body(b"%x\r\n%b\r\n" % (len(data), bytes(data)), len(data))
        return self._step() if self._step == self._read_trailers else None

    def _chunk_size(self, line: bytearray) -> int:
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise Refused("chunk_malformed")
        size = int(match[1], 16)
        self._body_bytes += size
        if self._body_bytes > self._max_body_bytes:
            raise Refused("body_too_long")
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + self._body_bytes // _BYTES_PER_CHUNK:
            raise Refused("chunks_too_many")
        self._count_overhead(len(line) + 2)
        return size

    def _read_trailers(self) -> End | None:
        while (line := self._line()) is not None:
            if not line:
                return self._end(b"0\r\n\r\n")
            self._trailers += 1
            if self._trailers > self._config.max_headers:
                raise Refused("chunk_malformed")
            if not _HEADER.fullmatch(line):
                raise Refused("header_malformed")
        return None

    def _end(self, data: bytes) -> End:
        self._step = _nothing
        return End(data)

    def _take(self, most: int) -> bytes:
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        assert self._left is not None
        self._left -= len(data)
        return data

    def _line(self) -> bytes | None:
        """Return a line of the trailers without its end."""
        end = self._buffer.find(_LINE_END, 0, _MAX_CHUNK_LINE + 2)
        if end < 0:
            self._check_chunk_line(0)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._count_overhead(end + 2)
        return line

    def _check_chunk_line(self, at: int) -> None:
        """Refuse a line of chunk framing that is too long or ends in a bare line feed."""
        if len(self._buffer) - at > _MAX_CHUNK_LINE or self._buffer.find(b"\n", at) >= 0:
            raise Refused("chunk_malformed")

    def _count_overhead(self, size: int) -> None:
        """Bound all lines of a body's chunk framing together."""
        self._overhead += size
        if self._overhead > max(_LEAST_CHUNK_OVERHEAD, self._max_body_bytes):
            raise Refused("chunk_malformed")


def _nothing() -> None:
    return None
