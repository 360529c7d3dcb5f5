import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.adapters.kube_http import AnswerReader, BrokenAnswerError, request_bytes


def read(raw: bytes, cuts: list[int] | None = None, *, ended: bool = False) -> tuple[AnswerReader, bytes]:
    """What is read of these bytes, cut at these places."""
    reader = AnswerReader()
    body = b""
    places = sorted(min(cut, len(raw)) for cut in cuts or ())
    for begins, ends in zip([0, *places], [*places, len(raw)], strict=True):
        reader.feed(raw[begins:ends])
        body += reader.take()
    if ended:
        reader.end()
    return reader, body


# --- requests ---------------------------------------------------------------------------------------------


def test_a_request_names_its_target_its_fields_and_its_body() -> None:
    assert request_bytes("GET", "/api/v1/nodes", None, "Host: a\r\n") == (
        b"GET /api/v1/nodes HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert request_bytes("PATCH", "/x", {"force": "true"}, "Host: a\r\n", b"{}", "text/plain") == (
        b"PATCH /x?force=true HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_a_request_without_a_body_is_not_one_with_an_empty_body() -> None:
    assert b"Content-Length" not in request_bytes("GET", "/", None, "")
    assert b"Content-Length: 0\r\n" in request_bytes("POST", "/", None, "", b"")


@given(st.text(), st.text(), st.text())
def test_nothing_in_a_name_or_a_query_can_end_the_line(name: str, key: str, value: str) -> None:
    raw = request_bytes("GET", f"/{name}", {key: value}, "Host: a\r\n")
    line, _, rest = raw.partition(b"\r\n")
    assert rest == b"Host: a\r\n\r\n"
    assert len(line.split()) == 3


# --- answers ----------------------------------------------------------------------------------------------

COUNTED = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n1;name=value\r\nl\r\n00A\r\no, you all\r\n0\r\nTrailer: yes\r\n\r\n"
)
UNTIL_THE_END = b"HTTP/1.0 200 OK\r\n\r\nhello"
AFTER_INTERIM = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + COUNTED


@pytest.mark.parametrize(
    ("raw", "body"),
    [(COUNTED, b"hello"), (CHUNKED, b"hello, you all"), (AFTER_INTERIM, b"hello"), (UNTIL_THE_END, b"hello")],
)
@given(cuts=st.lists(st.integers(min_value=0, max_value=150), max_size=20))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(raw: bytes, body: bytes, cuts: list[int]) -> None:
    reader, read_body = read(raw, cuts, ended=raw is UNTIL_THE_END)
    assert reader.done
    assert read_body == body
    assert reader.head is not None
    assert reader.head.status == 200


def test_an_answer_comes_piece_by_piece() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    assert reader.take() == b"ab"
    assert reader.take() == b""
    reader.feed(b"cde\r\n2\r\nfg\r\n")
    assert reader.take() == b"cdefg"
    assert not reader.done


@pytest.mark.parametrize(
    ("fields", "stays_open"),
    [
        (b"", True),
        (b"Connection: keep-alive\r\n", True),
        (b"connection: Close\r\n", False),
        (b"CONNECTION:close  \r\n", False),
    ],
)
def test_an_answer_tells_whether_the_connection_stays_open(fields: bytes, stays_open: bool) -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n")
    assert reader.done
    assert reader.head is not None
    assert reader.head.stays_open is stays_open


def test_a_connection_that_ends_the_answer_does_not_stay_open() -> None:
    reader, _ = read(b"HTTP/1.1 200 OK\r\n\r\n")
    assert reader.head is not None
    assert not reader.head.stays_open
    assert not reader.done


def test_an_answer_tells_when_to_come_again() -> None:
    reader, _ = read(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    assert reader.head is not None
    assert (reader.head.status, reader.head.retry_after) == (429, "7")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_answers_have_no_body(status: bytes) -> None:
    reader, body = read(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")
    assert (reader.done, body) == (True, b"")


def test_the_answer_of_a_proxy_that_opens_a_tunnel_has_no_body() -> None:
    reader = AnswerReader(bodiless=True)
    reader.feed(b"HTTP/1.1 200 Connection established\r\n\r\n")
    assert reader.done


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        COUNTED + b"!",
        COUNTED + COUNTED,
    ],
)
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        read(raw)


@pytest.mark.parametrize("raw", [COUNTED, CHUNKED, AFTER_INTERIM])
def test_half_an_answer_is_none(raw: bytes) -> None:
    for length in range(len(raw)):
        reader, _ = read(raw[:length])
        assert not reader.done
        with pytest.raises(BrokenAnswerError, match="before its answer was complete"):
            reader.end()


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(raw: bytes) -> None:
    for begin in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(BrokenAnswerError):
            read(begin + raw)
