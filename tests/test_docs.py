"""The documentation agrees with the code: settings, routes, commands, links, paths, names and pictures."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from app.cli.main import app as command_line
from app.main import create_app
from docs.page_pictures import PAGE_PICTURES, SCREEN
from docs.pictures import make_pictures
from training.metrics.names import ALL_METRICS
from training.objectives.registry import OBJECTIVES
from training.presets import PRESETS
from worker.rendering.request import TraversalRequest
from worker.stores.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("app", "worker", "training", "models")
FOLDERS = (*PACKAGES, "benchmarks", "docker", "docs", "tests")
MOST_WORDS = 1000
MOST_COLUMNS = 100

README = (ROOT / "README.md").read_text("utf-8")
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def page_text(name: str) -> str:
    """Returns the text of a page in docs/."""
    return (ROOT / "docs" / name).read_text("utf-8")


def between(text: str, name: str) -> str:
    """Returns the lines between the two comments that mark a table."""
    match = re.search(rf"<!-- {name}: .*?-->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)
    assert match is not None
    return match[1]


def code_blocks(text: str) -> str:
    """Returns the content of all fenced blocks, with continued lines joined."""
    return re.sub(r"\s*\\\n\s*", " ", "\n".join(re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)))


def code_spans(text: str) -> list[str]:
    """Returns the inline code of a page without its fenced blocks; a span may go on in the next line."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]


def test_every_setting_has_the_row_that_the_code_gives_it() -> None:
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| `BETAVAE_{name.upper()}` | {default} | {field.description} |")
    assert between(page_text("operations.md"), "settings") == "\n".join(lines)


@every_page
def test_every_variable_on_a_page_is_a_setting(page: Path) -> None:
    known = {f"BETAVAE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"BETAVAE_[A-Z_]+[A-Z]", page.read_text("utf-8"))) <= known


@cache
def routes() -> set[tuple[str, str]]:
    """Returns the method and path of every route in the OpenAPI document."""
    return {(method.upper(), path) for path, methods in create_app().openapi()["paths"].items() for method in methods}


def test_the_table_of_routes_is_that_of_the_openapi_document() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \| \S", between(page_text("api.md"), "routes"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == routes()


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("training.md", OBJECTIVES),
        ("training.md", PRESETS),
        ("metrics.md", ALL_METRICS),
    ],
)
def test_every_name_has_a_row(page: str, names: Any) -> None:
    rows = re.findall(r"^\| `(\w+)`", page_text(page), re.MULTILINE)
    assert set(names) - set(rows) == set()


def test_every_option_of_a_traversal_is_named() -> None:
    named = re.findall(r"`(\w+)`", page_text("traversals.md"))
    assert set(TraversalRequest().to_json()) - set(named) == set()


def betavae_calls(text: str) -> Iterator[list[str]]:
    """Returns the arguments of every call of `betavae` on a page, in blocks and in inline code."""
    for line in [*code_blocks(text).splitlines(), *code_spans(text)]:
        match = re.search(r"(?:^|\s)(?:\.venv/bin/)?betavae(?=\s|$)(.*)", line)
        if match is not None:
            yield shlex.split(match[1].replace("…", " "), comments=True)


@every_page
def test_every_command_and_option_on_a_page_exists(page: Path) -> None:
    root = typer.main.get_command(command_line)
    for call in betavae_calls(page.read_text("utf-8")):
        command: Any = root
        words = list(call)
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, f"betavae {' '.join(call)}"
            command = command.commands[words.pop(0)]
        known = {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        options = {word.partition("=")[0] for word in words if word.startswith("-")} - {"--help"}
        assert options <= known, f"betavae {' '.join(call)}"


@dataclass(frozen=True)
class Request:
    """The request of a curl command."""

    method: str
    path: str
    fields: frozenset[str]


def curl_requests(text: str) -> Iterator[Request]:
    """Returns every curl command on a page, inline and in blocks, where one goes on until its quotes are closed."""
    commands = re.findall(r"^curl (?:'[^']*'|[^'\n])*", code_blocks(text), re.MULTILINE)
    for command in [*commands, *(span for span in code_spans(text) if span.startswith("curl -"))]:
        words = shlex.split(command, comments=True)
        address = next((word for word in words if word.startswith("http://127.0.0.1:8000")), None)
        if address is None:
            continue
        fields = [words[i + 1].partition("=")[0] for i, word in enumerate(words) if word == "-F"]
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if fields or "-d" in words else "GET"
        path = address.removeprefix("http://127.0.0.1:8000").partition("?")[0]
        yield Request(method, path, frozenset(fields))


@every_page
def test_every_curl_command_requests_a_route(page: Path) -> None:
    options = {*TraversalRequest().to_json(), "image", "image2", "model"}
    for request in curl_requests(page.read_text("utf-8")):
        matching = [
            path
            for method, path in routes()
            if method == request.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.path)
        ]
        assert matching, request
        if request.path == "/traversals":
            assert request.fields <= options, request


