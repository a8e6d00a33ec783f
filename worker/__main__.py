"""`python -m worker train|render`: starts a worker of one queue."""

import sys

from worker.job_records import QUEUES


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in QUEUES:
        print(f"usage: python -m worker {'|'.join(QUEUES)}", file=sys.stderr)
        return 2
    from worker.service import run_worker

    return run_worker(sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
