"""A Python client of the service: `Client` blocks, `AsyncClient` is for an event loop; both have the same calls."""

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from app.remote.calls import Calls
from app.remote.errors import ServiceError
from app.remote.events import JobEvent
from app.remote.transports import AsyncTransport, BlockingTransport, run_blocking

__all__ = ["DEFAULT_URL", "AsyncClient", "Client", "JobEvent", "ServiceError"]

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 90.0
"""Longest silence of the service in a request; a render worker may be waited for 60 s."""

P = ParamSpec("P")
T = TypeVar("T")


def _headers(headers: Mapping[str, str] | None, token: str) -> dict[str, str]:
    return {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}


class AsyncClient(Calls):
    """A client for an event loop, used as `async with AsyncClient() as client`."""

    def __init__(
        self,
        url: str = "",
        *,
        token: str = "",
        timeout: float = TIMEOUT_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Makes a client, which connects at its first call.

        Args:
            url: Address of the service; empty: DEFAULT_URL.
            token: A token of the service (`betavae tokens add`), where it asks for one.
            timeout: Longest silence of the service in a request, in seconds.
            headers: Headers of every request, such as those that a proxy asks for.
        """
        super().__init__(AsyncTransport(url or DEFAULT_URL, timeout, _headers(headers, token)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _blocking(call: Callable[Concatenate[Calls, P], Awaitable[T]]) -> "Callable[Concatenate[Client, P], T]":
    """Returns the method of the blocking client for a call, with the same arguments and text."""

    @functools.wraps(call)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run_blocking(call(self._calls, *args, **kwargs))

    return method


class Client:
    """A client that blocks, used as `with Client() as client`, or without `with` and closed by `close`."""

    def __init__(
        self,
        url: str = "",
        *,
        token: str = "",
        timeout: float = TIMEOUT_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Makes a client, which connects at its first call.

        Args:
            url: Address of the service; empty: DEFAULT_URL.
            token: A token of the service (`betavae tokens add`), where it asks for one.
            timeout: Longest silence of the service in a request, in seconds.
            headers: Headers of every request, such as those that a proxy asks for.
        """
        self._calls = Calls(BlockingTransport(url or DEFAULT_URL, timeout, _headers(headers, token)))

    models = _blocking(Calls.models)
    model = _blocking(Calls.model)
    download_model = _blocking(Calls.download_model)
    encode = _blocking(Calls.encode)
    reconstruct = _blocking(Calls.reconstruct)
    decode = _blocking(Calls.decode)
    traverse = _blocking(Calls.traverse)
    traversal = _blocking(Calls.traversal)
    compare = _blocking(Calls.compare)
    compare_picture = _blocking(Calls.compare_picture)
    datasets = _blocking(Calls.datasets)
    upload = _blocking(Calls.upload)
    train = _blocking(Calls.train)
    start_training = _blocking(Calls.start_training)
    jobs = _blocking(Calls.jobs)
    job = _blocking(Calls.job)
    finish = _blocking(Calls.finish)
    cancel = _blocking(Calls.cancel)
    pause = _blocking(Calls.pause)
    resume = _blocking(Calls.resume)
    retry = _blocking(Calls.retry)
    wait = _blocking(Calls.wait)
    sweep = _blocking(Calls.sweep)
    start_sweep = _blocking(Calls.start_sweep)
    sweep_of = _blocking(Calls.sweep_of)
    close = _blocking(Calls.close)

    def events(self, job: str, *, after: str = "") -> Iterator[JobEvent]:
        """Yields the events of a training until it ends, as `AsyncClient.events` does.

        Args:
            job: Id of the job.
            after: Id of the event after which to begin; empty begins with the first.

        Raises:
            ServiceError: There is no such job, or the service has been away for minutes.
        """
        events = self._calls.events(job, after=after)
        try:
            while True:
                try:
                    yield run_blocking(anext(events))
                except StopAsyncIteration:
                    return
        finally:
            run_blocking(events.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
