"""The view that other sites frame: off until a setting names them, and then in their frames only."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from api_support import assert_problem, http_server
from page_support import skip_without_chromium
from playwright.sync_api import Browser, expect

from worker.stores.settings import Settings


@pytest.fixture(scope="module")
def blog() -> Iterator[ThreadingHTTPServer]:
    """A site that answers every address with the text in its attribute `post`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(server.post.encode())  # type: ignore[attr-defined]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def embedding(redis_process: str, tmp_path_factory: pytest.TempPathFactory, blog: ThreadingHTTPServer) -> Iterator[str]:
    """Address of a service that the blog may frame under its address 127.0.0.1, and the sites of a school."""
    hosts = f"http://127.0.0.1:{blog.server_port},https://*.school.example"
    settings = Settings(home=tmp_path_factory.mktemp("embed"), redis_url=redis_process, embed_hosts=hosts)
    with http_server(settings) as url:
        yield url


def test_framing_is_off_until_a_site_is_named(redis_process: str, tmp_path: Path) -> None:
    with http_server(Settings(home=tmp_path, redis_url=redis_process)) as url:
        problem = assert_problem(httpx.get(f"{url}/embed?model=chairs"), 404, "not_found")
    assert "BETAVAE_EMBED_HOSTS" in problem["detail"]


def test_only_the_embedded_view_may_be_framed(embedding: str, blog: ThreadingHTTPServer) -> None:
    policy = httpx.get(f"{embedding}/embed").headers["content-security-policy"]
    assert f"frame-ancestors http://127.0.0.1:{blog.server_port} https://*.school.example;" in policy
    assert "frame-ancestors 'none'" in httpx.get(f"{embedding}/").headers["content-security-policy"]


@pytest.mark.browser
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_browser_shows_the_frame_on_named_sites_only(
    browser: Browser, embedding: str, blog: ThreadingHTTPServer, host: str
) -> None:
    skip_without_chromium()
    context = browser.new_context(viewport={"width": 960, "height": 560}, reduced_motion="reduce")
    page = context.new_page()
    refusals: list[str] = []
    page.on("console", lambda message: refusals.append(message.text) if "frame-ancestors" in message.text else None)
    blog.post = f'<iframe src="{embedding}/embed?model=chairs" width="900" height="520" title="Chairs"></iframe>'  # type: ignore[attr-defined]
    address = f"http://{host}:{blog.server_port}/post"
    inside = page.frame_locator("iframe")
    if host == "127.0.0.1":
        page.goto(address, wait_until="load")
        slider = inside.locator('input[type=range][data-latent="3"]')
        slider.fill("1.5", timeout=60_000)
        expect(slider).to_have_value("1.5")
        expect(inside.locator('body[data-ready="true"]')).to_be_attached()
        expect(inside.get_by_role("link", name="Open it")).to_have_attribute("href", re.compile("model=chairs&z="))
        assert refusals == []
    else:
        with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            page.goto(address, wait_until="load")
        assert len(refusals) == 1
        expect(inside.locator("canvas")).to_have_count(0)
    context.close()
