"""Whether the API on this machine can do its work; the standard library alone, because it is asked every few seconds.

As a command, `python -m app.health`, the health check of the API's container: exits with 0 when /readyz says yes.
"""

import http.client
import json
import os
import sys
from typing import Any

EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An address that means all of a machine's → the one to ask."""


def not_ready_because(host: str, port: int) -> str | None:
    """None when /readyz answers 200, else what it said, or why it did not answer."""
    connection = http.client.HTTPConnection(EVERY_ADDRESS.get(host, host), port, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(10_000)
    except OSError as error:
        return f"the API does not answer yet ({error})"
    except http.client.HTTPException as error:
        return f"the API does not answer rightly ({error!r})"
    finally:
        connection.close()
    if response.status == 200:
        return None
    return _detail(body) or f"the API answers {response.status}"


def _detail(body: bytes) -> str:
    """The text of a problem+json answer, or the empty string."""
    try:
        problem: Any = json.loads(body)
    except ValueError:
        return ""
    return str(problem.get("detail") or "") if isinstance(problem, dict) else ""


def main() -> None:
    """Asks the API that the settings describe."""
    host = os.environ.get("BETAVAE_HOST", "127.0.0.1")
    if (reason := not_ready_because(host, int(os.environ.get("BETAVAE_PORT", "8000")))) is not None:
        sys.exit(reason)


if __name__ == "__main__":
    main()
