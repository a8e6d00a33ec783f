"""The sheet of a sweep: one picture through its models, and in each row the same latent of all of them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from training.summary import encode
from worker.rendering.captions import INK, MUTED, PAPER, drawable, fitted, font, signed, text_size_px, wrapped
from worker.rendering.cells import draw_edge
from worker.rendering.decoder import FrameDecoder
from worker.rendering.encoders import encode_png, to_image
from worker.sweeps.comparison import Candidate, Compared, Pixels

POSITIONS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Values of the latent, in units of NetworkConfig.latent_unit."""
MOST_MODELS = 10
MOST_ROWS = 16
TILE = 48
TEXT = text_size_px(TILE) + 1
LINE = round(TEXT * 1.4)
GAP = 3
PAD = 2 * TEXT
STRIP = len(POSITIONS) * (TILE + GAP) - GAP
GUTTER = 2 * TEXT
ROW = LINE + TILE + 2 * GAP
MARGIN = 15 * TEXT
"""Width of the rows' names, px."""


def sweep_sheet(candidates: Sequence[Candidate], compared: Compared, name: str) -> bytes:
    """Draws the sheet of the best models, from the left, as PNG.

    Args:
        candidates: The models.
        compared: What they were found to be.
        name: Name of the sweep.
    """
    shown = compared.order[:MOST_MODELS]
    rows = compared.columns[:MOST_ROWS]
    top = PAD + 2 * LINE
    body = top + 3 * LINE + TILE + 4 * GAP
    width = 2 * PAD + MARGIN + len(shown) * (STRIP + GUTTER) - GUTTER
    sheet = Image.new("RGB", (width, body + max(1, len(rows)) * ROW + PAD), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((PAD, PAD), fitted(f"{name}: {heading(candidates, shown)}", TEXT + 2, width - 2 * PAD), INK,
              font(TEXT + 2))  # fmt: skip
    draw.text((PAD, top + 3 * LINE + GAP), "original,", MUTED, font(TEXT))
    draw.text((PAD, top + 4 * LINE + GAP), "decoded", MUTED, font(TEXT))
    for k, column in enumerate(rows):
        first = column.dimensions[compared.order[0]]
        y = body + k * ROW + LINE
        draw.text((PAD, y), f"z{first}", INK, font(TEXT))
        # The font has no arrow.
        for line, words in enumerate(wrapped(drawable(column.label), TEXT, MARGIN - TEXT, 2)):
            draw.text((PAD, y + (line + 1) * LINE), words, MUTED, font(TEXT))
    for position, index in enumerate(shown):
        left = PAD + MARGIN + position * (STRIP + GUTTER)
        _draw_model(sheet, draw, candidates, compared, index, (left, top, body))
    return encode_png(np.asarray(sheet))


def heading(candidates: Sequence[Candidate], shown: Sequence[int]) -> str:
    """Returns what the sheet shows of the models, some positions in the candidates."""
    number = f"{len(shown)} of {len(candidates)} models, the chosen one first"
    units = {candidates[index].info.network.latent_unit for index in shown}
    ends = [POSITIONS[0], POSITIONS[-1]]
    if len(units) == 1:
        unit = units.pop()
        return f"{number}; each row is the same latent from {unit * ends[0]:.2g} to {unit * ends[1]:.2g}"
    return f"{number}; each row is the same latent from {ends[0]:g} to {ends[1]:g} (a third of that if categorical)"


def _draw_model(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    candidates: Sequence[Candidate],
    compared: Compared,
    index: int,
    place: tuple[int, int, int],
) -> None:
    """Draws the part of one model.

    Args:
        sheet: The sheet.
        draw: Draws on it.
        candidates: The models.
        compared: What they were found to be.
        index: Position of the model.
        place: Its left, its top, and the top of the rows, px.
    """
    (left, top, body), one = place, candidates[index]
    network = one.load()
    decoder = FrameDecoder(network)
    codes, _ = encode(network, one.images, np.array([compared.typical]), next(network.parameters()).device)
    for k, (words, colour) in enumerate(_captions(one, compared, index)):
        draw.text((left, top + k * LINE), fitted(words, TEXT, STRIP), colour, font(TEXT))
    original, decoded = one.images[compared.typical], decoder.frames(codes)[0]
    for k, picture in enumerate((original, decoded)):
        _draw_tile(sheet, draw, picture, (left + k * (TILE + GAP), top + 3 * LINE + GAP))
    for row, column in enumerate(compared.columns[:MOST_ROWS]):
        y = body + row * ROW
        dimension, correlation = column.dimensions[index], column.correlations[index]
        if dimension is None:
            draw.text((left, y), "no dimension is left", MUTED, font(TEXT))
            continue
        sign = -1 if (correlation or 0) < 0 else 1
        # The chosen model correlates with itself by 1; the words would say nothing.
        words = f"z{dimension}" if index == compared.order[0] else f"z{dimension}  r {signed(correlation or 0.0)}"
        draw.text((left, y), words, INK, font(TEXT))
        frames = decoder.moved(codes[0], dimension, POSITIONS, sign)
        for k, frame in enumerate(frames):
            _draw_tile(sheet, draw, frame, (left + k * (TILE + GAP), y + LINE))


def _captions(one: Candidate, compared: Compared, index: int) -> list[tuple[str, str]]:
    """Returns the lines above a model, each with its colour."""
    loss = one.info.reconstruction_loss
    numbers = [f"loss {loss:.1f}"] if loss is not None else []
    if (mig := one.score("mig")) is not None:
        numbers.append(f"MIG {mig:.2f}")
    agreement = [("UDR", compared.udr[index]), ("centrality", compared.centrality[index])]
    return [
        (one.label or one.id, INK),
        (", ".join(numbers), MUTED),
        (", ".join(f"{name} {value:.2f}" for name, value in agreement if value is not None), MUTED),
    ]


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Pixels, corner: tuple[int, int]) -> None:
    """Draws a picture of any size as a tile."""
    draw_edge(draw, corner, TILE)
    sheet.paste(to_image(picture).resize((TILE, TILE), Image.Resampling.BICUBIC), corner)
