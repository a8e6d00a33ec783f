"""The sheet of two models: one picture through both, and their aligned dimensions side by side; no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from worker.rendering.captions import INK, MUTED, PAPER, drawable, fitted, font, nats, signed, text_size_px, ticks
from worker.rendering.cells import draw_edge
from worker.rendering.encoders import to_image
from worker.rendering.request import Pixels

TILE = 96
"""Side of a picture, px."""
TEXT = text_size_px(TILE) + 1
LINE = round(TEXT * 1.35)
GAP = 6
PAD = 2 * TEXT
GUTTER = 2 * TEXT
"""Space between the two models, px."""
ROW = LINE + TILE + 2 * GAP
"""Height of a row with its text, px."""


@dataclass(frozen=True)
class Half:
    """One dimension of one model: half of a row."""

    dimension: int
    label: str
    kl: float | None
    """The KL over the model's data set, nats; None where it is unknown."""
    sign: int
    """-1 if the frames run from +3 to -3."""
    frames: Pixels
    """The frames, (T, H, W, C) uint8."""


@dataclass(frozen=True)
class Side:
    """The picture in one model."""

    name: str
    original: Pixels
    reconstruction: Pixels
    loss: float
    """The picture's reconstruction loss, nats."""
    kl: float
    """The KL of the picture's posterior, nats."""


def comparison_sheet(
    sides: Sequence[Side],
    columns: Sequence[Sequence[Half | None]],
    correlations: Sequence[float | None],
    positions: Sequence[float],
    note: str,
) -> Pixels:
    """Draws the sheet.

    Args:
        sides: The picture in each of the two models.
        columns: For each model, the halves of all rows; None where only the other model has a dimension.
        correlations: For each row, r of the two dimensions; None for a dimension of one model alone.
        positions: The values of the frames, (T,), where they do not run backwards.
        note: A text at the right above the rows.

    Returns:
        (H, W, 3) uint8.
    """
    width_of_half = len(positions) * (TILE + GAP) - GAP
    lefts = [PAD, PAD + width_of_half + GUTTER]
    top = PAD + 2 * LINE + TILE + 2 * GAP + LINE
    size = (2 * PAD + 2 * width_of_half + GUTTER, top + max(1, len(correlations)) * ROW + PAD)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for side, left, halves in zip(sides, lefts, columns, strict=True):
        _draw_side(sheet, draw, side, left, width_of_half)
        for row, half in enumerate(halves):
            corner = (left, top + row * ROW)
            if half is None:
                draw.text(corner, "no dimension is left", fill=MUTED, font=font(TEXT))
            else:
                _draw_half(sheet, draw, half, corner, width_of_half, positions)
    right = lefts[1] + width_of_half
    draw.text((right, top - 2 * LINE), note, fill=MUTED, font=font(TEXT), anchor="ra")
    for row, correlation in enumerate(correlations):
        if correlation is not None:
            draw.text((right, top + row * ROW), f"r {signed(correlation)}", fill=INK, font=font(TEXT), anchor="ra")
    return np.asarray(sheet)


def _draw_side(sheet: Image.Image, draw: ImageDraw.ImageDraw, side: Side, left: int, width: int) -> None:
    """Draws the name of a model, the picture and its reconstruction, and their numbers."""
    draw.text((left, PAD), fitted(side.name, TEXT + 3, width), fill=INK, font=font(TEXT + 3))
    top = PAD + 2 * LINE
    for k, (words, picture) in enumerate((("original", side.original), ("reconstruction", side.reconstruction))):
        x = left + k * (TILE + 4 * GAP + TEXT)
        _draw_tile(sheet, draw, picture, (x, top))
        draw.text((x, top + TILE + GAP // 2), words, fill=MUTED, font=font(TEXT))
    x = left + 2 * (TILE + 4 * GAP + TEXT) + GAP
    for k, words in enumerate((f"reconstruction loss {nats(side.loss)}", f"KL {nats(side.kl)}")):
        draw.text((x, top + k * LINE), words, fill=INK, font=font(TEXT))


def _draw_half(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    half: Half,
    corner: tuple[int, int],
    width: int,
    positions: Sequence[float],
) -> None:
    """Draws the text and the frames of one dimension."""
    x, y = corner
    first, last = (ticks([half.sign * value for value in positions])[k] for k in (0, -1))
    words = [f"z{half.dimension}", *([nats(half.kl)] if half.kl is not None else []), f"{first} to {last}"]
    label = f"{half.label} (backwards)" if half.label and half.sign < 0 else half.label
    text = "  ".join([*words, drawable(label)]).rstrip()
    draw.text((x, y), fitted(text, TEXT, width - 5 * TEXT), fill=INK, font=font(TEXT))
    for k, frame in enumerate(half.frames):
        _draw_tile(sheet, draw, frame, (x + k * (TILE + GAP), y + LINE))


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Pixels, corner: tuple[int, int]) -> None:
    """Draws a picture of any size as a tile."""
    draw_edge(draw, corner, TILE)
    sheet.paste(to_image(picture).resize((TILE, TILE), Image.Resampling.BICUBIC), corner)
