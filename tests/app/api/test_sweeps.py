"""Sweeps over HTTP: what is accepted and what is not, names, pages, events and the table."""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_support import Service, assert_problem, service

from worker.jobs.connections import connect
from worker.jobs.scripts import PREFIX as P
from worker.jobs.store import JobStore
from worker.stores.storage import LocalStorage
from worker.stores.tokens import TokenStore
from worker.sweeps.store import SweepStore


@pytest.fixture
def api(redis_process: str, tmp_path: Path) -> Iterator[Service]:
    """The service without workers."""
    with service(tmp_path / "home", redis_process) as running:
        yield running


@pytest.fixture
def sweeps(api: Service, redis_process: str) -> Iterator[SweepStore]:
    """The store of the service's sweeps, as a worker has it."""
    client = connect(redis_process)
    yield SweepStore(JobStore(client, LocalStorage(api.settings.home)))
    client.close()


def body(**changes: Any) -> dict[str, Any]:
    """Returns a sweep of six short trainings."""
    grid = {"seed": [0, 1, 2], "beta": [1, 4]}
    whole = {"name": "shapes", "dataset": "dsprites", "config": {"num_steps": 20}, "grid": grid, "max_running": 2}
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def test_a_grid_becomes_train_jobs_a_few_at_a_time(api: Service) -> None:
    answer = api.client.post("/sweeps", json=body(evaluate=True))
    assert answer.status_code == 202
    sweep = answer.json()
    assert answer.headers["location"] == sweep["links"]["self"] == f"/sweeps/{sweep['id']}"
    assert (sweep["status"], sweep["num_members"], sweep["winner"], sweep["name"]) == ("queued", 6, None, "shapes")
    assert sweep["progress"] == {"fraction": 0.0, "members": {"queued": 6}, "phase": "training"}
    assert [member["settings"] for member in sweep["members"]][:3] == [
        {"seed": 0, "beta": 1},
        {"seed": 0, "beta": 4},
        {"seed": 1, "beta": 1},
    ]
    assert [cell["settings"] for cell in sweep["cells"]] == [{"beta": 1}, {"beta": 4}]
    assert {cell["num_members"] for cell in sweep["cells"]} == {3}
    jobs = api.client.get("/train-jobs").json()["jobs"]
    assert {job["id"] for job in jobs} == {member["job"] for member in sweep["members"][:2]}
    second = next(job for job in jobs if job["id"] == sweep["members"][1]["job"])
    assert second["sweep"] == {"id": sweep["id"], "index": 1}
    assert second["links"]["sweep"] == sweep["links"]["self"]
    assert (second["config"]["beta"], second["config"]["objective"], second["config"]["num_steps"]) == (4, "beta", 20)
    assert second["name"] == "shapes seed 0 beta 4"
    assert "mig" in second["evaluate"]
    assert api.client.get(sweep["links"]["self"]).json() == sweep
    assert api.client.get("/sweeps/shapes").json()["id"] == sweep["id"]


def test_a_list_of_members(api: Service) -> None:
    members = [{"objective": "beta", "beta": 4}, {"objective": "capacity", "gamma": 100, "seed": 3}]
    sweep = api.client.post("/sweeps", json=body(grid=None, members=members, name=None)).json()
    assert [member["settings"] for member in sweep["members"]] == members
    assert sweep["name"] == api.client.get("/datasets/dsprites").json()["name"]
    assert sweep["grid"] is None


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        (
            {"grid": {"seed": [0, 1], "beta": [4, -1]}},
            "grid",
            "cell {seed: 0, beta: -1}: beta: must be at least 0, not -1",
        ),
        (
            {"grid": {"gamma": [1], "beta": [4]}},
            "grid",
            "cell {gamma: 1, beta: 4}: objective: is missing: beta belongs to beta, btcvae and annealed, gamma to "
            "capacity, C to controlled and capacity",
        ),
        ({"grid": {"seeds": [1]}}, "grid", "cell {seeds: 1}: seeds: is not a setting of a training run; did you mean "
                                           "seed?"),
        (
            {"grid": {"seed": list(range(100)), "beta": list(range(100))}},
            "grid",
            "has 10000 cells; a sweep trains at most 200 models",
        ),
        ({"grid": None}, "grid", "is missing: give either grid or members"),
        (
            {"grid": None, "members": [{"beta": 1}, {"objective": "no"}]},
            "members",
            "entry {objective: no}: objective: must be one of",
        ),
        ({"max_running": 0}, "max_running", "must be at least 1, not 0"),
        ({"preset": "no"}, "preset", "must be one of"),
        ({"dataset": None}, "dataset", "is missing"),
        ({"name": "a" * 61}, "name", "must have at most 60 characters"),
        ({"name": "/"}, "name", "must be 1 to 100 letters"),
        ({"minutes": 5}, "minutes", "excludes num_steps"),
        ({"evaluate": ["no"]}, "evaluate", ""),
    ],
)  # fmt: skip
def test_a_sweep_that_is_refused_starts_nothing(
    api: Service, changes: dict[str, Any], field: str, message: str
) -> None:
    problem = assert_problem(api.client.post("/sweeps", json=body(**changes)), 422, "invalid_request")
    (error,) = problem["errors"]
    assert error["field"] == field
    assert error["message"].startswith(message)
    assert api.client.get("/train-jobs").json()["jobs"] == []
    assert api.client.get("/sweeps").json() == {"sweeps": [], "next": None}


