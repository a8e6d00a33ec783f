"""Chromium for the tests, screenshots and timings of the web page."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK = (1440, 900)
PHONE = (360, 740)
"""The two sizes of window, in CSS pixels, at which every state is looked at."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
"""Tags of the axe rules that every state keeps."""
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
"""Chromium gives requests up with this when an interface comes or goes, as when Docker starts a container."""

TWO_KEYS = """(element, key) => {
  for (let k = 0; k < 2; k++) element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
}"""
"""JavaScript that presses a key twice before the page can be drawn anew."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Runs the system's Chromium, which keeps its window hidden."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


def skip_without_chromium() -> None:
    """Skips the test where there is no Chromium, and fails it in CI."""
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing")
        pytest.skip(f"needs {CHROMIUM}")


@dataclass
class Visit:
    """A tab of its own browser profile, with what the page complained of."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Requests that got no answer or a 5xx, with the reason; a page that lacks a module stays empty."""
    complaints: list[str] = field(default_factory=list)

    def open(self, fragment: str = "", *, ready: bool = False) -> Page:
        """Opens a view and returns its page.

        Args:
            fragment: The part of the address after "#", such as "/models"; empty for the first screen.
            ready: Wait until the first picture is decoded.
        """
        self.page.goto(f"{self.url}/#{fragment}" if fragment else f"{self.url}/", wait_until="load")
        while any(NETWORK_CHANGED in failure for failure in self.failures):
            self.failures.clear()
            self.page.reload(wait_until="load")
        self.page.wait_for_selector("header.topbar")
        if ready:
            self.page.wait_for_selector('body[data-ready="true"]')
        return self.page

    def throttle(self, rate: float) -> None:
        """Makes the tab's processor slower by a factor; 1 ends this."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": rate})

    def themes(self) -> Iterator[str]:
        """Shows the page in light and then in dark, which only its styles tell apart, and yields the theme's name."""
        themes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for theme in themes:
            self.page.emulate_media(color_scheme=theme)
            yield theme

    def axe_violations(self) -> list[str]:
        """Returns what axe finds in the page as it is: one text for each element that breaks a rule of RULES."""
        before = len(self.complaints)
        options = {"runOnly": {"type": "tag", "values": RULES}}
        found = Axe().run(self.page, options=options).response["violations"]
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        del self.complaints[before:]  # Axe tries inline styles, which the page's policy refuses.
        return [
            f"{violation['id']}: {node['html'][:200]} ({node.get('failureSummary', '')})"
            for violation in found
            for node in violation["nodes"]
        ]

    def foreign_requests(self) -> list[str]:
        """Returns the addresses outside the service that the page asked for."""
        own = (self.url + "/", "data:", "blob:")
        return [address for address in self.requests if not address.startswith(own)]


def visit(browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any) -> Visit:
    """Opens a tab, with touch where it is as narrow as a phone.

    Args:
        browser: The browser.
        url: Address of the service without a slash at its end.
        size: Width and height of the window in CSS pixels.
        **options: Further options of a Playwright browser context, such as reduced_motion="reduce".
    """
    is_phone = size[0] < 500
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        **{"has_touch": is_phone, "is_mobile": is_phone, "device_scale_factor": 2 if is_phone else 1, **options},
    )
    tab = Visit(context.new_page(), url)

    def on_console(message: ConsoleMessage) -> None:
        # A refused request is logged as an error by the browser itself; the tests of refusals expect it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            tab.complaints.append(message.text)

    def on_response(response: Response) -> None:
        if response.status >= 500:
            tab.failures.append(f"HTTP {response.status}: {response.url}")

    tab.page.on("request", lambda request: tab.requests.append(request.url))
    tab.page.on("requestfailed", lambda request: tab.failures.append(f"{request.failure}: {request.url}"))
    tab.page.on("response", on_response)
    tab.page.on("console", on_console)
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    return tab


Visitor = Callable[..., Visit]
"""The fixture `visitor`: called as `visitor(size=PHONE, url=None, **options)`, it opens a tab."""


def sideways_scroll(page: Page) -> int:
    """Returns by how many CSS pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def module(page: Page, path: str, body: str, argument: Any = None) -> Any:
    """Runs `body`, which sees the exports of a module of the page as `it` and `argument`."""
    return page.evaluate(
        f"""async argument => {{
          const it = await import(new URL("{path}", document.querySelector("script[type=module]").src).href);
          {body}
        }}""",
        argument,
    )
