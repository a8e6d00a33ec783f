"""The health check of a worker: `python -m worker.health train|render`.

It succeeds if a worker of this machine consumes that queue; a render worker consumes the calls as well.
"""

import socket
import sys
from typing import Any

from worker.jobs.connections import connect, reaching_redis
from worker.jobs.queue import WORKERS
from worker.jobs.records import CALLS, QUEUES, JobStoreUnavailable
from worker.stores.settings import SettingsError, load_settings


def main() -> int:
    """Checks the queue that the command line names. Returns the exit status."""
    if len(sys.argv) != 2 or sys.argv[1] not in QUEUES:
        print(f"usage: python -m worker.health {'|'.join(QUEUES)}", file=sys.stderr)
        return 2
    queue = sys.argv[1]
    try:
        settings = load_settings()
        client = connect(settings.redis_url or settings.broker_url)
        with reaching_redis():
            alive = [_number(client, one) for one in ((queue, CALLS) if queue == "render" else (queue,))]
    except (SettingsError, JobStoreUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{min(alive)} workers of this machine consume the queue {queue}")
    return 0 if all(alive) else 1


def _number(client: Any, queue: str) -> int:
    """Returns the number of workers of this machine that consume a queue."""
    return len(list(client.scan_iter(f"{WORKERS}{queue}:{socket.gethostname()}-*", count=200)))


if __name__ == "__main__":
    sys.exit(main())