def test_what_is_not_there(api: Service) -> None:
    assert_problem(api.client.post("/sweeps", json=body(dataset="no")), 404, "unknown_dataset")
    assert_problem(api.client.post("/sweeps", json=body(**{"from": "no"})), 404, "unknown_model")
    for path in ("", "/events", "/table.csv", "/figure.png", "/sheet.png"):
        assert_problem(api.client.get(f"/sweeps/s-none{path}"), 404, "unknown_sweep")
    for action in ("cancel", "pause", "resume", "retry"):
        assert_problem(api.client.post(f"/sweeps/s-none/{action}"), 404, "unknown_sweep")
    assert_problem(api.client.delete("/sweeps/s-none"), 404, "unknown_sweep")
    sweep = api.client.post("/sweeps", json=body()).json()
    for name in ("figure.png", "sheet.png"):
        assert_problem(api.client.get(f"/sweeps/{sweep['id']}/{name}"), 404, "unknown_file")


def test_keys_names_and_pages(api: Service) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.client.post("/sweeps", json=body(), headers=headers).json()
    assert api.client.post("/sweeps", json=body(), headers=headers).json()["id"] == first["id"]
    assert_problem(api.client.post("/sweeps", json=body(max_running=1), headers=headers), 409, "idempotency_conflict")
    second = api.client.post("/sweeps", json=body()).json()
    assert_problem(api.client.get("/sweeps/shapes"), 409, "ambiguous_name")
    page = api.client.get("/sweeps", params={"limit": 1}).json()
    assert [one["id"] for one in page["sweeps"]] == [second["id"]]
    assert "members" not in page["sweeps"][0]
    rest = api.client.get("/sweeps", params={"after": page["next"]}).json()
    assert ([one["id"] for one in rest["sweeps"]], rest["next"]) == ([first["id"]], None)


def test_a_sweep_is_steered_and_deleted_once_it_has_ended(api: Service) -> None:
    url = api.client.post("/sweeps", json=body()).json()["links"]["self"]
    assert_problem(api.client.delete(url), 409, "transition_refused")
    paused = api.client.post(f"{url}/pause").json()
    assert paused["status"] == "paused"
    assert [member["status"] for member in paused["members"]] == ["queued"] * 2 + ["paused"] * 4
    assert api.client.post(f"{url}/resume").json()["status"] == "queued"
    problem = assert_problem(api.client.post(f"{url}/resume"), 409, "transition_refused")
    assert problem["detail"].endswith("is queued; it cannot be resumed.")
    cancelled = api.client.post(f"{url}/cancel").json()
    assert (cancelled["status"], cancelled["progress"]["members"]) == ("cancelled", {"cancelled": 6})
    assert api.client.post(f"{url}/retry").json()["status"] == "queued"
    api.client.post(f"{url}/cancel")
    assert api.client.delete(url).status_code == 204
    assert_problem(api.client.get(url), 404, "unknown_sweep")
    assert api.client.get("/train-jobs").json()["jobs"] == []