def test_commands_are_found() -> None:
    """Without this test, the tests above would pass if their patterns found no command."""
    assert Request("POST", "/traversals", frozenset({"image", "model", "format"})) in set(curl_requests(README))
    assert Request("POST", "/train-jobs", frozenset()) in set(curl_requests(README))
    assert ["train", "avatars", "--minutes", "10"] in list(betavae_calls(README))
    assert ["train", "--preset", "dsprites"] in list(betavae_calls(page_text("models.md")))


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_every_path_in_code_exists(page: Path) -> None:
    for span in code_spans(page.read_text("utf-8")):
        if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*", span):
            assert (ROOT / span).exists(), span


@every_page
def test_every_python_module_on_a_page_exists(page: Path) -> None:
    for module in re.findall(r"python -m ([\w.]+\w)", page.read_text("utf-8")):
        assert importlib.util.find_spec(module) is not None, module


def test_every_page_that_the_code_names_exists() -> None:
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".c")]
    for path in sources:
        for name in re.findall(r"\bdocs/\w+\.(?:md|png|gif)\b", path.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{path.relative_to(ROOT)} names {name}"


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


@every_page
def test_prose_fits_the_window(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    long = [line for line in prose.splitlines() if len(line) > MOST_COLUMNS and not line.startswith(("|", "!["))]
    assert long == []


def tree_folders() -> Iterator[str]:
    """Returns the folders in the README's file tree."""
    parent = ""
    for indent, name in re.findall(r"^( *)(\w+)/ +\S", README, re.MULTILINE):
        parent = parent if indent else name
        yield f"{parent}/{name}" if indent else name


def test_the_file_tree_matches_the_repository() -> None:
    """The tree shows two levels."""
    found = (p.parent.relative_to(ROOT) for folder in PACKAGES for p in (ROOT / folder).rglob("__init__.py"))
    packages = {"/".join(path.parts[:2]) for path in found}
    shown = set(tree_folders())
    assert [folder for folder in shown if not (ROOT / folder).is_dir()] == []
    assert packages - shown == set()


def test_the_pictures_are_those_that_the_command_makes(tmp_path: Path) -> None:
    """Sizes and lengths are compared, since a processor may round a pixel differently; the sample needs no network."""
    paths = make_pictures(tmp_path)
    for path in paths:
        shipped = ROOT / "docs" / path.name
        with Image.open(path) as made, Image.open(shipped) as kept:
            assert (made.format, made.size, getattr(made, "n_frames", 1)) == (
                kept.format,
                kept.size,
                getattr(kept, "n_frames", 1),
            )
    assert (tmp_path / "sample.png").read_bytes() == (ROOT / "docs" / "sample.png").read_bytes()
    assert sum((ROOT / "docs" / path.name).stat().st_size for path in paths) < 10**6


def test_the_pictures_of_the_page_are_there_and_small() -> None:
    """Their command needs a running service and a browser; here only their sizes are looked at."""
    for name in PAGE_PICTURES:
        with Image.open(ROOT / "docs" / name) as picture:
            assert picture.width == SCREEN[0]
    shown = {path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".gif", ".png")}
    assert shown == {*PAGE_PICTURES, "sample.png", "sheet.png", "traversal.gif"}
    assert sum((ROOT / "docs" / name).stat().st_size for name in PAGE_PICTURES) < 400_000
