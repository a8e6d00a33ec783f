"""Prometheus metrics of the HTTP process."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
