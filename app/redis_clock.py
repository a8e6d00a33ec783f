"""One clock for all Redis calls of a request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from worker.jobs.clock import Breaker, on_clock


class RedisClockMiddleware:
    """Bounds the time that a request waits for Redis."""

    def __init__(self, app: ASGIApp, breaker: Breaker) -> None:
        self.app = app
        self.breaker = breaker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with on_clock(self.breaker):
            await self.app(scope, receive, send)
