"""Makes the README's pictures from the shipped chairs model: `python -m docs.pictures`.

The command draws `docs/sample.png`, the picture of the quick start, and renders `docs/traversal.gif` and
`docs/sheet.png` from it with the code behind `POST /traversals`.
"""

import argparse
from pathlib import Path

import numpy as np

from models.atomic import write_bytes
from training.data.chairs import render
from training.data.images import load_image
from worker.render_job import load_for_rendering, make_traversal, use_one_thread
from worker.rendering.encoders import encode_png
from worker.rendering.request import Pixels, TraversalRequest, resolve_request

FOLDER = Path(__file__).resolve().parent
MODEL = FOLDER.parent / "models" / "pretrained" / "chairs"

SAMPLE = (2, 1, 2, 3, 2, 5)
"""Classes of azimuth, elevation, leg height, back height, seat width and hue of the sample, a chair that every row of
the sheet shows sharply."""
SAMPLE_PX = 256

PICTURES = {
    "traversal.gif": TraversalRequest(
        dimensions="2,3,5,6", start=-2.5, end=2.5, steps=17, fps=12.0, loop="pingpong", scale=2
    ),
    "sheet.png": TraversalRequest(dimensions="1,2,3,5,6", start=-2.5, end=2.5, columns=7, scale=2),
}
"""Traversal request of each picture, by file name. The sheet of a GIF is `sheet.gif`, that of a PNG is `sheet.png`."""


def sample() -> Pixels:
    """Draws the sample picture.

    Returns:
        (SAMPLE_PX, SAMPLE_PX, 3) uint8.
    """
    picture: Pixels = render(np.array([SAMPLE]), SAMPLE_PX)[0]
    return picture


def make_pictures(folder: Path) -> list[Path]:
    """Writes the sample, and the pictures that are rendered from it.

    Args:
        folder: Folder of the files; it is made where it is missing.

    Returns:
        Paths of the files, the sample first.
    """
    use_one_thread()
    folder.mkdir(parents=True, exist_ok=True)
    model = load_for_rendering(MODEL, "cpu")
    png = encode_png(sample())
    image = load_image(png, model.info.preprocessing)
    write_bytes(folder / "sample.png", png)
    for name, request in PICTURES.items():
        sheet = f"sheet{Path(name).suffix}"
        made: dict[str, bytes] = {}
        make_traversal(model, [image], resolve_request(request, model.info, 1), made.__setitem__, parts=[sheet])
        write_bytes(folder / name, made[sheet])
    return [folder / name for name in ("sample.png", *PICTURES)]


def main() -> None:
    """Reads the command line, makes the pictures, and prints each file with its size."""
    parser = argparse.ArgumentParser(description="Make the README's pictures from the shipped chairs model.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the pictures (default: docs)")
    for path in make_pictures(parser.parse_args().output):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
