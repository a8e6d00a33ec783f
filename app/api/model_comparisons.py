"""/models/compare: two models side by side, their dimensions aligned."""

from typing import Annotated

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app import problems
from app.api.bodies import read_form
from app.api.media import read_upload
from app.api.model_calls import run_comparison
from app.api.models import CALL_PROBLEMS, IMAGE_PROBLEMS, load_picture
from app.api.negotiation import FILE_WAIT_SECONDS, LEAST_WAIT_SECONDS, PreferHeader, accepted, wait_seconds
from app.dependencies import Services, Services_
from app.openapi import binary_content, request_body
from app.requests import ImageForm
from app.schemas import Comparison, respond
from worker.model_calls import CallAnswer
from worker.rendering.request import Pixels
from worker.stores.models import ModelRecord

router = APIRouter(tags=["models"])

_MODEL = r"[^,\s\x00-\x1f\x7f-\x9f]+"
"""A model's name or id; Python's str.strip also strips control characters."""
ModelsQuery = Annotated[
    str,
    Query(
        description="Two models, separated by a comma.",
        examples=["chairs,dsprites"],
        json_schema_extra={"pattern": f"^{_MODEL},{_MODEL}$"},
    ),
]


def _records(services: Services, models: str) -> list[ModelRecord]:
    """Returns the two models that a request names.

    Raises:
        Problem: It does not name two different models (invalid_request).
        UnknownModel: There is no such model.
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    if len(names) != 2:
        raise problems.invalid("models", f"must name two models, such as chairs,dsprites, not {len(names)}")
    records = [services.models.record(name) for name in names]
    if records[0].id == records[1].id:
        raise problems.invalid("models", f"must name two different models, not {records[0].id} twice")
    return records


def _comparison(records: list[ModelRecord], answer: CallAnswer) -> Comparison:
    models = [{"id": record.id, **model} for record, model in zip(records, answer.values["models"], strict=True)]
    return Comparison(**{**answer.values, "models": models})


@router.get(
    "/models/compare",
    response_model_exclude_unset=True,
    summary="Two models compared",
    responses=problems.responses(*CALL_PROBLEMS),
)
async def compare_models(
    request: Request, services: Services_, models: ModelsQuery, prefer: PreferHeader = None
) -> Comparison:
    """The answer has losses, KL and scores of both, the aligned dimensions, and UDR.

    The codes are those of pictures that each model decodes from its prior; models of different sizes or channels get
    them converted to their own.
    """
    accepted(request.headers.get("accept"), ["application/json"])
    records = await anyio.to_thread.run_sync(_records, services, models)
    seconds = max(LEAST_WAIT_SECONDS, wait_seconds(prefer, FILE_WAIT_SECONDS))
    answer = await run_comparison(services, [record.id for record in records], seconds)
    return _comparison(records, answer)


@router.post(
    "/models/compare",
    summary="One picture through two models",
    response_class=Response,
    openapi_extra=request_body({"multipart/form-data": ImageForm}),
    responses={
        200: {
            "model": Comparison,
            "content": binary_content("image/png"),
            "description": "A PNG, or the numbers, by Accept.",
        },
        **problems.responses(*IMAGE_PROBLEMS),
    },
)
async def compare_models_on_image(
    request: Request, services: Services_, models: ModelsQuery, prefer: PreferHeader = None
) -> Response:
    """The answer is a sheet: the picture, both reconstructions, and the aligned dimensions of both side by side; or by
    `Accept` the comparison as JSON with the picture's posterior in each model.
    """
    kind = accepted(request.headers.get("accept"), ["image/png", "application/json"])
    records = await anyio.to_thread.run_sync(_records, services, models)
    async with read_form(request, ImageForm) as form:

        def load() -> list[Pixels]:
            data = read_upload(form.image, services.settings.max_upload_bytes, "max_upload_bytes")
            return [load_picture(services, data, record.info.preprocessing) for record in records]

        pictures = await anyio.to_thread.run_sync(load, limiter=services.decoding)
    seconds = max(LEAST_WAIT_SECONDS, wait_seconds(prefer, FILE_WAIT_SECONDS))
    answer = await run_comparison(services, [record.id for record in records], seconds, pictures)
    if kind == "image/png":
        return Response(answer.data, headers={"Vary": "Accept"}, media_type=kind)
    return respond(_comparison(records, answer), headers={"Vary": "Accept"})
