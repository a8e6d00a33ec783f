"""`betavae traverse`: latent traversals on this machine, without a server."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import with_options_of
from app.cli.output import CliError, note
from app.cli.stores import open_stores
from models.atomic import write_bytes
from models.config import ConfigError
from models.info import Preprocessing
from training.data.images import ImageError, load_image
from worker.rendering.encoders import zip_files
from worker.rendering.request import FORMATS, Pixels, TraversalRequest, parse_request, resolve_request, zipped_names

EXTRA_FORMATS = (".webp", ".mp4")
SHEETS = {f".{name}": f"sheet.{name}" for name in FORMATS if name not in ("json", "zip")}
"""Suffix of --output → the file of a traversal that it means."""
SUFFIXES = (*SHEETS, ".zip")


@with_options_of(TraversalRequest.model_fields, "Traversal", leave_out=("format",))
def traverse(
    image: Annotated[
        Path | None, typer.Argument(help="Picture to start from; none with --z or --seed.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Second picture: interpolate to it instead.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model (an id or a folder).", show_default="the default one")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help=(
                "Folder for one animation a dimension (z_01.gif …), the sheet of all (sheet.gif, sheet.png) and "
                f"result.json; or one file by its suffix: the sheet ({', '.join(SHEETS)}), or all animations (.zip)."
            ),
        ),
    ] = Path("traversal"),
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda:N.", show_default="BETAVAE_DEVICE")] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Render what each latent dimension of a model does to a picture."""
    suffix = output.suffix.lower()
    if suffix and suffix not in SUFFIXES:
        raise CliError(f"{output}: expected a folder, or a file with one of the suffixes {', '.join(SUFFIXES)}")
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

    from worker.render_job import load_for_rendering, make_traversal, use_one_thread

    use_one_thread()
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
        loaded = load_for_rendering(folder, stores.device())
        names = [SHEETS[suffix]] if suffix in SHEETS else None
        numbers = make_traversal(loaded, pictures, request, put, names=names)
    except ConfigError:
        raise
    except ValueError as error:  # a model whose files are damaged
        raise CliError(str(error)) from error
    if suffix == ".zip":
        write_bytes(output, zip_files({name: animations[name] for name in zipped_names(animations)}))
    elif not suffix:
        write_bytes(target / "result.json", (json.dumps(numbers, indent=2) + "\n").encode())
    _tell(numbers)
    print(output)


def _read_picture(path: Path, preprocessing: Preprocessing, max_pixels: int) -> Pixels:
    """A picture as the model wants it. Raises OSError, and CliError that names the file."""
    try:
        return load_image(path.read_bytes(), preprocessing, max_pixels=max_pixels)
    except ImageError as error:
        raise CliError(f"{path}: {error.message}") from error


def _tell(numbers: dict[str, Any]) -> None:
    """One line a dimension, on standard error."""
    for dimension in numbers["dimensions"]:
        kl = "" if dimension["kl"] is None else f"KL {dimension['kl']:.2f} nats"
        state = "" if dimension["active"] else "inactive"
        note(f"{dimension['file']}: dimension {dimension['index']} {kl} {state}".rstrip())
