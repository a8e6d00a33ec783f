#!/usr/bin/env python3
"""Builds the stack of docker-compose.yml, runs it, and breaks it on purpose; needs only Docker and Python.

    python3 tests/docker_drills.py [--keep] [DRILL …]

The drills use a separate Compose project (betavae-drills, port 18000), which is removed with its volumes at the end.
The exit code is 0 only if every drill passed. Killing a container's main process, to simulate a crash, needs root.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "betavae-drills"
PORT = 18000
URL = f"http://127.0.0.1:{PORT}"
SERVICES = ("redis", "api", "worker-train", "worker-render")
PATIENCE = os.environ.get("DRILLS_PATIENCE", "300")
"""Seconds that any wait may take on a slow machine before a drill fails; the actual times are printed."""
MAX_API_IMAGE_BYTES = 400_000_000
ENVIRONMENT = {
    **os.environ,
    "BETAVAE_PORT": str(PORT),
    "BETAVAE_CHECKPOINT_SECONDS": "2",
    "BETAVAE_LEASE_SECONDS": "6",
    "BUILDKIT_PROGRESS": "plain",
}
CONFIG = {"image_size": 32, "latent_dim": 4, "batch_size": 32, "capacity_max": 8, "preview_steps": 0}


class DrillError(AssertionError):
    """An expectation of a drill was not met."""


def say(text: str) -> None:
    """Prints one line with the time since the start."""
    print(f"drills {time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


STARTED = time.monotonic()


def expect(condition: object, text: str) -> None:
    """Checks a condition.

    Raises:
        DrillError: The condition is false; the message is the given text.
    """
    if not condition:
        raise DrillError(text)


def run(*command: str, check: bool = True, env: dict[str, str] | None = None, timeout: float = 900) -> str:
    """Runs a command in the repository, and returns its output.

    Raises:
        DrillError: The command failed, and `check` is true.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**ENVIRONMENT, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        raise DrillError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def compose(*arguments: str, **options: Any) -> str:
    """Runs docker compose in the drills' project, and returns its output."""
    return run("docker", "compose", "-p", PROJECT, *arguments, **options)


def eventually(condition: Callable[[], Any], text: str) -> Any:
    """Polls a condition, and returns its first true value.

    Raises:
        DrillError: The condition stayed false for the whole waiting time.
    """
    deadline = time.monotonic() + float(PATIENCE)
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.3)
    raise DrillError(f"not within {PATIENCE} s: {text}")


def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Sends an HTTP request.

    Returns:
        Status and body; 0 and the reason if there is no response.
    """
    request = urllib.request.Request(
        URL + path, data=body, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def get(path: str) -> Any:
    """Returns the JSON of a GET, or None unless the status is 200."""
    status, body = ask("GET", path)
    return json.loads(body) if status == 200 else None


def post_json(path: str, value: object) -> Any:
    """Posts JSON, and returns the JSON of the response."""
    status, body = ask("POST", path, json.dumps(value).encode(), Content_Type="application/json")
    expect(200 <= status < 300, f"POST {path}: {status} {body[:500]!r}")
    return json.loads(body)


def post_form(path: str, accept: str = "application/json", **fields: str | bytes) -> tuple[int, bytes]:
    """Posts a multipart form, in which bytes are sent as files, and returns status and body."""
    boundary = "betavaedrills"
    parts = []
    for name, value in fields.items():
        is_file = isinstance(value, bytes)
        filename = f'; filename="{name}.{"zip" if name == "file" else "png"}"' if is_file else ""
        data = value if isinstance(value, bytes) else value.encode()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return ask(
        "POST", path, body, Accept=accept, Prefer="wait=60", Content_Type=f"multipart/form-data; boundary={boundary}"
    )


def png(x: int, y: int) -> bytes:
    """Returns a PNG of 32×32 px with a white square of 8×8 px on black."""
    rows = b"".join(
        b"\0" + bytes(255 if x <= i < x + 8 and y <= j < y + 8 else 0 for i in range(32)) for j in range(32)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def squares() -> bytes:
    """Returns a zip of 400 pictures of squares."""
    stream, draw = io.BytesIO(), random.Random(0)
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(400):
            archive.writestr(f"{number}.png", png(draw.randrange(24), draw.randrange(24)))
    return stream.getvalue()


def containers(service: str) -> list[str]:
    """Returns the ids of a service's containers."""
    return compose("ps", "-q", service).split()


