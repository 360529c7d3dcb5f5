"""HTTP/1.1 requests to bytes, and their answers from bytes.

    head ──▶ counted body ───────────────────────────▶ done
      ├────▶ chunk size ──▶ chunk ──▶ … ──▶ trailers ──▶ done
      └────▶ a body that ends with the connection

What RFC 9112 asks of a client that sends one request at a time, wants nothing compressed and follows no
redirects. This file opens no connection.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

_LONGEST_HEAD = 64 * 1024
_LONGEST_LINE = 4096

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?(?=\r\n|$)")
_FIELDS = re.compile(rb"\r\n(connection|content-length|retry-after|transfer-encoding):[ \t]*([^\r\n]*)")
"""The only fields of an answer that anybody here reads."""
_LENGTH = re.compile(rb"\d{1,15}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?")


class BrokenAnswerError(Exception):
    """What came is no answer, or not all of one."""


def request_bytes(
    method: str,
    path: str,
    params: Mapping[str, str] | None,
    fields: str,
    body: bytes | None = None,
    content_type: str = "",
) -> bytes:
    """A request as it is sent.

    Args:
        method: Such as `GET`.
        path: With a leading slash, not yet escaped.
        params: The query.
        fields: Lines of fields that every request has, each with its end.
        body: None for a request without one.
        content_type: What the body is.
    """
    target = quote(path)
    if params:
        target += "?" + urlencode(params, quote_via=quote)
    if body is None:
        return f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")
    length = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {target} HTTP/1.1\r\n{fields}{length}\r\n".encode("latin-1") + body


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer says of itself before its body."""

    status: int
    stays_open: bool
    """Whether the connection can carry another request after it."""
    retry_after: str | None


class AnswerReader:
    """Reads one answer, in whatever pieces it comes."""

    def __init__(self, *, bodiless: bool = False) -> None:
        """Begin with nothing read.

        Args:
            bodiless: The answer has no body whatever it says, as one to CONNECT.
        """
        self.head: Head | None = None
        """None until it is known."""
        self.done = False
        """Whether the answer is complete."""
        self._bodiless = bodiless
        self._unread = bytearray()
        self._parts: list[bytes] = []
        self._left = 0
        self._step = self._read_head
        self._ends_with_connection = False

    def feed(self, data: bytes) -> None:
        """Take bytes in.

        Raises:
            BrokenAnswerError: they are no answer.
        """
        self._unread += data
        while not self.done and self._step():
            pass
        if self.done and self._unread:
            raise BrokenAnswerError("the server sends more than was asked for")

    def end(self) -> None:
        """Take note that the connection has ended.

        Raises:
            BrokenAnswerError: the answer is not complete.
        """
        if not self._ends_with_connection:
            raise BrokenAnswerError("the server closed the connection before its answer was complete")
        self.done = True

    def take(self) -> bytes:
        """The body as far as it has come and was not taken before."""
        taken = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return taken

    # --- steps: each reads one thing if it is all there, and tells whether to go on ---------------------------

    def _read_head(self) -> bool:
        ends = self._unread.find(b"\r\n\r\n")
        if ends < 0:
            if len(self._unread) > _LONGEST_HEAD:
                raise BrokenAnswerError("the answer has no end of its head")
            return False
        raw = bytes(self._unread[:ends])
        del self._unread[: ends + 4]
        line = _STATUS.match(raw)
        if line is None:
            raise BrokenAnswerError(f"the answer is not HTTP/1.1: {raw[:60]!r}")
        status = int(line[2])
        if status < 200:
            # An interim answer: the real one follows.
            return True
        fields = {name: value.strip() for name, value in _FIELDS.findall(raw.lower())}
        self._frame(status, fields)
        retry_after = fields.get(b"retry-after")
        self.head = Head(
            status,
            line[1] == b"1"
            and b"close" not in fields.get(b"connection", b"")
            and not self._ends_with_connection,
            retry_after.decode("latin-1") if retry_after is not None else None,
        )
        return True

    def _frame(self, status: int, fields: Mapping[bytes, bytes]) -> None:
        """How the body ends (RFC 9112 §6.3)."""
        length = fields.get(b"content-length")
        if self._bodiless or status in (204, 304):
            self.done = True
        elif fields.get(b"transfer-encoding") == b"chunked":
            self._step = self._read_chunk_size
        elif b"transfer-encoding" in fields or length is None:
            self._ends_with_connection = True
            self._step = self._read_all
        elif not _LENGTH.fullmatch(length):
            raise BrokenAnswerError(f"the answer has no length that can be read: {length!r}")
        else:
            self._left = int(length)
            self.done = not self._left
            self._step = self._read_counted

    def _read_all(self) -> bool:
        if self._unread:
            self._parts.append(bytes(self._unread))
            self._unread.clear()
        return False

    def _read_counted(self) -> bool:
        self.done = self._read_left()
        return False

    def _read_left(self) -> bool:
        """Read of what is left to read as much as is there; whether nothing is left."""
        part = bytes(self._unread[: self._left])
        if part:
            self._parts.append(part)
            self._left -= len(part)
            del self._unread[: len(part)]
        return not self._left

    def _read_chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise BrokenAnswerError(f"a chunk has no size that can be read: {line[:60]!r}")
        self._left = int(size[1], 16)
        self._step = self._read_chunk if self._left else self._read_trailers
        return True

    def _read_chunk(self) -> bool:
        if not self._read_left():
            return False
        self._step = self._read_chunk_end
        return True

    def _read_chunk_end(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            raise BrokenAnswerError("a chunk is longer than it says")
        self._step = self._read_chunk_size
        return True

    def _read_trailers(self) -> bool:
        line = self._line()
        self.done = line == b""
        return bool(line)

    def _line(self) -> bytes | None:
        """The next line; None if it is not all there."""
        ends = self._unread.find(b"\r\n", 0, _LONGEST_LINE)
        if ends < 0:
            if len(self._unread) > _LONGEST_LINE:
                raise BrokenAnswerError("the answer has a line without an end")
            return None
        line = bytes(self._unread[:ends])
        del self._unread[: ends + 2]
        return line
