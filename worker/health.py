"""The health check of a worker: `python -m worker.health train|render`.

It succeeds if a worker of this machine consumes that queue.
"""

import socket
import sys

from worker.jobs.connections import connect, reaching_redis
from worker.jobs.queue import WORKERS
from worker.jobs.records import QUEUES, JobStoreUnavailable
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
            alive = list(client.scan_iter(f"{WORKERS}{queue}:{socket.gethostname()}-*", count=200))
    except (SettingsError, JobStoreUnavailable) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(alive)} workers of this machine consume the queue {queue}")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
