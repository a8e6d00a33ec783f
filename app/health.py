"""The health check of the API on this machine, on the standard library alone, since it runs every few seconds.

`python -m app.health` is the health check of the API's container; it exits with 0 if /readyz answers 200.
"""

import http.client
import json
import os
import sys
from typing import Any

EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Maps each address that stands for all addresses of a machine to the one to connect to."""


def not_ready_because(host: str, port: int) -> str | None:
    """Returns why the API is not ready, or None if /readyz answers 200."""
    connection = http.client.HTTPConnection(EVERY_ADDRESS.get(host, host), port, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(10_000)
    except OSError as error:
        return f"the API does not answer yet ({error})"
    except http.client.HTTPException as error:
        return f"the API sent an invalid HTTP response ({error!r})"
    finally:
        connection.close()
    if response.status == 200:
        return None
    return _detail(body) or f"the API answers {response.status}"


def _detail(body: bytes) -> str:
    """Returns the detail of a problem+json answer, or the empty string."""
    try:
        problem: Any = json.loads(body)
    except ValueError:
        return ""
    return str(problem.get("detail") or "") if isinstance(problem, dict) else ""


def main() -> None:
    """Checks the API at the host and port of the settings."""
    host = os.environ.get("BETAVAE_HOST", "127.0.0.1")
    if (reason := not_ready_because(host, int(os.environ.get("BETAVAE_PORT", "8000")))) is not None:
        sys.exit(reason)


if __name__ == "__main__":
    main()
