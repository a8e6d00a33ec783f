"""The still sheet: a figure for a paper, with a row of frames for each strip of a traversal; no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from worker.rendering.captions import ACCENT, INK, MUTED, PAPER, font, text_size_px, text_width, ticks, wrapped
from worker.rendering.cells import Cell, Panel, cells, draw_edge, draw_warning, panels, warning
from worker.rendering.encoders import enlarge, to_image
from worker.rendering.rendered import Rendered, Vector, column_indices
from worker.rendering.request import Pixels, TraversalRequest

_UNITS = {
    "prior": "latent value",
    "posterior": "standard deviations of the aggregate posterior",
    "quantiles": "standard deviations of the aggregate posterior, in steps of equal probability",
    "image": "standard deviations of this image's posterior",
}
"""Unit of the numbers above the columns, by the request's range."""
_NAME_WIDTHS = 12, 40
"""Smallest width of the names of the rows, and the bound up to which they widen for a long label, in font sizes."""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Sizes that everything on the sheet is laid out by; all in px."""

    tile: int
    """Side of a picture."""
    text: int
    """Size of the font."""
    line: int
    """Distance between lines of text."""
    gap: int
    """Space between pictures."""

    @property
    def pitch(self) -> int:
        """Distance from one picture to the next."""
        return self.tile + self.gap

    @property
    def panel_pitch(self) -> int:
        """Distance from one picture of a panel to the next."""
        return self.tile + self.line + 2 * self.gap


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    """Size of the sheet, and where its parts stand; all in px."""

    scale: _Scale
    width: int
    height: int
    pad: int
    """Space around everything."""
    names_left: int
    """Left side of the names of the rows."""
    first: int
    """Left side of the first column."""
    right_panel: int
    """Left side of the right panel."""
    top: int
    """Top of the first row."""

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Returns left and top of the picture in a row and column."""
        return self.first + column * self.scale.pitch, self.top + row * self.scale.pitch


