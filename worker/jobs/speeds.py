"""The speed of training on the workers, which they publish in Redis for estimates. This module loads no torch.

`betavae:speeds:<key>` is a hash for each kind of network (training.lengths.speed_key), with a field for each device.
"""

import json
import socket
from dataclasses import dataclass
from typing import Any

from worker.jobs.connections import reaching_redis
from worker.jobs.scripts import PREFIX

SPEEDS = f"{PREFIX}speeds:"
KEPT_SECONDS = 30 * 24 * 3600
"""Time after which a speed that nobody measured again is forgotten."""


@dataclass(frozen=True)
class Speed:
    """The speed of training on a device.

    Attributes:
        images_per_second: The speed.
        is_of_run: True if a whole training had it; False for a calibration, which another program may have slowed down.
    """

    images_per_second: float
    is_of_run: bool


def place_of(device: str) -> str:
    """Returns the field of a device of this machine."""
    return f"{socket.gethostname()}/{device}"


def publish_speed(client: Any, key: str, place: str, speed: Speed) -> None:
    """Records the speed of a device.

    Args:
        client: A Redis client.
        key: The kind of network, from training.lengths.speed_key.
        place: The device, from `place_of`.
        speed: Its speed.
    """
    with reaching_redis():
        seconds, _ = client.time()
        value = json.dumps({**vars(speed), "at": seconds})
        client.hset(f"{SPEEDS}{key}", place, value)
        client.expire(f"{SPEEDS}{key}", KEPT_SECONDS)


def known_speed(client: Any, key: str, place: str | None = None) -> Speed | None:
    """Returns a speed, or None where it is unknown.

    Args:
        client: A Redis client.
        key: The kind of network, from training.lengths.speed_key.
        place: The device; None takes the speed that was measured last on any device.
    """
    with reaching_redis():
        texts = client.hvals(f"{SPEEDS}{key}") if place is None else client.hmget(f"{SPEEDS}{key}", place)
    found = [json.loads(text) for text in texts if text is not None]
    newest = max(found, key=lambda one: one["at"], default=None)
    return None if newest is None else Speed(newest["images_per_second"], newest.get("is_of_run", False))
