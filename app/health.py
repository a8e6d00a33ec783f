"""The container's health check of the API: `python -m app.health` exits with 0 when this machine's API is healthy."""

import sys

from app.launcher import not_ready_because
from worker.settings import load_settings


def main() -> None:
    """Asks /readyz of the API on this machine."""
    settings = load_settings()
    if (reason := not_ready_because(settings.host, settings.port)) is not None:
        sys.exit(reason)


if __name__ == "__main__":
    main()
