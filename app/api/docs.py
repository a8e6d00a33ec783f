"""`/docs` and `/problems`: the API's description, served from here alone; it works with no internet."""

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse, RedirectResponse

from app.problems import KINDS, Problem
from app.schemas import ProblemDescription

ASSETS = Path(fastapi_offline.__file__).parent / "static"
ASSETS_URL = "/docs/assets"

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(request: Request) -> RedirectResponse:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")


@router.get("/docs")
def swagger(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="β-VAE service",
        swagger_js_url=f"{root}{ASSETS_URL}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{ASSETS_URL}/swagger-ui.css",
        swagger_favicon_url=f"{root}{ASSETS_URL}/favicon.png",
        # The validator badge would ask a foreign host about our document.
        swagger_ui_parameters={
            "validatorUrl": None,
            "tryItOutEnabled": True,
            "docExpansion": "list",
            "deepLinking": True,
        },
    )


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
