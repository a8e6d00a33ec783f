"""`betavae traverse`: renders latent traversals on this machine, without a server."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import DeviceOption, with_options_of
from app.cli.output import CliError, note
from app.cli.stores import open_stores
from models.atomic import write_bytes
from models.config import ConfigError
from models.info import Preprocessing
from training.data.images import ImageError, load_image
from worker.rendering.encoders import zip_files
from worker.rendering.parts import parts_of_format, zipped_names
from worker.rendering.request import FORMATS, Pixels, TraversalRequest, parse_request, resolve_request

EXTRA_FORMATS = (".webp", ".mp4")
SHEETS = {f".{name}": f"sheet.{name}" for name in FORMATS if name not in ("json", "zip")}
"""Maps each suffix of --output to the file of a traversal that it selects."""
SUFFIXES = (*SHEETS, ".zip")


@with_options_of(TraversalRequest.model_fields, "Traversal", leave_out=("format",))
def traverse(
    image: Annotated[
        Path | None, typer.Argument(help="The picture to start from; --z and --seed need none.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="A second picture, to which the path is rendered.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The id or the folder of a model.", show_default="the default model"),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=(
                "A folder for an animation of each dimension (z_01.gif …), sheets of all dimensions (sheet.gif, "
                "sheet.png) and result.json; or a single file whose suffix selects the sheet "
                f"({', '.join(SHEETS)}) or all animations (.zip)."
            ),
        ),
    ] = Path("traversal"),
    device: DeviceOption = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Render what each latent dimension of a model does to a picture."""
    suffix = _suffix_of(output)
    if to is not None and image is None:
        raise CliError("--to needs a picture to start from")
    request = parse_request({**settings, "format": suffix[1:] if suffix in EXTRA_FORMATS else None})
    stores = open_stores(device)
    info, folder = stores.model(model)
    pictures = [
        _read_picture(path, info.preprocessing, stores.settings.max_image_pixels)
        for path in (image, to)
        if path is not None
    ]
    request = resolve_request(request, info, len(pictures))
    numbers = _render(folder, stores.device, pictures, request, output)
    _note_dimensions(numbers)
    print(output)


def _suffix_of(output: Path) -> str:
    """Returns the suffix of --output in lower case; empty for a folder.

    Raises:
        CliError: No file of a traversal has this suffix.
    """
    suffix = output.suffix.lower()
    if suffix and suffix not in SUFFIXES:
        raise CliError(f"{output}: expected a folder, or a file with one of the suffixes {', '.join(SUFFIXES)}")
    return suffix


def _render(
    folder: Path, device: Callable[[], str], pictures: Sequence[Pixels], request: TraversalRequest, output: Path
) -> dict[str, Any]:
    """Renders a traversal, and writes the files that --output selects.

    Args:
        folder: Folder of the model.
        device: Returns the device, and loads torch.
        pictures: The pictures, uint8 (H, W, C).
        request: The request, resolved for the model.
        output: A folder, or a file with one of the SUFFIXES.

    Returns:
        The numbers of the traversal, as in result.json.

    Raises:
        ConfigError: The request does not fit the model.
        CliError: The model's files are damaged.
    """
    from worker.render_job import load_for_rendering, make_traversal, use_one_thread

    use_one_thread()
    suffix = output.suffix.lower()
    target = output.parent if suffix else output
    target.mkdir(parents=True, exist_ok=True)
    animations: dict[str, bytes] = {}

    def put(name: str, data: bytes) -> None:
        if not suffix:
            write_bytes(target / name, data)
        elif name == SHEETS.get(suffix):
            write_bytes(output, data)
        elif suffix == ".zip" and name.endswith(".gif"):
            animations[name] = data

    try:
        loaded = load_for_rendering(folder, device())
        is_path = request.is_path(len(pictures))
        parts = parts_of_format(suffix[1:], is_path=is_path) if suffix else None
        numbers = make_traversal(loaded, pictures, request, put, parts=parts)
    except ConfigError:
        raise
    except ValueError as error:  # The model's files are damaged.
        raise CliError(str(error)) from error
    if suffix == ".zip":
        write_bytes(output, zip_files({name: animations[name] for name in zipped_names(animations)}))
    elif not suffix:
        write_bytes(target / "result.json", (json.dumps(numbers, indent=2) + "\n").encode())
    return numbers


def _read_picture(path: Path, preprocessing: Preprocessing, max_pixels: int) -> Pixels:
    """Reads a picture, and returns it preprocessed for the model, as uint8 (H, W, C).

    Args:
        path: The file.
        preprocessing: The model's preprocessing.
        max_pixels: Largest number of pixels of the picture.

    Raises:
        OSError: The file cannot be read.
        CliError: The file is not a picture; the message names it.
    """
    try:
        return load_image(path.read_bytes(), preprocessing, max_pixels=max_pixels)
    except ImageError as error:
        raise CliError(f"{path}: {error.message}") from error


def _note_dimensions(numbers: dict[str, Any]) -> None:
    """Prints a line for each dimension on standard error."""
    for dimension in numbers["dimensions"]:
        kl = "" if dimension["kl"] is None else f"KL {dimension['kl']:.2f} nats"
        state = "" if dimension["active"] else "inactive"
        note(f"{dimension['file']}: dimension {dimension['index']} {kl} {state}".rstrip())
