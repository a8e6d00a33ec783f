"""Requests whose headers or forms cost more than they weigh: each is refused, or read in a time that grows with it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from api_support import Service, assert_problem, service

from app.api.bodies import FORM_OVERHEAD_BYTES, MAX_FIELD_BYTES
from app.api.page import assets_digest
from app.authorization import COOKIE, with_own_cookie

SECRET = "bv_00000000_" + "A" * 43


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers."""
    with service(tmp_path_factory.mktemp("headers"), redis_process) as running:
        yield running


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (f"{COOKIE}={SECRET}", f"{COOKIE}={SECRET}"),
        (f"theirs=1; {COOKIE}={SECRET} ; more={'x' * 9000}", f"{COOKIE}={SECRET}"),
        (f'{COOKIE}="{SECRET}"', None),
        (f'{COOKIE}="' + "\\" * 60_000 + '"', None),
        ('theirs="' + "\\" * 60_000 + '"', None),
        (f"not{COOKIE}={SECRET}; {COOKIE}; {COOKIE}=", None),
        ("", None),
    ],
    ids=["own", "among others", "quoted", "backslashes", "another's backslashes", "no value", "empty"],
)
def test_only_the_own_cookie_is_read(sent: str, read: str | None) -> None:
    """A quoted value takes Python's parser a time that grows with the square of its length."""
    kept = with_own_cookie([(b"host", b"localhost"), (b"cookie", sent.encode())])
    assert kept == [(b"host", b"localhost"), *([(b"cookie", read.encode())] if read else [])]


def test_cookies_that_came_in_several_headers_are_one() -> None:
    own = (b"cookie", f"{COOKIE}={SECRET}".encode())
    assert with_own_cookie([(b"cookie", b"a=b"), own, own]) == [own]


def test_a_cookie_of_backslashes_is_answered(api: Service) -> None:
    for path in ("/session", "/models", "/healthz"):
        answer = api.client.get(path, headers={"Cookie": f'{COOKIE}="' + "\\" * 60_000 + '"'})
        assert answer.status_code == 200


@pytest.mark.parametrize("text", ["bytes=" + " " * 60_000 + "x", "bytes=" + "0" * 60_000], ids=["spaces", "zeros"])
def test_a_range_of_spaces_is_ignored(api: Service, text: str) -> None:
    answer = api.client.get("/datasets/dsprites/sample.png", headers={"Range": text})
    assert answer.status_code == 200


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-16", "unicode_escape", "no-such", "latin-1"])
def test_a_form_has_to_be_in_utf8(api: Service, charset: str) -> None:
    """Punycode's decoder takes ten seconds for 250 kB of digits."""
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    body = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"9" * 250_000 + b"\r\n--x--\r\n"
    answer = api.client.post("/datasets", content=body, headers={"Content-Type": kind})
    assert_problem(answer, 400, "bad_request")
    utf8 = api.client.post("/datasets", content=body, headers={"Content-Type": kind.replace(charset, "UTF-8")})
    assert_problem(utf8, 422, "invalid_request")


def test_the_texts_of_a_form_are_bounded_together(api: Service) -> None:
    part = '--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + "a" * (MAX_FIELD_BYTES - 1) + "\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    fits = FORM_OVERHEAD_BYTES // MAX_FIELD_BYTES
    answer = api.client.post("/datasets", content=part * fits + "--x--\r\n", headers=headers)
    assert_problem(answer, 422, "invalid_request")  # The name is given more than once.
    answer = api.client.post("/datasets", content=part * (fits + 1) + "--x--\r\n", headers=headers)
    assert_problem(answer, 400, "bad_request")


@pytest.mark.parametrize("path", ["%00", "a" * 300, "a/" * 3000, "..%2f..%2fmain.py", "index.html/x", "js"])
def test_the_page_has_no_file_of_a_strange_name(api: Service, path: str) -> None:
    for digest in ("x", assets_digest()):
        assert_problem(api.client.get(f"/assets/{digest}/{path}"), 404, "not_found")


def test_a_body_that_finds_no_place_is_refused(
    redis_process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one place is taken by a form whose end does not come."""
    monkeypatch.setattr("app.dependencies.MAX_BODIES", 1)
    monkeypatch.setattr("app.api.bodies.PLACE_SECONDS", 0.3)
    with service(tmp_path, redis_process) as running:
        url = urlsplit(running.url)
        head = "POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        kind = "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
        with socket.create_connection((url.hostname or "", url.port or 0)) as slow:
            slow.sendall((head + kind).encode())
            while (answer := running.client.post("/train-jobs", json={"dataset": "nope"})).status_code != 429:
                assert_problem(answer, 404, "unknown_dataset")
            assert_problem(answer, 429, "too_many_requests")
            assert answer.headers["retry-after"] == "10"
            assert_problem(running.client.post("/datasets", files={"file": ("a.zip", b"x")}), 429, "too_many_requests")
            assert running.client.get("/models").status_code == 200
        while running.client.post("/train-jobs", json={"dataset": "nope"}).status_code == 429:
            pass  # The connection's end is noticed soon.
