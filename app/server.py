"""The API process: uvicorn, on a socket that the launcher bound or on the host and port of the settings.

Run as `python -m app.server`. uvicorn's own --fd takes every socket for a Unix one, which leaves Nagle's delay on.
"""

import argparse
import socket
import sys

import uvicorn

from worker.settings import SettingsError, load_settings

STOP_SECONDS = 3
"""How long open answers (an event stream, for one) may go on once the process is told to stop."""


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m app.server", description="Serve the HTTP API.")
    parser.add_argument("--fd", type=int, help="a listening socket that the parent process bound")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(f"betavae: {error}")
    from app.main import create_app

    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
        backlog=2048,
    )
    sockets = None if arguments.fd is None else [socket.socket(fileno=arguments.fd)]
    uvicorn.Server(config).run(sockets=sockets)


if __name__ == "__main__":
    main()