def test_one_stream_has_the_events_of_all_members(api: Service, sweeps: SweepStore) -> None:
    sweep = api.client.post("/sweeps", json=body(grid={"seed": [0, 1]})).json()
    jobs = [member["job"] for member in sweep["members"]]
    for job_id, end in zip(jobs, ("succeed", "fail"), strict=True):
        claim = sweeps.jobs.claim(job_id, "worker")
        assert claim is not None
        claim.progress({"step": 3, "num_steps": 20, "fraction": 0.15})
        if end == "fail":
            claim.fail("diverged", "the loss became nan")
        else:
            claim.succeed({"reconstruction_loss": 12.5, "kl_per_dimension": [1.5, 2.0], "active_dimensions": [0, 1]})
        sweeps.advance(sweep["id"])
    text = api.client.get(f"/sweeps/{sweep['id']}/events").text
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    told = [(event["event"], data.get("index"), data["status"]) for event in events
            if (data := json.loads(event["data"]))]  # fmt: skip
    assert [one for one in told if one[0] != "sweep"] == [
        ("queued", 0, "queued"),
        ("queued", 1, "queued"),
        ("running", 0, "running"),
        ("progress", 0, "running"),
        ("succeeded", 0, "succeeded"),
        ("running", 1, "running"),
        ("progress", 1, "running"),
        ("failed", 1, "failed"),
    ]
    assert [status for kind, _, status in told if kind == "sweep"] == ["queued", "running", "succeeded"]
    assert told[-1] == ("sweep", None, "succeeded")
    middle = events[4]["id"]
    rest = api.client.get(f"/sweeps/{sweep['id']}/events", headers={"Last-Event-ID": middle}).text
    assert rest.strip() == text.strip().split(f"id: {middle}\n", 1)[1].split("\n\n", 1)[1].strip()
    last = api.client.get(f"/sweeps/{sweep['id']}/events", headers={"Last-Event-ID": events[-1]["id"]})
    assert (last.status_code, last.text) == (204, "")
    rows = list(csv.DictReader(io.StringIO(api.client.get(f"/sweeps/{sweep['id']}/table.csv").text)))
    assert [(row["seed"], row["status"], row["reconstruction_loss"], row["kl"]) for row in rows] == [
        ("0", "succeeded", "12.5", "3.5"),
        ("1", "failed", "", ""),
    ]
    member = api.client.get(f"/sweeps/{sweep['id']}").json()["members"][1]
    assert member["error"] == {"code": "diverged", "message": "the loss became nan"}


def test_a_stream_that_is_taken_up_again_misses_no_event_of_long_logs(api: Service, sweeps: SweepStore) -> None:
    """The logs of both members are longer than what is read of one at a time, and end at different times."""
    sweep = api.client.post("/sweeps", json=body(grid={"seed": [0, 1]})).json()
    for member, step in zip(sweep["members"], (1, 100), strict=True):
        for number in range(250):
            entry = {"type": "progress", "data": json.dumps({"number": number}), "status": "running", "at": "0"}
            event_id = f"{10**14 + step * number}-{member['index']}"
            sweeps.jobs.redis.xadd(f"{P}events:{member['job']}", entry, id=event_id)
    api.client.post(f"/sweeps/{sweep['id']}/cancel")
    url, seen, last = f"/sweeps/{sweep['id']}/events", [], "0"
    while True:
        with api.client.stream("GET", url, headers={"Last-Event-ID": last}) as answer:
            lines = answer.iter_lines()
            chosen = [line.removeprefix("id: ") for line in itertools.islice(lines, 4 * 170) if line.startswith("id: ")]
        if answer.status_code == 204:
            break
        seen += chosen
        last = chosen[-1]
    assert len(seen) == len(set(seen)) >= 500
    assert seen == sorted(seen, key=lambda one: [int(part) for part in one.split("-")])


def test_only_an_administrator_lets_a_sweep_choose_the_default_model(api: Service) -> None:
    tokens = TokenStore(LocalStorage(api.settings.home))
    secrets = {scope: tokens.add(scope, scope)[1] for scope in ("train", "admin")}
    for scope, make_default, status in (("train", False, 202), ("train", True, 403), ("admin", True, 202)):
        headers = {"Authorization": f"Bearer {secrets[scope]}"}
        answer = api.client.post("/sweeps", json=body(make_default=make_default), headers=headers)
        assert answer.status_code == status, (scope, make_default)