def still_sheet(rendered: Rendered, *, captions: bool) -> Pixels:
    """Draws the figure: original, reconstruction, and a row of frames for each cell.

    Args:
        rendered: The traversal.
        captions: Whether texts and the pictures at the sides are drawn.

    Returns:
        (H, W, 3) uint8.
    """
    request, shown, columns = rendered.request, _rows(rendered), column_indices(rendered.request)
    scale = _scale(rendered.reconstruction.shape[0] * request.scale, captions=captions)
    left, right = panels(rendered) if captions else ([], [])
    max_lines = max(1, scale.pitch // scale.line)
    names = [_name_lines(cell, scale.text, max_lines) for cell in shown] if captions else []
    unit = _unit(rendered, shown) if captions else ""
    geometry = _geometry(scale, len(shown), len(columns), left=left, right=right, names=names, unit=unit)
    said = warning(rendered, scale.text, geometry.width - 2 * geometry.pad) if captions else []
    image = Image.new("RGB", (geometry.width, geometry.height + len(said) * scale.line), PAPER)
    draw = ImageDraw.Draw(image)
    draw_warning(draw, said, (geometry.pad, geometry.height - geometry.pad // 2), scale.text)

    _draw_panel(image, left, geometry.pad, geometry, request)
    _draw_panel(image, right, geometry.right_panel, geometry, request)
    if captions:
        draw.text((geometry.first, geometry.pad), unit, fill=MUTED, font=font(scale.text))
        # The values of the prior's range are the same in all rows, and those of a categorical latent are not positions.
        header = shown[0].values if request.range == "prior" and shown else rendered.positions
        _draw_header(draw, header[columns], geometry)
        for row, (cell, lines) in enumerate(zip(shown, names, strict=True)):
            _draw_name(draw, cell, lines, row, geometry)
    for row, cell in enumerate(shown):
        for k, column in enumerate(columns):
            corner = geometry.corner(row, k)
            if captions:
                draw_edge(draw, corner, scale.tile)
            image.paste(to_image(enlarge(cell.frames[column], request.scale, request.resample)), corner)
    if captions:
        _mark_starts(draw, shown, columns, geometry)
    return np.asarray(image)


def _scale(tile: int, *, captions: bool) -> _Scale:
    text = text_size_px(tile)
    return _Scale(
        tile=tile, text=text, line=round(text * 1.35), gap=max(4, tile // 16) if captions else max(2, tile // 24)
    )


def _geometry(
    scale: _Scale,
    num_rows: int,
    num_columns: int,
    *,
    left: Panel,
    right: Panel,
    names: list[list[str]],
    unit: str,
) -> _Geometry:
    """Lays the sheet out.

    Args:
        scale: The sizes of pictures and text.
        num_rows: Number of rows of frames.
        num_columns: Number of frames in a row.
        left: The pictures at the left; the sheet has captions if and only if there are any.
        right: The pictures at the right.
        names: The lines of each row's name.
        unit: The text above the columns.
    """
    text, captions = scale.text, bool(left)
    pad = scale.gap + text if captions else 0
    header = 2 * scale.line + scale.gap if captions else 0
    side = max([scale.tile, *(text_width(label, text) for label, _ in left + right)]) + 2 * text if captions else 0
    names_width = max((text_width(words, text) for lines in names for words in lines), default=-text) + text
    first = pad + side + names_width
    last = first + num_columns * scale.pitch - scale.gap
    unit_width = text_width(unit, text) if captions else 0
    panel_height = max(len(left), len(right)) * scale.panel_pitch - 2 * scale.gap
    return _Geometry(
        scale=scale,
        width=max(last, first + unit_width if captions else 0) + pad + (side if right else 0),
        height=2 * pad + header + max(num_rows * scale.pitch - scale.gap, panel_height),
        pad=pad,
        names_left=first - names_width,
        first=first,
        right_panel=last + 2 * text,
        top=pad + header,
    )


def _rows(rendered: Rendered) -> list[Cell]:
    """Returns the cells in the order of the rows: by KL, unless the request names another order."""
    shown = cells(rendered)
    if rendered.rows is not None:  # The dimension that moves across is named once, above all rows.
        return [replace(cell, title=cell.label, label="") for cell in shown]
    kl = rendered.kl
    if rendered.target is None and rendered.request.order == "auto" and kl is not None:
        order = sorted(range(len(shown)), key=lambda k: (-kl[rendered.strips[k].dimension or 0], k))
        return [shown[k] for k in order]
    return shown


def _unit(rendered: Rendered, shown: list[Cell]) -> str:
    """Returns the text that explains the numbers above the columns, and the marks."""
    unit = _UNITS[rendered.request.range]
    if rendered.target is not None:
        unit = "fraction of the way"
    elif rendered.request.grid_dimensions:
        across, down = rendered.request.grid_dimensions
        unit = f"z{across} across, z{down} down: {unit}"
    if any(cell.base_fraction is not None for cell in shown):
        unit += " · red: nearest to the reconstruction"
    return unit


def _name_lines(cell: Cell, text: int, max_lines: int) -> list[str]:
    """Returns title, KL and label of a row, in at most `max_lines` lines of a font of size `text`."""
    if not cell.label or max_lines < 2:
        words = [word for word in (cell.title, cell.note, cell.label) if word]
        return words if len(words) <= max_lines else ["  ".join(words)]
    head = [cell.title, cell.note] if max_lines > 2 and cell.note else [f"{cell.title}  {cell.note}".rstrip()]
    lines: list[str] = []
    for width in range(max(_NAME_WIDTHS[0] * text, text_width(head[0], text)), _NAME_WIDTHS[1] * text, text):
        lines = wrapped(cell.label, text, width, max_lines - len(head))
        if not any(words.endswith("…") for words in lines):
            break
    return head + lines


def _draw_panel(image: Image.Image, panel: Panel, x: int, geometry: _Geometry, request: TraversalRequest) -> None:
    """Draws pictures above each other, each with its text below, from `x` to the right."""
    draw, scale = ImageDraw.Draw(image), geometry.scale
    for k, (label, picture) in enumerate(panel):
        y = geometry.top + k * scale.panel_pitch
        draw_edge(draw, (x, y), scale.tile)
        image.paste(to_image(enlarge(picture, request.scale, request.resample)), (x, y))
        draw.text((x, y + scale.tile + scale.gap // 2), label, fill=MUTED, font=font(scale.text))


def _draw_header(draw: ImageDraw.ImageDraw, values: Vector, geometry: _Geometry) -> None:
    """Draws the values above the columns; if they are too wide, only above every second, third … column."""
    scale, texts = geometry.scale, ticks([float(value) for value in values])
    every = math.ceil((max(text_width(words, scale.text) for words in texts) + scale.text // 2) / scale.pitch)
    for k in range(0, len(texts), every):
        middle = geometry.first + k * scale.pitch + scale.tile // 2
        place = (middle, geometry.pad + scale.line)
        draw.text(place, texts[k], fill=INK, font=font(scale.text), anchor="ma")


def _draw_name(draw: ImageDraw.ImageDraw, cell: Cell, lines: Sequence[str], row: int, geometry: _Geometry) -> None:
    """Draws the name of a row, centred on its height."""
    scale, (_, top) = geometry.scale, geometry.corner(row, 0)
    y = top + scale.tile // 2 - len(lines) * scale.line // 2
    for words in lines:
        muted = cell.muted or words == cell.note
        draw.text((geometry.names_left, y), words, fill=MUTED if muted else INK, font=font(scale.text))
        y += scale.line


def _mark_starts(
    draw: ImageDraw.ImageDraw, shown: Sequence[Cell], columns: NDArray[np.int64], geometry: _Geometry
) -> None:
    """Frames the picture of each row that is nearest to the reconstruction."""
    tile, thickness = geometry.scale.tile, max(1, (geometry.scale.gap - 1) // 2)
    for row, cell in enumerate(shown):
        if cell.base_fraction is None or cell.base is None:
            continue
        x, y = geometry.corner(row, int(np.abs(cell.values[columns] - cell.base).argmin()))
        box = (x - thickness, y - thickness, x + tile + thickness - 1, y + tile + thickness - 1)
        draw.rectangle(box, outline=ACCENT, width=thickness)
