"""The guard against other sites' web pages: hosts, origins, and the security headers of every answer."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from api_support import Service, assert_problem, service, zip_of_pictures
from page_support import chromium, skip_without_chromium
from starlette.responses import PlainTextResponse
from starlette.types import Message

from app.guard import GuardMiddleware
from app.main import create_app
from worker.stores.settings import Settings

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture(scope="module")
def api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process without workers, with its default settings."""
    with service(tmp_path_factory.mktemp("guard"), redis_process) as running:
        yield running


@pytest.fixture(scope="module")
def open_api(redis_process: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The HTTP process with further host names and with an origin whose pages may use it."""
    origins = "https://lab.example:443, http://lab.example:3000"
    home = tmp_path_factory.mktemp("open")
    settings: dict[str, Any] = {"allowed_hosts": "vae.example", "allowed_origins": origins, "max_upload_bytes": 1000}
    with service(home, redis_process, **settings) as running:
        yield running


# Hosts.


@pytest.mark.parametrize("port", ["", ":80", ":8000", ":65535"])
@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "127.0.0.1", "[::1]", socket.gethostname()]
)  # fmt: skip
def test_the_names_of_this_machine_are_answered(api: Service, host: str, port: str) -> None:
    assert api.client.get("/healthz", headers={"Host": host + port}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost, evil.example",
        "127.0.0.2",
        "[::2]",
        "localhost:8000:1",
        "",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/models/"), ("GET", "/docs"), ("DELETE", "/models/tiny"), ("OPTIONS", "/models")],
)
def test_a_foreign_host_is_refused(api: Service, host: str, method: str, path: str) -> None:
    answer = api.client.request(method, path, headers={"Host": host})
    assert "BETAVAE_ALLOWED_HOSTS" in assert_problem(answer, 421, "host_not_allowed")["detail"]
    assert "location" not in answer.headers
    assert api.client.get("/models/tiny").status_code == 200


def _ask_without_host(api: Service, path: str, more: str = "") -> bytes:
    url = urlsplit(api.url)
    with socket.create_connection((str(url.hostname), url.port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n{more}\r\n".encode())
        return connection.recv(4096).split(b"\r\n")[0]


def test_a_request_without_a_host_gets_only_the_health_check(api: Service) -> None:
    assert b" 200 " in _ask_without_host(api, "/healthz")
    assert b" 421 " in _ask_without_host(api, "/models")
    assert b" 421 " in _ask_without_host(api, "/healthz", "Host: evil.example\r\n")


@pytest.mark.parametrize(("host", "status"), [("10.1.2.3:8000", 200), ("10.1.2.4:8000", 421)])
def test_the_address_of_a_connection_is_an_allowed_host(host: str, status: int) -> None:
    """A server that listens on 0.0.0.0 learns its address from the connection."""
    guard = GuardMiddleware(PlainTextResponse("passed"), hosts=["localhost"], origins=[])
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/models",
        "server": ("10.1.2.3", 8000),
        "headers": [(b"host", host.encode())],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    anyio.run(guard, scope, receive, send)
    assert sent[0]["status"] == status


def test_a_setting_adds_names(open_api: Service, redis_process: str, tmp_path: Path) -> None:
    assert open_api.client.get("/models", headers={"Host": "VAE.example:80"}).status_code == 200
    assert open_api.client.get("/models", headers={"Host": "localhost"}).status_code == 200
    assert open_api.client.get("/models", headers={"Host": "x.vae.example"}).status_code == 421
    with service(tmp_path, redis_process, allowed_hosts="*", host="192.0.2.7") as anybody:
        assert anybody.client.get("/models", headers={"Host": "evil.example"}).status_code == 200
    with service(tmp_path, redis_process, host="192.0.2.7") as bound:
        assert bound.client.get("/models", headers={"Host": "192.0.2.7:8000"}).status_code == 200


# Other sites.


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "anything"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "OWN", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "OWN.evil.example"},
        {"Origin": "HTTPS-OWN"},
    ],
)
@pytest.mark.parametrize("method", [*UNSAFE, "TRACE", "PROPFIND"])
def test_unsafe_requests_of_other_sites_are_refused(api: Service, headers: dict[str, str], method: str) -> None:
    sent = {name: value.replace("HTTPS-OWN", api.url.replace("http:", "https:")) for name, value in headers.items()}
    sent = {name: value.replace("OWN", api.url) for name, value in sent.items()}
    answer = api.client.request(method, "/models/tiny", headers=sent)
    assert "BETAVAE_ALLOWED_ORIGINS" in assert_problem(answer, 403, "cross_site_refused")["detail"]
    assert "access-control-allow-origin" not in answer.headers


def test_a_foreign_form_makes_nothing(api: Service) -> None:
    before = api.client.get("/datasets").json()
    foreign = {"Origin": "https://evil.example"}
    form = {"data": {"name": "x"}, "files": {"file": ("a.zip", zip_of_pictures(2))}}
    job = api.client.post("/train-jobs", json={"dataset": "dsprites"}).json()
    assert_problem(api.client.post("/datasets", headers=foreign, **form), 403, "cross_site_refused")  # type: ignore[arg-type]
    assert_problem(api.client.post("/train-jobs", headers=foreign, **form), 403, "cross_site_refused")  # type: ignore[arg-type]
    plain = {**foreign, "Content-Type": "text/plain"}
    assert_problem(api.client.post(job["links"]["cancel"], headers=plain), 403, "cross_site_refused")
    assert api.client.get("/datasets").json() == before
    assert [j["status"] for j in api.client.get("/train-jobs").json()["jobs"]] == ["queued"]
    assert api.client.post(job["links"]["cancel"]).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "OWN"},
        {"Origin": "OWN", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "localhost", "Origin": "http://localhost"},
        {"Host": "localhost:80", "Origin": "http://localhost"},
        {"Host": "[::1]:9", "Origin": "http://[::1]:9"},
    ],
)
def test_requests_of_its_own_pages_and_of_other_clients_are_answered(api: Service, headers: dict[str, str]) -> None:
    sent = {name: value.replace("OWN", api.url) for name, value in headers.items()}
    answer = api.client.put("/models/default", json={"id": "tiny"}, headers=sent)
    assert answer.status_code == 200, answer.text


def test_safe_requests_of_other_sites_are_answered_without_cors_headers(api: Service) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = api.client.request(method, "/models", headers={"Origin": "https://evil.example"})
        assert answer.status_code in (200, 204)
        assert "access-control-allow-origin" not in answer.headers


def test_a_setting_allows_other_origins(open_api: Service) -> None:
    preflight = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type, prefer"}
    for origin in ("https://lab.example", "http://lab.example:3000"):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = open_api.client.put("/models/default", json={"id": "tiny"}, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        asked = open_api.client.options("/models/default", headers={"Origin": origin, **preflight})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, origin)
        # Our limits refuse the first one, and the framework, whose answers are replaced, refuses the second.
        for body in ({"content": b" " * 2_000_000}, {"files": {"image": ("a.png", b" " * 2_000_000)}}):
            large = open_api.client.post("/traversals", headers={"Origin": origin}, **body)
            assert_problem(large, 413, "upload_too_large")
            assert large.headers["access-control-allow-origin"] == origin
    for origin in ("http://lab.example", "https://evil.example", "null"):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = open_api.client.put("/models/default", json={"id": "tiny"}, headers=headers)
        assert_problem(answer, 403, "cross_site_refused")
        asked = open_api.client.options("/models/default", headers={"Origin": origin, **preflight})
        assert_problem(asked, 400, "bad_request")
        assert "access-control-allow-origin" not in asked.headers


# Security headers.


def test_no_answer_is_sniffed_as_another_type(api: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    answers = [
        api.client.request(method, path, headers=headers, content=content)
        for method, path, headers, content in [
            ("GET", "/docs", {}, b""),
            ("GET", "/docs/assets/swagger-ui.css", {}, b""),
            ("GET", "/docs/assets/nope.css", {}, b""),
            ("GET", "/openapi.json", {}, b""),
            ("GET", "/metrics", {}, b""),
            ("GET", "/models/tiny/export", {}, b""),
            ("GET", "/models", {}, b""),
            ("GET", "/models/", {}, b""),
            ("GET", "/", {}, b""),
            ("GET", "/nope", {}, b""),
            ("PUT", "/healthz", {}, b""),
            ("OPTIONS", "/models", {}, b""),
            ("GET", "/models", {"Host": "evil.example"}, b""),
            ("POST", "/datasets", {"Origin": "null"}, b""),
            ("POST", "/train-jobs", {}, b" " * 2_000_000),
        ]
    ]
    monkeypatch.setattr("worker.stores.models.ModelRegistry.page", fail)
    answers.append(api.client.get("/models", headers={"Connection": "close"}))
    assert answers[-1].status_code == 500
    for answer in answers:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], answer.request.url
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"], answer.request.url


def test_pages_run_only_files_of_this_service(api: Service) -> None:
    answer = api.client.get("/docs")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    for name in ("default-src", "frame-ancestors", "base-uri", "form-action"):
        assert policy[name] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "<script>" not in answer.text
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/models/", "/train-jobs/?limit=3"])
def test_redirects_are_relative(api: Service, path: str) -> None:
    answer = api.client.get(path, headers={"Host": "localhost:1"})
    assert answer.status_code == 307
    target = urlsplit(answer.headers["location"])
    assert (target.scheme, target.netloc, target.path[:1]) == ("", "", "/")
    assert api.client.get(path, follow_redirects=True).status_code == 200


def test_every_operation_says_that_it_may_be_refused() -> None:
    for operations in create_app(Settings(home=Path("nowhere"))).openapi()["paths"].values():
        for method, operation in operations.items():
            assert "421" in operation["responses"]
            assert ("403" in operation["responses"]) == (method not in ("get", "head", "options"))


# A browser.


@contextmanager
def _foreign_page(html: str) -> Iterator[str]:
    """Serves a page on another origin of this machine, and yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_ATTACK = """<script>
async function attack(base, cancel) {
  const form = new FormData();
  form.set("name", "foreign");
  form.set("file", new Blob([new Uint8Array(%(archive)s)]), "a.zip");
  const send = {mode: "no-cors", method: "POST"};
  await fetch(base + "/datasets", {...send, body: form});
  await fetch(cancel, {...send, headers: {"Content-Type": "text/plain"}, body: "x"});
  await fetch(base + "/models/tiny", {method: "DELETE"}).catch(() => 0);
  document.title = "done";
}
</script>"""


@pytest.mark.browser
def test_a_page_of_another_origin_can_change_nothing(api: Service) -> None:
    """The posts of a page on localhost and on 127.0.0.1 at another port make nothing and stop nothing.

    The same post from the service's own page succeeds.
    """
    skip_without_chromium()
    before = api.client.get("/datasets").json()
    job = api.client.post("/train-jobs", json={"dataset": "dsprites", "name": "attacked"}).json()
    html = _ATTACK % {"archive": list(zip_of_pictures(1))}
    statuses: list[int] = []
    job_url, cancel_url = api.url + job["links"]["self"], api.url + job["links"]["cancel"]
    with _foreign_page(html) as address, chromium() as browser:
        for origin in (f"http://{address}", f"http://127.0.0.1:{address.rpartition(':')[2]}"):
            page = browser.new_page()
            page.on("response", lambda r: statuses.append(r.status) if r.url.startswith(api.url) else None)
            page.goto(origin)
            page.evaluate("([base, url]) => attack(base, url)", [api.url, cancel_url])
            page.wait_for_function("document.title == 'done'")
            page.close()
        status = api.client.get(job_url).json()["status"]
        page = browser.new_page()
        page.goto(f"{api.url}/docs")
        own = page.evaluate("url => fetch(url, {method: 'POST'}).then(answer => answer.status)", cancel_url)
    assert statuses.count(403) >= 4
    assert set(statuses) <= {403, 204}
    assert status == "queued"
    assert api.client.get("/datasets").json() == before
    assert api.client.get("/models/tiny").status_code == 200
    assert own == 200
