"""The corpus: every request with the answer that it gets, and how it is sent and cleaned up."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from api_support import assert_problem

from corpus import bodies, pictures, sets, weights

Send = Callable[[httpx.Client], httpx.Response]
PACKING_SECONDS = 60
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Case:
    """A request and what comes of it.

    Attributes:
        name: The case's name.
        send: Sends it.
        status: The status of the answer.
        code: The code of the problem; empty if there is none.
        says: A part of the problem's text.
        packs: The numbers of packed and rejected pictures of a data set, or the code with which packing fails; None:
            nothing is packed.
        seconds: The longest time to the answer.
    """

    name: str
    send: Send
    status: int
    code: str = ""
    says: str = ""
    packs: tuple[int, int] | str | None = None
    seconds: float = 60.0


def send_picture(address: str, data: bytes) -> Send:
    """Returns a function that posts a picture to one of the routes for pictures."""
    form = {"model": "tiny", "dimensions": "0", "steps": "2"} if address == "/traversals" else {}
    query = {"models": "tiny,tiny-rgb"} if address == "/models/compare" else {}
    accept = {"accept": "application/json"}
    return lambda client: client.post(
        address, data=form, params=query, files={"image": ("a.png", data)}, headers=accept
    )


def send_set(filename: str, data: bytes) -> Send:
    """Returns a function that uploads a data set."""
    return lambda client: client.post("/datasets", data={"name": "corpus"}, files={"file": (filename, data)})


def send_model(data: bytes, spec: bytes | None) -> Send:
    """Returns a function that uploads a model."""
    files = {"file": ("model", data), **({} if spec is None else {"spec": ("model.json", spec)})}
    return lambda client: client.post("/models", data={"name": "corpus"}, files=files)


def send_body(method: str, path: str, content: bytes, content_type: str) -> Send:
    """Returns a function that sends any bytes."""
    return lambda client: client.request(method, path, content=content, headers={"content-type": content_type})


PICTURE_ROUTES = ("/models/tiny/encode", "/traversals", "/models/tiny-rgb/reconstruct")


def later(make: Callable[[], bytes], send: Callable[[bytes], Send]) -> Send:
    """Returns a function that makes the bytes when they are sent."""
    return lambda client: send(make())(client)


def _pictures() -> list[Case]:
    found = []
    for number, (name, make) in enumerate((pictures.ACCEPTED | pictures.ODD).items()):
        address = PICTURE_ROUTES[number % 3] if name in pictures.ACCEPTED else PICTURE_ROUTES[0]
        status = 201 if address == "/traversals" else 200
        found.append(Case(f"picture {name}", later(make, partial(send_picture, address)), status))
    for number, (name, make, status, code) in enumerate((*pictures.BAD, *pictures.SLOW)):
        address = PICTURE_ROUTES[number % 3]
        send = later(make, partial(send_picture, address))
        found.append(Case(f"picture {name} to {address}", send, status, code, seconds=10))
    return found


def _sets() -> list[Case]:
    return [
        Case(f"set {one.name}", later(one.make, partial(send_set, one.filename)),
             422 if one.refused else 201, one.refused, one.says, one.packs)
        for one in sets.CASES
    ]  # fmt: skip


def _models() -> list[Case]:
    def sender(one: weights.Upload) -> Send:
        return lambda client: send_model(one.make(), one.spec() if one.spec else None)(client)

    return [Case(f"model {one.name}", sender(one), one.status, one.code) for one in weights.CASES]


def _bodies() -> list[Case]:
    return [
        Case(f"body {one.name}", send_body(one.method, one.path, one.content, one.content_type), one.status, one.code)
        for one in bodies.CASES
    ]


CASES = [*_pictures(), *_sets(), *_models(), *_bodies()]


def check_answer(case: Case, client: httpx.Client) -> None:
    """Sends a case, checks what comes of it, and removes what it made."""
    answer = case.send(client)
    assert answer.elapsed.total_seconds() < case.seconds
    if case.code:
        assert case.says in assert_problem(answer, case.status, case.code)["detail"]
        assert "Traceback" not in answer.text
    assert answer.status_code == case.status, answer.text
    try:
        if case.packs is not None:
            assert packed(client, answer.json()["links"]["self"]) == case.packs
    finally:
        remove(client, answer)


def packed(client: httpx.Client, address: str, body: dict[str, Any] | None = None) -> tuple[int, int] | str | None:
    """Packs a data set and returns the numbers of packed and rejected pictures, or the code of the failure."""
    answer = client.post(f"{address}/packs", json={"image_size": 32, "num_channels": 1} if body is None else body)
    if answer.status_code != 202:
        return str(answer.json()["code"])
    deadline = time.monotonic() + PACKING_SECONDS
    while True:
        job = client.get(address).json()["packing"][0]
        if job["status"] == "succeeded":
            return job["result"]["num_images"], job["result"]["num_rejected"]
        if job["status"] in ("failed", "cancelled"):
            return str(job["error"]["code"])
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def remove(client: httpx.Client, answer: httpx.Response) -> None:
    """Removes the data set, model or traversal that an answer describes."""
    if answer.status_code not in (200, 201, 202) or answer.headers["content-type"] != "application/json":
        return
    address = answer.json().get("links", {}).get("self")
    if address is None or answer.request.method not in ("POST",) or answer.request.url.path.endswith("/cancel"):
        return
    if "/train-jobs/" in address:
        client.post(f"{address}/cancel")
    gone = client.delete(address)
    assert gone.status_code == 204, gone.text
