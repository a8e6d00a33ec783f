"""Clients that send or read too slowly are cut off, and those that hang up are no error of the service."""

import http.client
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from api_support import Service, service

from app import deadlines


@pytest.fixture
def api(redis_process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The HTTP process with deadlines of a fraction of a second."""
    monkeypatch.setattr(deadlines, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(deadlines, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(deadlines, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(deadlines, "READ_SECONDS", 0.3)
    with service(tmp_path / "home", redis_process) as running:
        yield running


def connect(api: Service, data: bytes = b"", *, receive_bytes: int = 0) -> socket.socket:
    """Opens a connection, and sends the beginning of a request.

    Args:
        api: The service.
        data: The beginning.
        receive_bytes: Bytes that this machine keeps of answers that were not read; 0: as many as usual.
    """
    parts = urlsplit(api.url)
    connection = socket.socket()
    connection.settimeout(60)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect((parts.hostname, parts.port))
    connection.sendall(data.replace(b"HOST", parts.netloc.encode()))
    return connection


def rest(connection: socket.socket) -> bytes:
    """Returns what comes until the server closes the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("beginning", [b"", b"GET /health", b"GET /healthz HTTP/1.1\r\nHost: HOST\r\nX-A: "])
def test_a_connection_without_whole_headers_is_closed(api: Service, beginning: bytes) -> None:
    with closing(connect(api, beginning)) as connection:
        assert rest(connection) == b""
    assert api.client.get("/healthz").status_code == 200


def test_a_connection_is_closed_that_begins_a_second_request_and_does_not_go_on(api: Service) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"
    with closing(connect(api, request + b"GET /he")) as connection:
        assert rest(connection).count(b"HTTP/1.1 200") == 1


def test_a_connection_with_a_request_now_and_then_stays_open(api: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "HEADER_SECONDS", 1.5)
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=60)
    connection.connect()
    socket_at_first = connection.sock
    longer = threading.Thread(target=wait_for_a_deadline, args=[api])
    longer.start()
    while longer.is_alive():
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        longer.join(0.2)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    assert connection.sock is socket_at_first
    connection.close()


@pytest.mark.parametrize(
    ("path", "kind"), [("/train-jobs", "application/json"), ("/datasets?name=a", "application/zip")]
)
def test_a_body_that_does_not_come_is_a_408(api: Service, path: str, kind: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: HOST\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n{{"
    with closing(connect(api, head.encode())) as connection:
        status, _, body = rest(connection).partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["code"] == "request_timeout"
    assert not list((api.settings.home / "tmp").iterdir())


def test_only_a_body_of_stated_length_is_read_in_large_pieces(
    redis_process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of one byte cost far more than their length, also in a request that waits behind such a body."""
    reads: list[tuple[int, int]] = []
    receive = deadlines.DeadlineProtocol.data_received

    def note(protocol: deadlines.DeadlineProtocol, data: bytes) -> None:
        begin = reads[-1][1] if reads else 0
        reads.append((begin, begin + len(data)))
        receive(protocol, data)

    monkeypatch.setattr(deadlines.DeadlineProtocol, "data_received", note)
    head = b"POST /datasets?name=a HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/zip\r\n"
    plain = head + b"Content-Length: 2000000\r\n\r\n"
    chunked = head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n"
    with service(tmp_path, redis_process) as running, closing(connect(running, plain)) as connection:
        end = len(plain.replace(b"HOST", urlsplit(running.url).netloc.encode())) + 2_000_000
        connection.sendall(bytes(2_000_000) + chunked.replace(b"HOST", b"localhost"))
        assert rest(connection).count(b"HTTP/1.1 4") == 2
    large = [(begin, stop) for begin, stop in reads if stop - begin > deadlines.RECEIVED_BYTES]
    assert reads[-1][1] > end + 300_000
    assert large
    assert max(stop for _, stop in large) <= end


def test_an_answer_that_nobody_reads_is_given_up(api: Service) -> None:
    request = b"GET /models/tiny/export HTTP/1.1\r\nHost: HOST\r\n\r\n"
    num, whole = 60, len(api.client.get("/models/tiny/export").content)
    with closing(connect(api, request * num, receive_bytes=4096)) as connection:
        begun = -1
        while begun != (begun := num_exports(api)):
            wait_for_a_deadline(api)
        wait_for_a_deadline(api)
        assert begun < num
        assert len(rest(connection)) < num * whole
        assert num_exports(api) == begun


def num_exports(api: Service) -> int:
    """Returns the number of exports whose answer has begun."""
    found = re.search(r'requests_total\{.*export",status="200"\} (\d+)', api.client.get("/metrics").text)
    return int(found[1]) if found else 0


def wait_for_a_deadline(api: Service) -> None:
    """Waits until the server has closed a connection that does nothing."""
    with closing(connect(api)) as idle:
        rest(idle)


def test_an_upload_that_hangs_up_leaves_no_trace(api: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = [
        "POST /datasets?name=a HTTP/1.1",
        "Host: HOST",
        "Content-Type: application/zip",
        "Content-Length: 9",
        "",
        "PK",
    ]
    head = "\r\n".join(lines).encode()
    connect(api, head).close()
    while 'route="/datasets",status="400"' not in api.client.get("/metrics").text:
        pass
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]
    assert not list((api.settings.home / "tmp").iterdir())