def inspect(container: str, template: str) -> str:
    """Returns one fact about a container, as docker inspect formats it."""
    return run("docker", "inspect", "-f", template, container).strip()


def crash(container: str) -> None:
    """Kills a container's main process from outside, which the restart policy treats as a crash."""
    os.kill(int(inspect(container, "{{.State.Pid}}")), signal.SIGKILL)


def start_job(num_steps: int) -> str:
    """Starts a training job, waits until it has a checkpoint, and returns its id."""
    job = post_json(
        "/train-jobs", {"name": "drill", "dataset": "squares", "config": {**CONFIG, "num_steps": num_steps}}
    )
    job_id = str(job["id"])
    begun = eventually(lambda: is_past(job_id, 1), f"job {job_id} begins: {get(f'/train-jobs/{job_id}')}")
    time.sleep(3)  # This is longer than BETAVAE_CHECKPOINT_SECONDS.
    expect(begun["status"] == "running", f"job {job_id} is {begun['status']}")
    return job_id


def is_past(job_id: str, step: int) -> Any:
    """Returns the job if it has made that many steps, else None."""
    job = get(f"/train-jobs/{job_id}")
    return job if job and job["progress"]["step"] >= step else None


def finished(job_id: str) -> Any:
    """Waits until the job has ended, expects that it succeeded, and returns it."""

    def ended() -> Any:
        job = get(f"/train-jobs/{job_id}")
        return job if job and job["status"] in ("succeeded", "failed", "cancelled") else None

    job = eventually(ended, f"job {job_id} ends: {get(f'/train-jobs/{job_id}')}")
    expect(job["status"] == "succeeded", f"job {job_id}: {job['status']} {job['error']}")
    return job


def expect_resumed(job: Any) -> None:
    """Expects that the job resumed from a checkpoint and made a model."""
    expect(job["attempts"] >= 2, f"{job['attempts']} attempts")
    expect(job["resumed_from_step"], "it began anew instead of resuming")
    expect(get(f"/models/{job['model']}"), f"no model {job['model']}")


# The drills


def build_and_start() -> None:
    """The stack becomes healthy after `up --build --wait`; the images are complete and small."""
    compose("build")
    began = time.monotonic()
    compose("up", "--wait", "--wait-timeout", PATIENCE)
    say(f"healthy after {time.monotonic() - began:.0f} s")
    size = int(run("docker", "image", "inspect", "-f", "{{.Size}}", "betavae-api"))
    worker = int(run("docker", "image", "inspect", "-f", "{{.Size}}", "betavae-worker"))
    say(f"images: betavae-api {size / 1e6:.0f} MB, betavae-worker {worker / 1e9:.2f} GB")
    expect(size < MAX_API_IMAGE_BYTES, f"the api image has {size} bytes")
    found = run("docker", "run", "--rm", "betavae-api", "python", "-c", "import torch", check=False)
    expect("ModuleNotFoundError" in found, f"torch in the api image: {found}")
    compiled = "from importlib.util import find_spec; print(find_spec('models.convolutions._compiled'))"
    found = run("docker", "run", "--rm", "betavae-worker", "python", "-c", compiled)
    expect(".so" in found, f"the worker image lacks the compiled convolutions: {found}")
    expect(get("/readyz"), "not ready")
    status, page = ask("GET", "/docs")
    expect(status == 200 and b"swagger" in page, f"/docs: {status}")
    status, page = ask("GET", "/")
    for file in ["assets/" + name for name in re.findall(r'(?:src|href)="assets/([^"]+)"', page.decode())]:
        status, content = ask("GET", f"/{file}")
        expect(status == 200 and len(content) > 100, f"/{file}: {status}")


