"""`python -m worker train|render`: starts a worker of one queue."""

import logging
import os
import sys

from worker.jobs.records import QUEUES


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in QUEUES:
        print(f"usage: python -m worker {'|'.join(QUEUES)}", file=sys.stderr)
        return 2
    from worker.service import run_worker

    return run_worker(sys.argv[1])


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: unloading torch took 8 s on a busy machine, and all that lasts is written.
    os._exit(status)
