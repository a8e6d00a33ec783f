"""Contents of a sheet: one cell for each strip of a traversal, and the pictures at its sides; no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from worker.rendering.captions import ACCENT, FAINT, digits_for, drawable, font, nats, signed, wrapped
from worker.rendering.rendered import Rendered, Strip, Vector
from worker.rendering.request import Pixels


@dataclass(frozen=True)
class Cell:
    """One moving picture of a moving sheet, or one row of a still one, with its texts."""

    frames: Pixels
    """The frames, (T, H, W, C) uint8."""
    title: str
    """The dimension that moves, such as z3, or the kind of a path."""
    note: str
    """The KL of the dimension."""
    label: str
    """The dimension's name in words."""
    values: Vector
    """The value at each step, (T,)."""
    base: float | None
    """The value at the start; None for a path between two images."""
    has_ends: bool = False
    """True if the moving sheet shows both ends beside the label."""
    muted: bool = False
    """True means that the dimension carries no information."""

    @property
    def lead(self) -> str:
        """The text in front of the value."""
        return f"{self.title} " if self.base is None else f"{self.title} = "

    def value_text(self, step: int) -> str:
        """Returns the value at a step as text: a latent value with its sign, a fraction of the way without."""
        value = float(self.values[step])
        if self.base is None:
            return f"{value:.2f}"
        return signed(value, digits_for(abs(float(self.values[-1]) - float(self.values[0]))))

    @property
    def base_fraction(self) -> float | None:
        """Position of the start between the first and the last value, 0 to 1; None if it lies outside."""
        first, last = float(self.values[0]), float(self.values[-1])
        if self.base is None or first == last:
            return None
        fraction = (self.base - first) / (last - first)
        return fraction if 0 <= fraction <= 1 else None


def cells(rendered: Rendered) -> list[Cell]:
    """Returns the cells of a whole sheet: its dimensions, the rows of a grid, or the path between two starts."""
    if rendered.target is not None:
        strip = rendered.strips[0]
        return [Cell(strip.frames, rendered.request.interpolation, "", "", strip.values, None)]
    if rendered.rows is not None and rendered.row_values is not None:
        _, down = rendered.request.grid_dimensions or (0, 0)
        across = f"z{rendered.rows[0].dimension}"
        return [
            Cell(strip.frames, across, "", f"z{down} = {signed(float(value))}", strip.values, strip.base)
            for strip, value in zip(rendered.rows, rendered.row_values, strict=True)
        ]
    return [dimension_cell(rendered, strip) for strip in rendered.strips]


def dimension_cell(rendered: Rendered, strip: Strip) -> Cell:
    """Returns the cell of one dimension, with its KL, label and values."""
    dimension = strip.dimension or 0
    active = rendered.is_active(dimension)
    note = nats(rendered.kl[dimension]) if rendered.kl is not None else ""
    label = rendered.label(dimension) if active else "inactive"
    label = drawable(label)
    return Cell(
        strip.frames,
        f"z{dimension}",
        note,
        label,
        strip.values,
        strip.base,
        has_ends=active and bool(label),
        muted=not active,
    )


Panel = list[tuple[str, Pixels]]
"""Pictures at one side of a sheet, each with a text."""


def panels(rendered: Rendered) -> tuple[Panel, Panel]:
    """Returns the panels at the left and at the right of a sheet.

    Original and reconstruction stand at the left; the two originals of an interpolation stand at both sides, or its
    ends if it has no images.
    """
    if rendered.target is not None:
        original, end = rendered.target
        if rendered.original is not None and original is not None:
            return [("original", rendered.original)], [("original", original)]
        return [("start", rendered.reconstruction)], [("end", end)]
    left: Panel = [("reconstruction" if rendered.original is not None else "start", rendered.reconstruction)]
    if rendered.original is not None:
        left.insert(0, ("original", rendered.original))
    return left, []


MAX_WARNING_LINES = 3


def warning(rendered: Rendered, text: int, width: int) -> list[str]:
    """Returns the lines of the sentence about an unfamiliar image; none for a familiar one.

    Args:
        rendered: The traversal.
        text: Size of the font, px.
        width: Width of a line, px.
    """
    if not rendered.unfamiliar or rendered.unfamiliar_reason is None:
        return []
    return wrapped(rendered.unfamiliar_reason, text, width, MAX_WARNING_LINES)


def draw_warning(draw: ImageDraw.ImageDraw, lines: Sequence[str], corner: tuple[int, int], text: int) -> None:
    """Draws the sentence about an unfamiliar image.

    Args:
        draw: Draws on the sheet.
        lines: The lines of `warning`.
        corner: Left and top of the first line, px.
        text: Size of the font, px.
    """
    for k, words in enumerate(lines):
        draw.text((corner[0], corner[1] + k * round(text * 1.35)), words, fill=ACCENT, font=font(text))


def draw_edge(draw: ImageDraw.ImageDraw, corner: tuple[int, int], tile: int) -> None:
    """Draws a fine line around a picture, whose edge would otherwise be invisible where it is as light as the paper.

    Args:
        draw: Draws on the sheet.
        corner: Left and top of the picture, px.
        tile: Side of the picture, px.
    """
    x, y = corner
    draw.rectangle((x - 1, y - 1, x + tile, y + tile), outline=FAINT)
