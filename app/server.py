"""The API process: uvicorn on a socket that the launcher bound, or on the host and port of the settings.

It is run as `python -m app.server`. uvicorn's own --fd treats every socket as a Unix socket, which leaves Nagle's delay
on.
"""

import argparse
import logging
import socket
import sys

import uvicorn

from app.deadlines import IDLE_SECONDS, MAX_HEADER_BYTES, DeadlineProtocol
from app.main import create_app
from worker.jobs.storage_identity import claim_database
from worker.stores.logs import set_up_logging
from worker.stores.redis_urls import without_password
from worker.stores.room import remove_leftovers
from worker.stores.settings import SettingsError, load_settings
from worker.stores.tokens import check_exposure

log = logging.getLogger("app.server")  # __name__ is __main__.

STOP_SECONDS = 3
"""Time that open answers, such as event streams, may go on after the process is asked to stop."""


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m app.server", description="Serve the HTTP API.")
    parser.add_argument("--fd", type=int, help="a listening socket that the parent process bound")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        set_up_logging(settings)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        settings.make_temporary_folder()
        remove_leftovers(settings.temporary_folder)
        application = create_app(settings)
        services = application.state.services
        claim_database(services.settings, services.storage)
        check_exposure(settings, services.tokens)
    except (SettingsError, OSError) as error:
        print(f"api: {error}", file=sys.stderr)
        sys.exit(2)
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
        http=DeadlineProtocol,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        backlog=2048,
    )
    log.info("api: port %d, storage %s", settings.port, without_password(settings.storage))
    sockets = None if arguments.fd is None else [socket.socket(fileno=arguments.fd)]
    uvicorn.Server(config).run(sockets=sockets)


if __name__ == "__main__":
    main()
