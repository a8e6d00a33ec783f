"""/session: the token of a browser, kept in a cookie, since pictures and event streams cannot send headers."""

from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Request
from starlette.datastructures import Headers
from starlette.responses import Response

from app import problems
from app.authorization import COOKIE, find_token, token_required
from app.dependencies import Services_
from app.schemas import Answer, respond

router = APIRouter(tags=["operation"])
COOKIE_SECONDS = 30 * 24 * 3600


class Session(Answer):
    """What a caller may do: whether tokens are required, and the token that came along."""

    required: bool
    name: str | None
    scope: str | None


@router.get("/session", summary="What the caller may do")
async def get_session(request: Request, services: Services_) -> Session:
    """`required` says whether the service asks for tokens; `name` and `scope` belong to the token that came along."""
    required = await anyio.to_thread.run_sync(services.tokens.exist)
    token = await anyio.to_thread.run_sync(find_token, services.tokens, request.headers)
    return Session(required=required, name=token and token.name, scope=token and token.scope)


@router.post(
    "/session",
    summary="Keep a token in a cookie",
    response_model=Session,
    responses=problems.responses("token_required"),
)
async def create_session(
    request: Request, services: Services_, authorization: Annotated[str, Header(description="Bearer TOKEN.")] = ""
) -> Response:
    """Browsers send the cookie with every request to this service, also for pictures and event streams."""
    token = await anyio.to_thread.run_sync(find_token, services.tokens, Headers({"authorization": authorization}))
    if token is None:
        raise token_required("There is no such token, or it was revoked.")
    answer = respond(Session(required=True, name=token.name, scope=token.scope))
    answer.set_cookie(
        COOKIE,
        authorization.partition(" ")[2].strip(),
        max_age=COOKIE_SECONDS,
        path=request.scope.get("root_path", "") or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.delete("/session", status_code=204, summary="Forget the token of the cookie")
def delete_session(request: Request) -> Response:
    """The cookie is removed; the token stays valid."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=request.scope.get("root_path", "") or "/", httponly=True, samesite="strict")
    return answer