def containers_are_locked_down() -> None:
    """Every container runs as non-root, read-only and limited, without capabilities; only the API publishes a port."""
    for service in SERVICES:
        (container,) = containers(service)
        facts = json.loads(run("docker", "inspect", container))[0]
        host = facts["HostConfig"]
        expect(facts["Config"]["User"] not in ("", "0", "root"), f"{service} runs as root")
        expect(host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and host["Init"], f"{service}: {host}")
        expect("no-new-privileges:true" in host["SecurityOpt"], f"{service}: {host['SecurityOpt']}")
        expect(host["Memory"] > 0 and host["PidsLimit"] > 0, f"{service} has no limits")
        published = [p for p in host["PortBindings"].values() if p]
        expect(bool(published) == (service == "api"), f"{service} publishes {published}")


def the_gpu_stays_in_its_overlay() -> None:
    """docker/gpu.yml reserves a GPU for the workers and keeps their limits; no other service requests a GPU."""
    plain = json.loads(compose("config", "--format", "json"))["services"]
    files = ("-f", "docker-compose.yml", "-f", "docker/gpu.yml")
    overlaid = json.loads(run("docker", "compose", *files, "config", "--format", "json"))["services"]
    for service in SERVICES:
        resources = overlaid[service]["deploy"]["resources"]
        expect("reservations" not in plain[service]["deploy"]["resources"], f"{service} reserves by default")
        expect(resources["limits"] == plain[service]["deploy"]["resources"]["limits"], f"{service} lost its limits")
        devices = resources.get("reservations", {}).get("devices", [])
        wanted = ["nvidia"] if service.startswith("worker") else []
        expect([device["driver"] for device in devices] == wanted, f"{service}: {devices}")


def upload_train_and_traverse() -> None:
    """The service accepts a data set, trains a model on it, and renders a traversal."""
    status, body = post_form("/datasets", name="squares", file=squares())
    expect(status in (200, 201, 202), f"POST /datasets: {status} {body[:500]!r}")
    job = post_json("/train-jobs", {"name": "first", "dataset": "squares", "config": {**CONFIG, "num_steps": 200}})
    model = finished(str(job["id"]))["model"]
    status, gif = post_form("/traversals", accept="image/gif", image=png(4, 9), model=model)
    expect(status == 200 and gif.startswith(b"GIF89a"), f"POST /traversals: {status} {gif[:500]!r}")


def kill_a_training_worker() -> None:
    """A training worker that is killed is restarted, and its job resumes and succeeds."""
    job_id = start_job(1500)
    (worker,) = containers("worker-train")
    crash(worker)
    job = finished(job_id)
    expect_resumed(job)
    expect(int(inspect(worker, "{{.RestartCount}}")) >= 1, "the container was not restarted")


def restart_redis() -> None:
    """A restart of Redis during training interrupts no job and loses none."""
    job_id = start_job(1500)
    before = {job["id"] for job in get("/train-jobs")["jobs"]}
    compose("restart", "redis")
    finished(job_id)
    expect(before <= {job["id"] for job in get("/train-jobs")["jobs"]}, "jobs were lost")


def down_and_up() -> None:
    """`down` and `up` during training, with the volumes kept, lose nothing."""
    job_id = start_job(1500)
    jobs = {job["id"] for job in get("/train-jobs")["jobs"]}
    models = {model["id"] for model in get("/models")["models"]}
    began = time.monotonic()
    compose("down")
    say(f"down took {time.monotonic() - began:.0f} s")
    compose("up", "--wait", "--wait-timeout", PATIENCE)
    expect_resumed(finished(job_id))
    expect(jobs <= {job["id"] for job in get("/train-jobs")["jobs"]}, "jobs were lost")
    expect(models <= {model["id"] for model in get("/models")["models"]}, "models were lost")


