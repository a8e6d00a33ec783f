"""Starts a worker of one queue: `python -m worker train|render`."""

import logging
import os
import sys

from worker.jobs.records import QUEUES


def main() -> int:
    """Runs the worker that the command line names. Returns the exit status."""
    if len(sys.argv) != 2 or sys.argv[1] not in QUEUES:
        print(f"usage: python -m worker {'|'.join(QUEUES)}", file=sys.stderr)
        return 2
    from worker.service import run_worker

    return run_worker(sys.argv[1])


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # sys.exit would unload torch, which took 8 s on a busy machine, while every file is written.
    os._exit(status)
