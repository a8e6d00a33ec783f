"""The files of a traversal, made from its frames; no torch."""

import functools
from collections.abc import Callable
from dataclasses import replace

from worker.rendering.cells import Cell, cells, dimension_cell
from worker.rendering.encoders import encode_mp4, encode_png, encode_webp, enlarge
from worker.rendering.gif import encode_gif
from worker.rendering.moving_sheet import MovingSheet
from worker.rendering.parts import EXTRA_FILES, STILL, dimension_file, end_files
from worker.rendering.rendered import Rendered, Strip
from worker.rendering.request import Pixels, TraversalRequest, parse_indices
from worker.rendering.still_sheet import still_sheet


class _Enlarged:
    """The frames of a strip; each is enlarged when it is indexed."""

    def __init__(self, frames: Pixels, request: TraversalRequest) -> None:
        self._frames = frames
        self._request = request

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, step: int) -> Pixels:
        return enlarge(self._frames[step], self._request.scale, self._request.resample)


def dimension_animation(start: Rendered, strip: Strip) -> tuple[str, bytes]:
    """Returns name and bytes of the GIF of one dimension, which shows bare frames unless captions are on."""
    assert strip.dimension is not None
    request = start.request
    if request.captions == "on":
        sheet = MovingSheet(start, [dimension_cell(start, strip)], captions=True, peers=_peers(start, strip))
        gif = encode_gif(sheet, request.fps, request.loop, sheet.reserved_colors, sheet.still)
    else:
        gif = encode_gif(_Enlarged(strip.frames, request), request.fps, request.loop)
    return dimension_file(strip.dimension), gif


def dimension_ends(strip: Strip) -> dict[str, bytes]:
    """Returns the first and the last picture of a dimension as PNG, not enlarged, by file name."""
    assert strip.dimension is not None
    return {
        name: encode_png(strip.frames[step]) for name, step in zip(end_files(strip.dimension), (0, -1), strict=True)
    }


def _peers(start: Rendered, strip: Strip) -> list[Cell]:
    """Returns cells with the texts of all dimensions of the request, so that their sheets get one size."""
    text = start.request.dimensions
    indices = [] if text in ("all", "active") else parse_indices("dimensions", text)
    return [dimension_cell(start, replace(strip, dimension=index)) for index in indices]


def sheet_makers(rendered: Rendered) -> dict[str, Callable[[], bytes]]:
    """Returns the functions that make the files of a traversal, by file name.

    These are all sheets and reconstruction.png; the files of single dimensions are made by dimension_animation and
    dimension_ends.
    """
    request = rendered.request
    captions = request.captions != "off"

    @functools.cache
    def moving() -> MovingSheet:
        return MovingSheet(rendered, cells(rendered), captions=captions)

    def gif() -> bytes:
        return encode_gif(moving(), request.fps, request.loop, moving().reserved_colors, moving().still)

    return {
        "sheet.gif": gif,
        "sheet.png": lambda: encode_png(still_sheet(rendered, captions=captions)),
        STILL: lambda: encode_png(enlarge(rendered.reconstruction, request.scale, request.resample)),
        EXTRA_FILES["webp"]: lambda: encode_webp(moving(), request.fps, request.loop),
        EXTRA_FILES["mp4"]: lambda: encode_mp4(moving(), request.fps, request.loop),
    }
