"""Deadlines of requests: for headers, bodies, answers that nobody reads, idle connections, and calls of Redis."""

import asyncio
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.problems import BodyTooSlow, responses
from worker.jobs.clock import Breaker, on_clock
from worker.stores.deadlines import passed

HEADER_SECONDS = 20.0
"""Longest time of a connection without a request whose headers are complete."""
IDLE_SECONDS = 10
"""Time of an idle connection after an answer. Clients give up theirs earlier (httpx after 5 s), since a request that is
sent while the server closes the connection is lost."""
READ_SECONDS = 60.0
"""Longest time in which a client reads nothing of an answer."""
LOOK_SECONDS = 2.0
MAX_HEADER_BYTES = 64 * 1024
"""Longest headers of a request."""
RECEIVED_BYTES = 16 * 1024
"""Bytes that are taken from a connection before others have their turn; in chunks of one byte they take .1 s."""
RECEIVED_BODY_BYTES = 256 * 1024
"""The same within a body of stated length, whose parsing does not depend on what it holds."""
BODY_SECONDS = 30.0
"""Time for a body, whatever its size."""
BODY_BYTES_PER_SECOND = 4096
"""Bytes that give a body one more second each."""


class DeadlineProtocol(H11Protocol):
    """uvicorn's protocol, which also closes connections that send no whole headers or read no answer.

    uvicorn itself only closes connections that are idle after an answer. Its other protocol, httptools, does not bound
    the headers.
    """

    transport: Any
    cycle: Any
    loop: asyncio.AbstractEventLoop

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.max_size = RECEIVED_BYTES
        self._body_left = 0
        self._idle_since = self._read_at = self.loop.time()
        self._unread = 0
        self._last_cycle: Any = None
        self._look()

    def _should_upgrade(self) -> bool:
        return False  # There is no WebSocket; uvicorn would log two warnings for each request that asks for one.

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is before:
            self._body_left -= len(data)
        else:
            headers = dict(self.cycle.scope["headers"])
            stated = 0 if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))
            self._body_left = stated - len(self.cycle.body)
        # What follows the body is taken in small pieces as well.
        self.transport.max_size = max(RECEIVED_BYTES, min(RECEIVED_BODY_BYTES, self._body_left))

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        now = self.loop.time()
        # Most requests begin and end between two looks; each has a cycle of its own.
        if self.cycle is not self._last_cycle or (self.cycle is not None and not self.cycle.response_complete):
            self._last_cycle, self._idle_since = self.cycle, now
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self._unread:
            self._unread, self._read_at = unread, now
        if now - self._read_at >= READ_SECONDS or now - self._idle_since >= HEADER_SECONDS:
            self.transport.abort()
            return
        self.loop.call_later(LOOK_SECONDS, self._look)


class BodyDeadlineMiddleware:
    """Ends a request whose body comes too slowly (408)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = anyio.current_time() + BODY_SECONDS
        whole = False

        async def receive_in_time() -> Message:
            nonlocal deadline, whole
            if whole:  # What follows the body is the end of the connection, which may be hours away.
                return await receive()
            try:
                with anyio.fail_after(max(0.0, deadline - anyio.current_time())):
                    message = await receive()
            except TimeoutError:
                passed("body")
                raise BodyTooSlow(
                    f"The body did not come within {BODY_SECONDS:g} s and a second for every "
                    f"{BODY_BYTES_PER_SECOND} bytes."
                ) from None
            deadline += len(message.get("body", b"")) / BODY_BYTES_PER_SECOND
            whole = not message.get("more_body", False)
            return message

        await self.app(scope, receive_in_time, send)


class RedisClockMiddleware:
    """Bounds the time that a request waits for Redis, all its calls together."""

    def __init__(self, app: ASGIApp, breaker: Breaker) -> None:
        self.app = app
        self.breaker = breaker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with on_clock(self.breaker):
            await self.app(scope, receive, send)


def document(schema: dict[str, Any]) -> None:
    """Adds the refusals of slow bodies and of too many to every operation with a body of an OpenAPI description."""
    answers = {"408": responses("request_timeout")[408], "429": responses("too_many_requests")[429]}
    for path in schema["paths"].values():
        for operation in path.values():
            if "requestBody" in operation:
                for status, answer in answers.items():
                    operation["responses"].setdefault(status, answer)
