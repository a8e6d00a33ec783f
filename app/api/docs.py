"""`/docs` and `/problems`: the API's description, served from here alone; it works with no internet.

The page holds no inline script, so that its Content-Security-Policy (app.headers) can forbid all of them.
"""

import json
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse, Response

from app.problems import KINDS, Problem
from app.schemas import Answer

ASSETS = Path(fastapi_offline.__file__).parent / "static"
ASSETS_URL = "/docs/assets"
START_URL = "/docs/start.js"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1.0">
<title>β-VAE service</title>
<link rel="stylesheet" href="{assets}/swagger-ui.css">
<link rel="icon" href="{assets}/favicon.png">
</head>
<body>
<p class="back"><a href="{root}/">β-VAE, the page</a></p>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; the description itself is at {root}/openapi.json.</noscript>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script src="{start}"></script>
</body>
</html>
"""
_START = """// Starts Swagger UI on the description of the API.
// This is a file of its own, since the page's Content-Security-Policy allows no inline script.
const options = {options};
window.ui = SwaggerUIBundle({{
  ...options,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
}});
"""
_OPTIONS = {
    "dom_id": "#swagger-ui",
    "layout": "BaseLayout",
    "showExtensions": True,
    "showCommonExtensions": True,
    # The validator badge would ask a foreign host about our document.
    "validatorUrl": None,
    "tryItOutEnabled": True,
    "docExpansion": "list",
    "deepLinking": True,
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def swagger(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "")
    return HTMLResponse(_PAGE.format(root=root, assets=root + ASSETS_URL, start=root + START_URL))


@router.get(START_URL)
def start_script(request: Request) -> Response:
    options = {"url": f"{request.scope.get('root_path', '')}/openapi.json", **_OPTIONS}
    return Response(_START.format(options=json.dumps(options, indent=2)), media_type="text/javascript")


class ProblemDescription(Answer):
    """The meaning of a problem's code."""

    code: str
    status: int
    title: str


@router.get("/problems/{code}")
def problem_kind(code: str) -> ProblemDescription:
    """Describes a code, at the address that every problem names as its type."""
    if code not in KINDS:
        raise Problem("not_found", f"There is no problem with the code {code}.")
    return ProblemDescription(code=code, status=KINDS[code].status, title=KINDS[code].title)


def install(app: FastAPI) -> None:
    """Adds the pages and their assets to the application."""
    app.include_router(router)
    app.mount(ASSETS_URL, StaticFiles(directory=ASSETS), name="docs-assets")
