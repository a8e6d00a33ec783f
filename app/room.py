"""Room for the bodies of uploads, which are spooled to the disk while they are received."""

from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.body_limits import declared_length, media_type
from app.problems import responses
from worker.stores.room import Room

IN_MEMORY_BYTES = 2**20
"""Largest body that is not spooled."""
CHECK_BYTES = 8 * 2**20
"""Bytes after which room is asked for again, for a body that does not say how long it is."""


class RoomMiddleware:
    """Asks for room while the body of an upload is received; without room, the request ends (507).

    A declared length is asked for before the body is read. A body without one (chunked) is asked for in steps.
    """

    def __init__(self, app: ASGIApp, room: Room) -> None:
        self.app = app
        self.room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_spooled(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        granted, size = 0, 0
        declared = declared_length(Headers(scope=scope))

        async def receive_with_room() -> Message:
            nonlocal granted, size
            message = await receive()
            size += len(message.get("body", b""))
            if size > granted and max(size, declared) > IN_MEMORY_BYTES:
                length = declared if declared >= size else size + CHECK_BYTES
                # An error here is raised by the reader of the body, so that it is answered like all others.
                await anyio.to_thread.run_sync(self.room.check, length - granted)
                granted = length
            return message

        await self.app(scope, receive_with_room, send)


def _is_spooled(headers: Headers) -> bool:
    return media_type(headers) not in ("application/json", "application/x-www-form-urlencoded")


def document(schema: dict[str, Any]) -> None:
    """Adds the 507 to every operation of an OpenAPI description that may write a file."""
    for path in schema["paths"].values():
        for method, operation in path.items():
            if method in ("post", "put", "patch"):
                operation["responses"].setdefault("507", responses("storage_full")[507])
