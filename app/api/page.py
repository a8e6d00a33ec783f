"""The web page at `/` and its files. The addresses of the files hold a digest, so that browsers keep them for ever."""

import gzip
import hashlib
import mimetypes
import re
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse, Response

from app.dependencies import Services_
from app.headers import PAGE_POLICY
from app.problems import Problem
from worker.stores.settings import PREFIX

WEB = (Path(__file__).parent.parent / "web").resolve()
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".wasm": "application/wasm"}
"""Media types of served files; browsers refuse modules and WebAssembly of other types."""
FOREVER = "public, max-age=31536000, immutable"
POLICY = PAGE_POLICY.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'") + "; worker-src 'self'"
"""Content-Security-Policy of the page, which runs the decoder as WebAssembly and in a Web Worker."""

router = APIRouter(include_in_schema=False)


def _files() -> dict[str, Path]:
    """Returns the files of the page by their paths."""
    return {path.relative_to(WEB).as_posix(): path for path in sorted(WEB.rglob("*")) if path.is_file()}


def assets_digest() -> str:
    """Returns the digest of all files of the page, which changes whenever one of them does."""
    digest = hashlib.sha256()
    for name, path in _files().items():
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def imported_modules(start: Path) -> list[Path]:
    """Returns a module and all that it imports at once, directly or not, in the order in which they are found."""
    found = [start]
    for path in found:  # It grows while it is read.
        names = re.findall(r'^(?:import|export)\b[^;]*?"(\.[^"]+)";', path.read_text("utf-8"), re.MULTILINE)
        near = dict.fromkeys((path.parent / name).resolve() for name in names)
        found += [module for module in near if module not in found]
    return found


@lru_cache
def _preloads(name: str) -> str:
    """Returns links for all modules of a page, which browsers would otherwise find one import after the other."""
    modules = imported_modules(WEB / "js" / f"{name}.js")
    return "\n".join(f'<link rel="modulepreload" href="{{assets}}/{it.relative_to(WEB).as_posix()}">' for it in modules)


def _takes_gzip(request: Request) -> bool:
    return bool(re.search(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", request.headers.get("accept-encoding", "")))


def _html(request: Request, name: str, script: str, policy: str) -> HTMLResponse:
    text = (WEB / name).read_text("utf-8").replace("{modules}", _preloads(script))
    text = text.replace("{assets}", f"assets/{request.app.state.assets_digest}")
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if _takes_gzip(request):
        return HTMLResponse(gzip.compress(text.encode(), mtime=0), headers={**headers, "Content-Encoding": "gzip"})
    return HTMLResponse(text, headers=headers)


@router.get("/")
def page(request: Request) -> HTMLResponse:
    return _html(request, "index.html", "main", POLICY)


@router.get("/embed")
def embed(request: Request, services: Services_) -> HTMLResponse:
    hosts = services.settings.embed_host_names
    if not hosts:
        raise Problem("not_found", f"Framing is off; {PREFIX}EMBED_HOSTS lists the sites that may frame this page.")
    policy = POLICY.replace("frame-ancestors 'none'", f"frame-ancestors {' '.join(hosts)}")
    return _html(request, "embed.html", "embed", policy)


@router.get("/assets/{digest}/{path:path}")
async def asset(request: Request, digest: str, path: str) -> Response:
    file = request.app.state.assets.get(path) if digest == request.app.state.assets_digest else None
    if file is None:
        raise Problem("not_found", "The page has no such file; reload it.")
    media_type = MEDIA_TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
    headers = {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
    if _takes_gzip(request):
        return Response(
            _compressed(file, digest), media_type=media_type, headers={**headers, "Content-Encoding": "gzip"}
        )
    return Response(file.read_bytes(), media_type=media_type, headers=headers)


@lru_cache(maxsize=512)
def _compressed(file: Path, digest: str) -> bytes:
    """Returns a file of the page with this digest, compressed by gzip."""
    return gzip.compress(file.read_bytes(), mtime=0)


def install(app: FastAPI) -> None:
    """Adds the page and its files to the application."""
    app.state.assets, app.state.assets_digest = _files(), assets_digest()
    app.include_router(router)