def lose_redis() -> None:
    """After the volume of Redis is lost, jobs, models and the running training come back from storage."""
    job_id = start_job(1500)
    jobs = {job["id"] for job in get("/train-jobs")["jobs"]}
    compose("down")
    run("docker", "volume", "rm", f"{PROJECT}_redis")
    compose("up", "--wait", "--wait-timeout", PATIENCE)
    eventually(lambda: jobs <= {job["id"] for job in get("/train-jobs")["jobs"]}, "the jobs are listed again")
    expect(finished(job_id)["resumed_from_step"], "it began anew instead of resuming")


def scale_rendering() -> None:
    """`--scale worker-render=3` spreads the work over three workers."""
    compose("up", "-d", "--wait", "--wait-timeout", PATIENCE, "--no-recreate", "--scale", "worker-render=3")
    eventually(lambda: (get("/readyz") or {"workers": {"render": 0}})["workers"]["render"] == 3, "three workers")
    model = get("/train-jobs")["jobs"][-1]["model"]
    begun: list[subprocess.Popen[bytes]] = []
    for seed in range(24):
        form = ["-F", f"seed={seed}", "-F", f"model={model}", "-H", "Prefer: wait=0", f"{URL}/traversals"]
        begun.append(subprocess.Popen(["curl", "-s", "-o", "/dev/null", *form]))
    for process in begun:
        process.wait()

    def workers_that_worked() -> bool:
        busy = [c for c in containers("worker-render") if "traversal" in run("docker", "logs", c)]
        return len(busy) == 3

    eventually(workers_that_worked, "each of three workers renders")
    compose("up", "-d", "--wait", "--wait-timeout", PATIENCE, "--no-recreate", "--scale", "worker-render=1")


def deploy_in_mid_training() -> None:
    """A job resumes after new containers of a rebuilt image replace the old ones during training."""
    job_id = start_job(2500)
    compose("build")
    began = time.monotonic()
    compose("up", "-d", "--wait", "--wait-timeout", PATIENCE, "--force-recreate", "--no-deps", "worker-train", "api")
    say(f"new containers after {time.monotonic() - began:.0f} s")
    expect_resumed(finished(job_id))


def wrong_settings_are_reported() -> None:
    """Each wrong setting is reported in one clear line."""
    cases = [
        ("worker-train", {"BETAVAE_DEVICE": "cuda:0"}, "was asked for"),
        ("worker-train", {"BETAVAE_PROT": "1"}, "BETAVAE_PROT is not a setting; did you mean BETAVAE_PORT?"),
        ("api", {"BETAVAE_PROT": "1"}, "BETAVAE_PROT is not a setting; did you mean BETAVAE_PORT?"),
        ("api", {"BETAVAE_REDIS_URL": "http://redis"}, "BETAVAE_REDIS_URL"),
        ("api", {"BETAVAE_PUBLISHED_HOST": "192.0.2.1"}, "tokens add"),
        ("worker-render", {"BETAVAE_HOME": "/images"}, "cannot be written"),
        ("api", {"BETAVAE_HOME": "/images"}, "cannot be written"),
    ]
    for service, settings, words in cases:
        given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
        printed = compose("run", "--rm", "--no-deps", "-T", *given, service, check=False, timeout=float(PATIENCE))
        lines = [line for line in printed.splitlines() if line.strip() and not line.startswith(" ")]
        expect(len(lines) == 1 and words in lines[0], f"{service} {settings}: {printed}")
    printed = compose("run", "--rm", "--no-deps", "-T", "--service-ports", "api", check=False, timeout=float(PATIENCE))
    expect("port is already allocated" in printed, f"taken port: {printed}")


