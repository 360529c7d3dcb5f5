"""HTTP/1.1 requests to bytes, and their answers from bytes.

What RFC 9112 asks of a client that sends one request at a time, wants nothing compressed and follows no
redirects; the parser is Node's, by way of httptools. This file opens no connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import httptools

_LONGEST_HEAD = 64 * 1024


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
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._before_head = 0
        self._retry_after: str | None = None
        self._says_where_it_ends = False

    def feed(self, data: bytes) -> None:
        """Take bytes in.

        Raises:
            BrokenAnswerError: they are no answer.
        """
        if self.head is None:
            self._before_head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            # What a callback raises comes wrapped.
            told = problem.__context__ if isinstance(problem.__context__, BrokenAnswerError) else problem
            raise BrokenAnswerError(f"the answer is not HTTP/1.1: {told}") from None
        if self.head is None and self._before_head > _LONGEST_HEAD:
            raise BrokenAnswerError("the answer has no end of its head")

    def end(self) -> None:
        """Take note that the connection has ended.

        Raises:
            BrokenAnswerError: the answer is not complete.
        """
        if self.head is None or self._says_where_it_ends:
            raise BrokenAnswerError("the server closed the connection before its answer was complete")
        self.done = True

    def take(self) -> bytes:
        """The body as far as it has come and was not taken before."""
        taken = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return taken

    # --- called by the parser -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """One answer is all that was asked for; an interim one (1xx) comes before it."""
        if self.done:
            raise BrokenAnswerError("the server sends more than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailers."""
        match name.lower():
            case b"retry-after":
                self._retry_after = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self._says_where_it_ends = True
            case _:
                pass

    def on_headers_complete(self) -> None:
        """The head is there."""
        status = self._parser.get_status_code()
        if status < 200:
            self._says_where_it_ends = False
            return
        # A tunnel has no end of its own.
        stays_open = self._bodiless or self._parser.should_keep_alive()
        self.head = Head(status, stays_open, self._retry_after)
        self.done = self._bodiless

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._parts.append(data)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self.done = self.head is not None
