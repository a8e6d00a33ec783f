"""Limits of each client on work in this process, and who a client is."""

from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from app.clients import Places, served


def test_a_client_has_no_more_than_its_share_of_places() -> None:
    async def take() -> None:
        places = Places(3, 2)
        with served("one"):
            places.take_nowait()
            await places.take()
            with pytest.raises(anyio.WouldBlock):
                places.take_nowait()
        with served("other"):
            places.take_nowait()
            with pytest.raises(anyio.WouldBlock):
                places.take_nowait()  # All are taken.

    anyio.run(take)


@pytest.mark.parametrize("most", [1, 2], ids=["of all", "of its own"])
def test_who_waits_gets_the_next_place(most: int) -> None:
    async def take() -> None:
        places, got = Places(most, 1), list[Callable[[], None]]()

        async def wait() -> None:
            with served("one" if most == 2 else "other"):
                got.append(await places.take())

        with served("one"):
            first = places.take_nowait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert got == []
            first()
            await anyio.wait_all_tasks_blocked()
            assert len(got) == 1
        got[0]()
        with served("third"):
            places.take_nowait()()  # None is left taken.

    anyio.run(take)


def test_who_gives_up_waiting_takes_no_place() -> None:
    async def take() -> None:
        places = Places(1, 1)
        with served("one"):
            first = places.take_nowait()
        for client in ("one", "other"):
            with served(client), anyio.move_on_after(0.05) as waited:
                await places.take()
            assert waited.cancelled_caught
        first()
        await checkpoint()
        for client in ("one", "other"):
            with served(client):
                places.take_nowait()()

    anyio.run(take)
