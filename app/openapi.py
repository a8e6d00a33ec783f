"""The API's description at /openapi.json: FastAPI's own, with the bodies and the problems that it cannot see."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from app import authorization, deadlines, guard, problems, room
from app.dependencies import REQUEUEING
from app.requests import BINARY, BODIES

REF_TEMPLATE = "#/components/schemas/{model}"


def operation_id(route: APIRoute) -> str:
    """Returns the name of a route's function in camelCase: list_train_jobs is listTrainJobs."""
    return re.sub(r"_(\w)", lambda match: match[1].upper(), route.name)


def binary_content(*media_types: str) -> dict[str, Any]:
    """Returns the OpenAPI entries of an answer that is a file, by media type."""
    return {media_type: {"schema": BINARY} for media_type in media_types}


def add_action(
    router: APIRouter,
    path: str,
    act: Callable[..., BaseModel],
    *,
    action: str,
    noun: str,
    resource: str,
    text: str,
    unknown: str,
) -> None:
    """Adds the route that changes the state of something in one way.

    Args:
        router: Where the route goes.
        path: The address of the thing.
        act: The route's function.
        action: The verb, with which the address ends.
        noun: What the thing is called.
        resource: Its name in the names of operations.
        text: What the action does.
        unknown: The code of the problem that there is no such thing.
    """
    article = "an" if noun[0] in "aeiou" else "a"
    refusals = ("unknown_dataset", "unknown_model", "in_use", "too_many_requests") if action in REQUEUEING else ()
    router.add_api_route(
        f"{path}/{action}",
        act,
        methods=["POST"],
        response_model_exclude_unset=True,
        summary=f"{action.capitalize()} {article} {noun}",
        description=f"{text} The request is refused (409) where the {noun}'s state does not allow it.",
        operation_id=f"{action}{resource}",
        responses=problems.responses(unknown, "transition_refused", *refusals, "job_store_unavailable"),
    )


def install(app: FastAPI) -> None:
    """Makes `app` describe itself; the description is made when it is first asked for."""
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]


class _WithoutTitles(GenerateJsonSchema):
    """Gives no titles to fields, which would repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _description(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        root_path = app.state.services.settings.root_path
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
            servers=[{"url": root_path}] if root_path else None,
        )
        bodies: tuple[type[BaseModel], ...] = (*BODIES, problems.ProblemDetails)
        components = schema["components"]["schemas"]
        components |= models_json_schema(
            [(kind, "validation") for kind in bodies],
            ref_template=REF_TEMPLATE,
            schema_generator=_WithoutTitles,
        )[1]["$defs"]
        components.pop("HTTPValidationError", None)
        components.pop("ValidationError", None)
        for component in components.values():
            _show_units(component)
        _use_problems(schema)
        _link_what_is_made(schema)
        guard.document(schema)
        deadlines.document(schema)
        room.document(schema)
        authorization.document(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _show_units(component: dict[str, Any]) -> None:
    """Moves the units of a component's fields into their texts, where every tool shows them."""
    for field in component.get("properties", {}).values():
        if "unit" in field:
            field["description"] = f"{field['description']} ({field.pop('unit')})"


def _link_what_is_made(schema: dict[str, Any]) -> None:
    """Links the answer of each POST that makes something, which has its `id`, to the operations on that thing.

    A file that may be missing as long as the thing is not done (`unknown_file`) has no link.
    """
    for path, operations in schema["paths"].items():
        below = re.compile(re.escape(path) + r"/\{(\w+)\}(?:/[^{}]+)?")
        given = {name: f"$request.path.{name}" for name in re.findall(r"\{(\w+)\}", path)}
        links = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {**given, found[1]: "$response.body#/id"},
            }
            for other, others in schema["paths"].items()
            if (found := below.fullmatch(other))
            for operation in others.values()
            if "unknown_file" not in str(operation["responses"].get("404", ""))
        }
        answers = operations.get("post", {"responses": {}})["responses"]
        for status in ("200", "201", "202") if links else ():
            if "application/json" in answers.get(status, {}).get("content", {}):
                answers[status]["links"] = links


def _use_problems(schema: dict[str, Any]) -> None:
    """Replaces the 422 that FastAPI documents on every route with a parameter by the problem that the service sends."""
    for path in schema["paths"].values():
        for operation in path.values():
            answer = operation["responses"].get("422")
            if answer and "HTTPValidationError" in str(answer.get("content", {}).get("application/json", "")):
                entry = problems.responses("invalid_request")[422]
                operation["responses"]["422"] = entry


def request_body(kinds: Mapping[str, type[BaseModel] | None], **example: Any) -> dict[str, Any]:
    """Returns the OpenAPI entry of a route's body.

    Args:
        kinds: The model of the body for each media type; None: the file itself.
        **example: `example` or `examples` of the first media type.
    """
    content: dict[str, Any] = {}
    for media_type, kind in kinds.items():
        content[media_type] = {
            "schema": BINARY if kind is None else {"$ref": f"#/components/schemas/{kind.__name__}"},
            **({} if content else example),
        }
    return {"requestBody": {"required": True, "content": content}}
