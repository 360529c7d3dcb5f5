"""Logs, health, and the wall clock.

Logs go to standard error, as lines for people where that is a terminal and as JSON where it is not. Metrics,
health and readiness are served over HTTP. This file does not decide what is healthy: it asks; nor does it count.
"""

import logging
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, Self

import structlog

from lbipam.adapters.http_server import NOT_FOUND, HttpServer, Reply


def wall_clock() -> float:
    """Seconds since 1970."""
    return time.time()


def configure_logging(level: str, *, as_json: bool | None = None) -> None:
    """Send logs to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        as_json: Lines of JSON; by default where standard error is no terminal.
    """
    if as_json is None:
        as_json = not sys.stderr.isatty()
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    exceptions = [structlog.processors.format_exc_info] if as_json else []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class Rendered(Protocol):
    """What is counted."""

    content_type: str

    def render(self) -> bytes:
        """The text of `/metrics`."""


class HealthServer:
    """Serves `/metrics`, `/healthz` and `/readyz`.

    `why_not_healthy` and `why_not_ready` answer with a reason, or None if all is well.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        metrics: Rendered,
        why_not_healthy: Callable[[], str | None],
        why_not_ready: Callable[[], str | None],
    ) -> None:
        self._host, self._wanted_port = host, port
        self._metrics = metrics
        self._questions = {"/healthz": why_not_healthy, "/readyz": why_not_ready}
        self._server = HttpServer(self._answer)
        self._port = 0

    async def __aenter__(self) -> Self:
        self._port = await self._server.listen(self._host or None, self._wanted_port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def _answer(self, path: str, _: int) -> Reply:
        if path == "/metrics":
            return Reply(body=self._metrics.render(), content_type=self._metrics.content_type)
        why_not = self._questions.get(path)
        if why_not is None:
            return NOT_FOUND
        reason = why_not()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
        return Reply(status=status, body=f"{reason or 'ok'}\n".encode())