def an_unreachable_redis_is_waited_for() -> None:
    """With a wrong BETAVAE_REDIS_URL the worker waits, and logs one clear line."""
    name = f"{PROJECT}-lost"
    lost = "BETAVAE_REDIS_URL=redis://nowhere:6379/0"
    compose("run", "-d", "--name", name, "--no-deps", "-e", lost, "worker-render")
    try:
        line = eventually(lambda: run("docker", "logs", name), "a line in the log")
        expect("waiting for Redis at redis://nowhere:6379/0" in line and line.count("\n") == 1, line)
    finally:
        run("docker", "rm", "-f", name)


def the_logs_are_complete() -> None:
    """The logs name every job and contain no traceback."""
    logs = compose("logs", "--no-color", "api", "worker-train", "worker-render")
    expect("Traceback" not in logs, logs[-5000:])
    for job in get("/train-jobs")["jobs"]:
        expect(job["id"] in logs, f"job {job['id']} is not in the logs")


def many_machines() -> None:
    """Of two training workers that share only Redis and a bucket, one is killed; the other ends its job."""
    files = ("-f", "docker-compose.yml", "-f", "tests/docker_many.yml")
    compose(*files, "build", "objects")
    began = time.monotonic()
    compose(*files, "up", "-d", "--wait", "--wait-timeout", PATIENCE, "--scale", "worker-train=2")
    say(f"two training workers with volumes of their own after {time.monotonic() - began:.0f} s")
    volumes = [inspect(container, "{{json .Mounts}}") for container in containers("worker-train")]
    names = {
        mount["Name"] for mounts in map(json.loads, volumes) for mount in mounts if mount["Destination"] == "/data"
    }
    expect(len(names) == 2, f"the training workers have the volumes {names}")
    status, body = post_form("/datasets", name="squares", file=squares())
    expect(status in (200, 201, 202), f"POST /datasets: {status} {body[:500]!r}")
    job_id = start_job(1500)
    holder = get(f"/train-jobs/{job_id}")["worker"]
    (killed,) = (container for container in containers("worker-train") if holder.startswith(container[:12]))
    run("docker", "kill", killed)  # The restart policy lets it lie.
    began = time.monotonic()
    eventually(lambda: get(f"/train-jobs/{job_id}")["attempts"] == 2, "the other worker takes the job")
    say(f"taken over after {time.monotonic() - began:.0f} s")
    job = finished(job_id)
    expect_resumed(job)
    expect(job["worker"] not in (None, holder), f"{job['worker']} went on with the job of {holder}")
    status, body = post_form("/traversals", seed="1", model=job["model"])
    expect(status == 201, f"POST /traversals: {status} {body[:500]!r}")
    status, gif = ask("GET", json.loads(body)["links"]["sheet_gif"])
    expect(status == 200 and gif.startswith(b"GIF89a"), f"a file that is made late: {status} {gif[:500]!r}")


DRILLS = (
    build_and_start,
    containers_are_locked_down,
    the_gpu_stays_in_its_overlay,
    upload_train_and_traverse,
    kill_a_training_worker,
    restart_redis,
    scale_rendering,
    the_logs_are_complete,  # This drill comes before new containers replace the old ones and their logs.
    deploy_in_mid_training,
    wrong_settings_are_reported,
    an_unreachable_redis_is_waited_for,
    down_and_up,
    lose_redis,
    many_machines,
)
ALWAYS = (build_and_start, upload_train_and_traverse)


def main() -> int:
    """Runs the drills until one fails, and returns the exit code."""
    try:
        compose("down", "-v", "--remove-orphans")
        wanted = {argument for argument in sys.argv[1:] if not argument.startswith("-")}
        for drill in DRILLS:
            if wanted and drill not in ALWAYS and drill.__name__ not in wanted:
                continue
            say(f"{drill.__name__}: {drill.__doc__}")
            drill()
    except (DrillError, subprocess.TimeoutExpired, OSError) as error:
        say(f"FAILED: {error}")
        print(compose("ps", "-a", check=False))
        print(compose("logs", "--no-color", "--tail", "40", check=False))
        return 1
    finally:
        if "--keep" not in sys.argv:
            compose("down", "-v", "--remove-orphans", check=False)
    say("all drills passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
