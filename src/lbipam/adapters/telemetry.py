"""Logs, metrics, health, and the wall clock.

Logs go to standard error, as lines for people where that is a terminal and as JSON where it is not. Metrics,
health and readiness are served over HTTP. This file does not decide what is healthy: it asks.
"""

import contextlib
import io
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Self, TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from lbipam.adapters.http_server import NOT_FOUND, HttpServer, Reply
from lbipam.controllers.ports import Conflict, ConflictCause, Sample, SampleType, Write, WriteResult
from lbipam.kube.kinds import Kind


def wall_clock() -> float:
    """Seconds since 1970."""
    return time.time()


class _StandardError(io.TextIOBase):
    """What cannot be written there is let go: a full disk, or a reader that has ended, must not end us, too."""

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logging(level: str) -> None:
    """Send logs of a level (`debug`, `info`, `warning` or `error`) and above to standard error."""
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
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )


class _Samples(Collector):
    """Asks for the samples at each scrape, so that there is no second copy to go stale."""

    def __init__(self, collect: Callable[[], Iterable[Sample]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for sample in self._collect():
            family = families.get(sample.name)
            if family is None:
                form = GaugeMetricFamily if sample.type is SampleType.GAUGE else CounterMetricFamily
                family = families[sample.name] = form(sample.name, sample.help, labels=list(sample.labels))
            family.add_metric(list(sample.labels.values()), sample.value)
        yield from families.values()


class Metrics:
    """Counts what the loop does, and renders it together with what the reconcilers count."""

    def __init__(self, collect: Callable[[], Iterable[Sample]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Samples(collect))
        self._seconds = Histogram(
            "lbipam_reconcile_seconds",
            "How long one look at one object takes, by kind.",
            ["kind"],
            registry=self._registry,
            buckets=(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 1),
        )
        self._processing = Histogram(
            "cilium_operator_lbipam_event_processing_time_seconds",
            "How long one look at one pool or Service takes.",
            ["action", "resource"],
            registry=self._registry,
            buckets=(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 1),
        )
        self._looks: dict[Kind, tuple[Histogram, ...]] = {}
        """The histograms that a look counts into: finding them takes longer than counting."""
        self._writes = Counter(
            "lbipam_writes",
            "Writes to the API server, by kind and result.",
            ["kind", "result"],
            registry=self._registry,
        )
        self._foreign = Counter(
            "lbipam_foreign_owners",
            "Writes refused because another field manager owns what they are about, by kind and manager.",
            ["kind", "manager"],
            registry=self._registry,
        )
        self._failures = Counter(
            "lbipam_reconcile_failures",
            "Looks that ended in a bug, by kind.",
            ["kind"],
            registry=self._registry,
        )

    def reconciled(self, kind: Kind, seconds: float) -> None:
        looks = self._looks.get(kind)
        if looks is None:
            looks = self._looks[kind] = self._histograms_of(kind)
        for histogram in looks:
            histogram.observe(seconds)

    def _histograms_of(self, kind: Kind) -> tuple[Histogram, ...]:
        resource = {"Service": "service", "CiliumLoadBalancerIPPool": "pool"}.get(kind.kind)
        ours = self._seconds.labels(kind.kind)
        return (ours,) if resource is None else (ours, self._processing.labels("upsert", resource))

    def written(self, write: Write, result: WriteResult) -> None:
        self._writes.labels(write.kind.kind, type(result).__name__.lower()).inc()
        if isinstance(result, Conflict) and result.cause is ConflictCause.OWNED:
            for manager in result.managers or ("unknown",):
                self._foreign.labels(write.kind.kind, manager).inc()

    def failed(self, kind: Kind) -> None:
        self._failures.labels(kind.kind).inc()

    def render(self) -> bytes:
        """The text of `/metrics`."""
        return generate_latest(self._registry)


class HealthServer:
    """Serves `/metrics`, `/healthz` and `/readyz`.

    `why_not_healthy` and `why_not_ready` answer with a reason, or None if all is well.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        metrics: Metrics,
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
            return Reply(body=self._metrics.render(), content_type=CONTENT_TYPE_LATEST)
        why_not = self._questions.get(path)
        if why_not is None:
            return NOT_FOUND
        reason = why_not()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
        return Reply(status=status, body=f"{reason or 'ok'}\n".encode())
