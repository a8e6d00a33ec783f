"""Who sends a request, for limits that hold for each client: its token, or else its address."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
