"""Prometheus metrics of the HTTP process."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.jobs.counters import FENCE_REFUSALS, LEASE_EXPIRIES, PACKING_DEADLINES, RENDER_SECONDS, RENDERS
from worker.stores.deadlines import num_passed

LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Monitoring:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "betavae_http_requests",
            "Answers by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "betavae_http_request_seconds",
            "Seconds until the answer began, by route.",
            ("method", "route"),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.workers = Gauge("betavae_workers", "Workers that consume, by queue.", ("queue",), registry=self.registry)
        self.jobs = Gauge("betavae_jobs", "Jobs by status.", ("status",), registry=self.registry)
        self.redis_up = Gauge("betavae_redis_up", "Whether Redis answers.", registry=self.registry)
        self.queue_age = Gauge(
            "betavae_queue_age_seconds",
            "Seconds since the oldest queued job was queued, by queue; 0 for an empty queue.",
            ("queue",),
            registry=self.registry,
        )
        self.images_per_second = Gauge(
            "betavae_images_per_second",
            "Images per second of all running trainings together.",
            ("queue",),
            registry=self.registry,
        )
        self.disk_free = Gauge(
            "betavae_disk_free_bytes", "Free space of the disk that new files fill first.", registry=self.registry
        )
        self.counters = Counters()
        self.registry.register(self.counters)


class Counters(Collector):
    """The counters of all processes (worker.jobs.counters), and the deadlines that passed in this one."""

    def __init__(self) -> None:
        self.amounts: dict[str, float] = {}

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics."""
        deadlines = CounterMetricFamily(
            "betavae_deadlines_passed", "Work that was ended because it took too long, by kind.", labels=["what"]
        )
        for what, num in num_passed().items():
            deadlines.add_metric([what], num)
        if self.amounts.get(PACKING_DEADLINES) is not None:
            deadlines.add_metric(["packing"], self.amounts[PACKING_DEADLINES])
        yield deadlines
        for name, text in _PLAIN.items():
            yield CounterMetricFamily(f"betavae_{name}", text, self.amounts.get(name, 0.0))
        renders = SummaryMetricFamily(
            "betavae_render_seconds", "Seconds that a render worker spent on a traversal, by stage.", labels=["stage"]
        )
        for name, amount in self.amounts.items():
            if name.startswith(RENDERS):
                stage = name.removeprefix(RENDERS)
                renders.add_metric([stage], int(amount), self.amounts.get(f"{RENDER_SECONDS}{stage}", 0.0))
        yield renders


_PLAIN = {
    LEASE_EXPIRIES: "Jobs that were taken from a worker whose lease ran out.",
    FENCE_REFUSALS: "Commits that were refused because another worker may hold the job.",
}


class MonitoringMiddleware:
    """Counts answers and times them up to their first byte, since an event stream may stay open for hours."""

    def __init__(self, app: ASGIApp, monitoring: Monitoring) -> None:
        self.app = app
        self.monitoring = monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The label is the route's template, because each path with an id would make its own series.
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self.monitoring.requests.labels(method, route, message["status"]).inc()
                self.monitoring.seconds.labels(method, route).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, send_counted)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
