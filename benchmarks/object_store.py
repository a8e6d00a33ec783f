"""An S3-compatible server in memory (moto's) that counts requests and bytes.

    python -m benchmarks.object_store [--host 127.0.0.1] [--port 9000]

It prints the variables with which the service reaches it. What it stores is lost when it ends.
"""

import argparse
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

BUCKET = "lab"
Start = Callable[..., Any]


@dataclass
class Traffic:
    """What the clients of the server have done."""

    requests: Counter[str] = field(default_factory=Counter)
    """Requests by kind: GET, PUT, HEAD, DELETE, POST (deletion of several files, uploads in parts), LIST."""
    bytes_in: int = 0
    """Bytes of the bodies that the server received."""
    bytes_out: int = 0
    """Bytes of the bodies that the server sent."""

    def since(self, before: "Traffic") -> "Traffic":
        """Returns what was added after an earlier count."""
        return Traffic(
            self.requests - before.requests, self.bytes_in - before.bytes_in, self.bytes_out - before.bytes_out
        )


class Counted:
    """A WSGI application that counts what goes through another one."""

    def __init__(self, application: Callable[[dict[str, Any], Start], Iterable[bytes]]) -> None:
        self._application = application
        self._traffic = Traffic()
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Start) -> list[bytes]:
        body = b"".join(self._application(environ, start_response))
        kind = str(environ["REQUEST_METHOD"])
        if kind == "GET" and environ["PATH_INFO"].strip("/") == BUCKET:
            kind = "LIST"
        with self._lock:
            self._traffic.requests[kind] += 1
            self._traffic.bytes_in += int(environ.get("CONTENT_LENGTH") or 0)
            self._traffic.bytes_out += len(body)
        return [body]

    def count(self) -> Traffic:
        """Returns the requests and bytes so far."""
        with self._lock:
            return Traffic(Counter(self._traffic.requests), self._traffic.bytes_in, self._traffic.bytes_out)


@dataclass(frozen=True)
class ObjectStore:
    """A running server."""

    url: str
    """Address of a prefix in its bucket, as BETAVAE_STORAGE_URL takes it."""
    environment: dict[str, str]
    """Variables with which s3fs reaches the server."""
    count: Callable[[], Traffic]
    """Returns the requests and bytes so far."""


@contextmanager
def serve_objects(host: str = "127.0.0.1", port: int = 0) -> Iterator[ObjectStore]:
    """Runs a server with an empty bucket in threads of this process, and yields it.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """
    # The service needs neither package; moto is installed for development alone.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # Connections stay open, as with a real store.

        def log_request(self, *_: object) -> None:
            pass

    counted = Counted(DomainDispatcherApplication(create_backend_app))
    server = make_server(host, port, counted, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{server.port}",
        "AWS_ACCESS_KEY_ID": "betavae",
        "AWS_SECRET_ACCESS_KEY": "betavae",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        _make_bucket(environment["AWS_ENDPOINT_URL"])
        yield ObjectStore(f"s3://{BUCKET}/service", environment, counted.count)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _make_bucket(address: str) -> None:
    # moto checks no signature, but it reads the region from one.
    signature = (
        "AWS4-HMAC-SHA256 Credential=betavae/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    )
    request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT", headers={"Authorization": signature})
    urllib.request.urlopen(request).close()


def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=9000, help="port to listen on (default: 9000)")
    arguments = parser.parse_args()
    with serve_objects(arguments.host, arguments.port) as store:
        print(json.dumps({"BETAVAE_STORAGE_URL": store.url, **store.environment}, indent=2), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
