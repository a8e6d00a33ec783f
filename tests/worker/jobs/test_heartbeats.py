"""Heartbeats: the workers that consume a queue."""

import json
import subprocess
import sys
from typing import Any

from worker.jobs.queue import beat, heartbeat_key, workers_alive

DIES = """
import sys
from worker.jobs.connections import connect
from worker.jobs.queue import beat
beat(connect(sys.argv[1]), sys.argv[2], seconds=3600)
"""


def test_a_worker_of_this_machine_that_died_counts_no_longer(redis_server: str, redis_client: Any) -> None:
    beat(redis_client, heartbeat_key("train", "host", 1), seconds=3600, device="cpu")
    assert workers_alive(redis_client) == {"train": 1, "render": 0, "calls": 0}
    subprocess.run([sys.executable, "-c", DIES, redis_server, heartbeat_key("train", "host", 2)], check=True)
    assert redis_client.exists(heartbeat_key("train", "host", 2))
    assert workers_alive(redis_client) == {"train": 1, "render": 0, "calls": 0}


def test_a_worker_elsewhere_counts_until_its_heartbeat_expires(redis_client: Any) -> None:
    for process in ("", "another boot:1:1", "x", None):
        redis_client.set(heartbeat_key("render", "far", 1), json.dumps({"at": 1, "process": process}))
        assert workers_alive(redis_client)["render"] == 1
    redis_client.set(heartbeat_key("render", "old", 1), '{"at": 1}')
    assert workers_alive(redis_client)["render"] == 2
