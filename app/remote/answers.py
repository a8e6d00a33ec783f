"""Answers of the service as instances of their models and as pictures."""

from collections.abc import Sequence
from typing import TypeVar

import httpx
import numpy as np
from PIL import Image
from pydantic import BaseModel, ValidationError

from app.remote.errors import unexpected

Answer = TypeVar("Answer", bound=BaseModel)


def read_answer(kind: type[Answer], response: httpx.Response) -> Answer:
    """Returns the body of an answer as an instance of its model.

    Raises:
        ServiceError: It has another shape (unexpected_answer).
    """
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise unexpected(response, f"no {kind.__name__}") from error


def to_image(pixels: Sequence[Sequence[Sequence[float]]]) -> Image.Image:
    """Returns pixel means in [0, 1], (H, W, C), as a picture."""
    rounded = np.rint(np.clip(np.asarray(pixels), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(rounded[:, :, 0] if rounded.shape[2] == 1 else rounded)
