"""Work of one kind, or of one client, leaves room for that of others."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_support import Service, answering_calls, assert_problem, picture, service

from app.clients import client_of
from worker.jobs.connections import connect
from worker.jobs.store import JobStore
from worker.stores.storage import LocalStorage
from worker.stores.tokens import Token, TokenStore

IMAGE = {"image": ("a.png", picture(), "image/png")}
ELSEWHERE = {"X-Forwarded-For": "203.0.113.7"}
"""The header of a proxy on this machine, which uvicorn trusts."""


@pytest.fixture
def api(redis_process: str, tmp_path: Path) -> Iterator[Service]:
    """A service without workers, where a client may have two jobs of a kind and one call."""
    with service(tmp_path / "home", redis_process, max_client_jobs=2, max_client_calls=1) as running:
        yield running


def traverse(api: Service, seed: int, headers: dict[str, str] | None = None) -> httpx.Response:
    form = {"model": "tiny", "seed": str(seed)}
    return api.client.post("/traversals", data=form, headers={"Prefer": "wait=0", **(headers or {})})


def encode(api: Service, headers: dict[str, str] | None = None) -> httpx.Response:
    return api.client.post("/models/tiny/encode", files=IMAGE, headers={"Prefer": "wait=60", **(headers or {})})


def train(api: Service, **headers: str) -> httpx.Response:
    return api.client.post("/train-jobs", json={"dataset": "dsprites"}, headers=headers)


def test_a_call_does_not_wait_for_the_traversals_before_it(redis_process: str, tmp_path: Path) -> None:
    with service(tmp_path / "home", redis_process) as running, answering_calls(running.settings):
        for seed in range(20):
            assert traverse(running, seed).status_code == 202
        assert encode(running).status_code == 200


def test_a_client_with_too_many_unfinished_traversals_is_refused_and_others_are_not(api: Service) -> None:
    assert [traverse(api, seed).status_code for seed in (1, 2)] == [202, 202]
    folders = LocalStorage(api.settings.home).list("traversals")
    body = assert_problem(traverse(api, 3), 429, "too_many_requests")
    assert body["detail"] == "This client has 2 unfinished traversals already."
    assert LocalStorage(api.settings.home).list("traversals") == folders
    assert traverse(api, 1).status_code == 202  # It is under way already.
    assert [traverse(api, seed, ELSEWHERE).status_code for seed in (3, 4, 5)] == [202, 202, 429]
    assert train(api).status_code == 202  # Each kind of job counts by itself.


def test_a_job_that_ends_makes_place_for_another_of_its_client(api: Service) -> None:
    first = train(api, **{"Idempotency-Key": "a"})
    assert [train(api).status_code for _ in range(2)] == [202, 429]
    assert train(api, **{"Idempotency-Key": "a"}).json()["id"] == first.json()["id"]
    assert api.client.post(first.json()["links"]["cancel"]).json()["status"] == "cancelled"
    assert [train(api).status_code for _ in range(2)] == [202, 429]


def test_a_job_that_is_queued_again_counts_as_a_new_one(api: Service) -> None:
    redis = connect(api.settings.redis_url or "")
    store = JobStore(redis, LocalStorage(api.settings.home))
    cancelled, paused = (train(api, **ELSEWHERE).json() for _ in range(2))
    api.client.post(cancelled["links"]["cancel"])
    claim = store.claim(paused["id"], "worker")
    assert claim is not None
    store.pause(claim.id)
    claim.paused()
    redis.close()
    own = [train(api).json() for _ in range(2)]
    asked = [(cancelled, "retry"), (paused, "resume"), (paused, "finish")]
    for job, action in asked:
        assert_problem(api.client.post(job["links"][action]), 429, "too_many_requests")
        assert api.client.get(job["links"]["self"]).json()["status"] in ("cancelled", "paused")
    assert_problem(api.client.post(own[0]["links"]["retry"]), 409, "transition_refused")
    for job, action in asked[:2]:  # Both count for the other client, the paused one all the time.
        assert api.client.post(job["links"][action], headers=ELSEWHERE).json()["status"] == "queued"
    assert train(api, **ELSEWHERE).status_code == 429
    api.client.post(own[0]["links"]["cancel"])
    assert api.client.post(own[0]["links"]["retry"]).json()["status"] == "queued"
    assert train(api).status_code == 429


def test_sweeps_are_bounded_too(api: Service) -> None:
    body = {"dataset": "dsprites", "grid": {"seed": [0, 1]}, "config": {"num_steps": 20}}
    sweeps = [api.client.post("/sweeps", json=body, headers={"Idempotency-Key": key}) for key in "aba"]
    assert [answer.status_code for answer in sweeps] == [202] * 3
    assert sweeps[2].json()["id"] == sweeps[0].json()["id"]
    assert_problem(api.client.post("/sweeps", json=body), 429, "too_many_requests")
    assert len(LocalStorage(api.settings.home).list("sweeps")) == 2
    assert api.client.post("/sweeps", json=body, headers=ELSEWHERE).status_code == 202
    links = sweeps[0].json()["links"]
    for action in ("pause", "resume", "cancel", "retry"):  # It counts already.
        assert api.client.post(links[action]).status_code == 200
    api.client.post(links["pause"])
    full = {**ELSEWHERE, "X-Forwarded-For": "203.0.113.8"}
    for _ in range(2):
        assert api.client.post("/sweeps", json=body, headers=full).status_code == 202
    assert_problem(api.client.post(links["resume"], headers=full), 429, "too_many_requests")
    assert api.client.get(links["self"]).json()["status"] == "paused"


def test_every_token_is_a_client(api: Service) -> None:
    tokens = TokenStore(LocalStorage(api.settings.home))
    ann, bob = ({"Authorization": f"Bearer {tokens.add(name, 'render')[1]}"} for name in ("Ann", "Bob"))
    assert [traverse(api, seed, ann).status_code for seed in (1, 2, 3)] == [202, 202, 429]
    assert traverse(api, 3, bob).status_code == 202


def test_a_client_has_a_bounded_number_of_calls_in_flight(api: Service) -> None:
    redis = connect(api.settings.redis_url or "")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(encode, api)
        while not redis.exists("betavae:client:call:this machine"):
            time.sleep(0.01)
        assert_problem(encode(api), 429, "too_many_requests")
        with answering_calls(api.settings):
            assert first.result().status_code == 200
            assert encode(api).status_code == 200  # The first one is over.
    redis.close()


@pytest.mark.parametrize(
    ("address", "client"),
    [
        (("127.0.0.1", 1), "this machine"),
        (("::1", 1), "this machine"),
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1", 1), "192.0.2.1"),
        (("::ffff:127.0.0.1", 1), "this machine"),
        (("testclient", 1), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_client_without_a_token_is_its_address(address: Any, client: str) -> None:
    assert client_of({"client": address}, None) == client
    assert client_of({"client": address}, Token("t1", "Ann", "read", "", "")) == "token:t1"
