"""What has a controller done, and how long did it take?

Counted and rendered by the library of Prometheus. What is counted elsewhere is rendered with it. This file serves
nothing.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from lbipam.controllers.ports import Conflict, ConflictCause, Sample, SampleType, Write, WriteResult
from lbipam.kube.kinds import Kind


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

    content_type = CONTENT_TYPE_LATEST

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
