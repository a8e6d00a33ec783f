"""Who sends a request, for limits that hold for each client: its token, or else its address."""

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import anyio
from starlette.types import Scope

from worker.stores.tokens import Token

_client: ContextVar[str] = ContextVar("client", default="unknown")


def client_of(scope: Scope, token: Token | None) -> str:
    """Returns a name of the client of a request.

    This machine is one client, and so is an IPv6 network of 64 bits, which one machine may use as it likes.

    Args:
        scope: The ASGI scope of the request.
        token: The request's token; None if it needs none or shows none.
    """
    if token is not None:
        return f"token:{token.id}"
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    # On a socket for both versions, IPv4 addresses come as ::ffff:a.b.c.d.
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return "this machine"
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


@contextmanager
def served(client: str) -> Iterator[None]:
    """Names the client of a block, also in threads that it starts with its context."""
    token = _client.set(client)
    try:
        yield
    finally:
        _client.reset(token)


def current_client() -> str:
    """Returns the client of the request that is being served."""
    return _client.get()


class Places:
    """A limit on concurrent work in this process, with a lower limit for each client."""

    def __init__(self, most: int, each: int) -> None:
        """Makes the places.

        Args:
            most: Number of places.
            each: Number of places that one client may have.
        """
        self._all = anyio.CapacityLimiter(most)
        self._each = each
        self._own: dict[str, anyio.CapacityLimiter] = {}

    def take_nowait(self) -> Callable[[], None]:
        """Takes a place for the current client. Returns a function that gives it back, which any task may call.

        Raises:
            anyio.WouldBlock: There is none left for the client.
        """
        client, place = current_client(), object()
        own = self._limiter(client)
        own.acquire_on_behalf_of_nowait(place)
        try:
            self._all.acquire_on_behalf_of_nowait(place)
        except anyio.WouldBlock:
            self._give_back(client, place)
            raise
        return partial(self._leave, client, place)

    async def take(self) -> Callable[[], None]:
        """Waits for a place for the current client. Returns a function that gives it back."""
        client, place = current_client(), object()
        own = self._limiter(client)
        await own.acquire_on_behalf_of(place)
        try:
            await self._all.acquire_on_behalf_of(place)
        except BaseException:
            self._give_back(client, place)
            raise
        return partial(self._leave, client, place)

    def _limiter(self, client: str) -> anyio.CapacityLimiter:
        return self._own.setdefault(client, anyio.CapacityLimiter(self._each))

    def _leave(self, client: str, place: object) -> None:
        self._all.release_on_behalf_of(place)
        self._give_back(client, place)

    def _give_back(self, client: str, place: object) -> None:
        own = self._own[client]
        own.release_on_behalf_of(place)
        if not own.borrowed_tokens and not own.statistics().tasks_waiting:
            del self._own[client]
