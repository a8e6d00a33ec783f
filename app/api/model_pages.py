"""What browsers take of a model: its weights in the page's order, and the page in one file."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app import problems
from app.api.negotiation import bytes_response
from app.dependencies import ModelId, Services_
from app.explorer_file import explorer_file, policy_of
from app.openapi import binary_content
from models.info import WEIGHTS_FILE
from models.web_weights import Part, read_tensors, web_weights

router = APIRouter(tags=["models"])


@router.get(
    "/models/{model_id}/web",
    summary="A model's weights for browsers",
    response_class=Response,
    operation_id="getModelWebWeights",
    responses={
        200: {
            "description": "A safetensors file in the order in which the page's kernel reads it.",
            "content": binary_content("application/octet-stream"),
        },
        304: {"description": "The caller has it already (If-None-Match)."},
        **problems.responses("unknown_model", "invalid_request", "range_not_satisfiable"),
    },
)
def get_model_web_weights(
    model_id: ModelId,
    request: Request,
    services: Services_,
    encoder: Annotated[bool, Query(description="Add the encoder's weights to the decoder's.")] = False,
    precision: Annotated[Literal["float16", "float32"], Query(description="Type of the numbers.")] = "float16",
) -> Response:
    """The page decodes latents in the browser with them. Weights beyond the range of float16 stay float32."""
    info, folder = services.models.get(model_id)
    parts: tuple[Part, ...] = ("decoder", "encoder") if encoder else ("decoder",)
    tensors = read_tensors((folder / WEIGHTS_FILE).read_bytes())
    data = web_weights(tensors, info.network, parts, half=precision == "float16")
    return bytes_response(request, data, "application/octet-stream", immutable=False)


@router.get(
    "/models/{model_id}/explorer.html",
    summary="A model's sliders in one file",
    response_class=Response,
    operation_id="getModelExplorer",
    responses={
        200: {
            "description": "A page that opens from disk without a network.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
        304: {"description": "The caller has it already (If-None-Match)."},
        **problems.responses("unknown_model", "invalid_request", "range_not_satisfiable"),
    },
)
def get_model_explorer(
    model_id: ModelId,
    request: Request,
    services: Services_,
    encoder: Annotated[bool, Query(description="Add the encoder, so that a picture of one's own can be shown.")] = True,
) -> Response:
    """The file holds the weights and everything else that it needs. Pictures that are shown in it never leave it."""
    info, folder = services.models.get(model_id)
    data = explorer_file(info, folder, encoder=encoder)
    headers = {"Content-Security-Policy": f"{policy_of(data)}; frame-ancestors 'none'"}
    return bytes_response(
        request, data, "text/html; charset=utf-8", filename=f"{model_id}.html", immutable=False, headers=headers
    )
