"""How requests reach the service: a blocking and an asynchronous transport with the same coroutines.

The calls are written once, as coroutines over a `Transport`. The coroutines of the blocking transport never suspend, so
that `run_blocking` runs a call to its end without an event loop.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import anyio
import httpx

from app.remote.errors import check, translated

T = TypeVar("T")

STREAM_SECONDS = 60.0
"""Longest silence of an event stream, in which the service sends a comment every 15 s."""


@dataclass(frozen=True)
class Request:
    """A request to the service.

    Attributes:
        method: The HTTP method.
        path: The path below the address of the service, quoted.
        options: Arguments of httpx for the query and the body: params, json, data, files.
        headers: The headers.
        is_slow: True for an upload, whose answer may take longer than the timeout.
    """

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    is_slow: bool = False

    def arguments(self, timeout: float) -> dict[str, Any]:
        """Returns the arguments for httpx.

        Args:
            timeout: Longest silence of the service in an ordinary request, in seconds.
        """
        own = httpx.Timeout(timeout, read=None if self.is_slow else timeout)
        return {
            "method": self.method, "url": self.path, "headers": dict(self.headers), "timeout": own, **self.options
        }  # fmt: skip


class Transport(Protocol):
    """What a call needs from the outside."""

    async def send(self, request: Request) -> httpx.Response:
        """Returns the answer to a request, whose body was read.

        Raises:
            ServiceError: The request failed.
        """

    def lines(self, request: Request) -> AsyncGenerator[str]:
        """Yields the lines of an answer as they come.

        Raises:
            ServiceError: The request failed, or the connection broke.
        """

    async def sleep(self, seconds: float) -> None:
        """Waits."""

    async def work(self, function: Callable[[], T]) -> T:
        """Returns the result of a function that reads files."""

    async def close(self) -> None:
        """Closes the connections."""


class BlockingTransport:
    """A transport that blocks the calling thread; its coroutines never suspend."""

    def __init__(self, url: str, timeout: float, headers: Mapping[str, str]) -> None:
        self._url = url
        self._timeout = timeout
        with translated(url):
            self._http = httpx.Client(base_url=url, headers=headers)

    async def send(self, request: Request) -> httpx.Response:
        with translated(self._url):
            return check(self._http.request(**request.arguments(self._timeout)))

    async def lines(self, request: Request) -> AsyncGenerator[str]:
        arguments = request.arguments(self._timeout) | {"timeout": httpx.Timeout(STREAM_SECONDS)}
        with translated(self._url), self._http.stream(**arguments) as response:
            if not response.is_success:
                response.read()
            for line in check(response).iter_lines():
                yield line

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def work(self, function: Callable[[], T]) -> T:
        return function()

    async def close(self) -> None:
        self._http.close()


class AsyncTransport:
    """A transport for an event loop."""

    def __init__(self, url: str, timeout: float, headers: Mapping[str, str]) -> None:
        self._url = url
        self._timeout = timeout
        with translated(url):
            self._http = httpx.AsyncClient(base_url=url, headers=headers)

    async def send(self, request: Request) -> httpx.Response:
        with translated(self._url):
            return check(await self._http.request(**request.arguments(self._timeout)))

    async def lines(self, request: Request) -> AsyncGenerator[str]:
        arguments = request.arguments(self._timeout) | {"timeout": httpx.Timeout(STREAM_SECONDS)}
        with translated(self._url):
            async with self._http.stream(**arguments) as response:
                if not response.is_success:
                    await response.aread()
                async for line in check(response).aiter_lines():
                    yield line

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def work(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function)

    async def close(self) -> None:
        await self._http.aclose()


def run_blocking(call: Awaitable[T]) -> T:
    """Runs a call over a blocking transport to its end, and returns its result."""
    steps = call.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a call over a blocking transport was suspended")
